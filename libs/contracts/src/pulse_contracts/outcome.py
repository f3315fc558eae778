"""What one attempt came to. Failure is classified once, by the sender that understands it."""

from dataclasses import dataclass
from enum import StrEnum


class Reach(StrEnum):
    """How far a failed attempt came."""

    DESTINATION = "destination"
    """The destination, or its host, was reached: the trouble is its own."""
    NOWHERE = "nowhere"
    """Not beyond this side: no name server, no way out, no handshake. It may be the destination's trouble or ours."""
    UNKNOWN = "unknown"
    """It says nothing about either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The destination took the message."""

    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Trying later may succeed."""

    error: str
    """One line for the operator: no secret, no response body."""
    answered: bool
    """Whether the destination itself answered with failure, so that the message may be at fault."""
    status: int | None = None
    retry_after_s: float | None = None
    reach: Reach = Reach.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """No later attempt can succeed: the answer, the address or the configuration is final."""

    error: str
    reason: str
    """A short code for counting: ``status_404``, ``address_refused``, ``config_invalid``."""
    status: int | None = None


Outcome = Delivered | Failed | Rejected
