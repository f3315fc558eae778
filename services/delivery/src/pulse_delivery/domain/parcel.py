"""A parcel: one message on its way to one route's destination."""

from dataclasses import dataclass, replace
from datetime import datetime

from pulse_contracts.envelope import Envelope
from pulse_contracts.outcome import Failed, Outcome
from pulse_contracts.subjects import RouteAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What delivery knows of a message that it has to bring to a route."""

    address: RouteAddress
    revision: int
    """Of the route, when it matched."""
    routed_at: datetime
    attempts: int
    """Attempts so far."""
    answered: int
    """Attempts so far that the destination answered with failure: only these count against the message."""
    envelope: Envelope
    traceparent: str | None = None
    """The parent of what is done for it, in its trace."""

    def after(self, outcome: Outcome) -> "Parcel":
        """Return the parcel as it is after an attempt that came to *outcome*."""
        answered = isinstance(outcome, Failed) and outcome.answered
        return replace(self, attempts=self.attempts + 1, answered=self.answered + answered)

    @property
    def delivery_id(self) -> str:
        """Names the match (message, route): the ``webhook-id``, the same at every attempt."""
        return f"{self.envelope.message_id}:{self.address.route}"
