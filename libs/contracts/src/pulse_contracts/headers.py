"""Names of the headers on our messages. All other headers from outside are dropped at the edge."""

from typing import Final

MSG_ID: Final = "Nats-Msg-Id"
TRACEPARENT: Final = "traceparent"
ROUTE_REVISION: Final = "Pulse-Route-Revision"
"""The revision of the route that matched the message."""
ROUTED_AT: Final = "Pulse-Routed-At"
"""When the router emitted the message, in epoch milliseconds; a route's ``max_age_s`` counts from here."""
ATTEMPTS: Final = "Pulse-Attempts"
"""Attempts so far, for the record."""
ANSWERED: Final = "Pulse-Answered"
"""Attempts so far that the destination itself answered with failure: only these count against the message."""
CAUSE: Final = "Pulse-Cause"
"""Why the message stands in the siding."""
