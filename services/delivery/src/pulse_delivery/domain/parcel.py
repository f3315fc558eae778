"""A parcel: one message on its way to one route's destination."""

from dataclasses import dataclass
from datetime import datetime

from pulse_contracts.envelope import Envelope
from pulse_contracts.subjects import RouteAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What delivery knows of a message that it has to bring to a route."""

    address: RouteAddress
    revision: int
    """Of the route, when it matched."""
    routed_at: datetime
    attempts: int
    """Attempts before this one that the destination answered with failure."""
    envelope: Envelope

    @property
    def delivery_id(self) -> str:
        """Names the match (message, route): the ``webhook-id``, the same at every attempt."""
        return f"{self.envelope.message_id}:{self.address.route}"
