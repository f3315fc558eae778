"""What follows from an outcome: plain values that the edge carries out."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Record the attempt, then acknowledge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shunt:
    """Move the message to the siding (from there: to its tail), then acknowledge."""

    reason: str
    rest_until: datetime | None = None
    """Before this the destination asked not to be tried."""
    failed: "ProbeFailed | None" = None
    """From the fast lane: the failure, and the pause that a turn of the route begins with unless it knows better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFailed:
    """The destination is still in trouble: the server pauses the route's siding until then; the head stays."""

    pause_until: datetime
    error: str
    rest_until: datetime | None = None
    """Before this the destination asked not to be tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Publish a dead letter, then acknowledge."""

    reason: str
    error: str
    rest_until: datetime | None = None
    """Before this the destination asked not to be tried, with whatever message."""


Disposition = Settle | Shunt | ProbeFailed | DeadLetter
