"""Turns as processes see each other's: the consumer of a troubled route on the siding."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from pulse_contracts.subjects import RouteAddress

_MOST_CHARACTERS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadTries:
    """Attempts of a message of the siding, also those since it came there, which its header does not know of."""

    message_id: str
    attempts: int
    answered: int
    """Those of them that the destination answered with failure."""

    def as_text(self) -> str:
        return f"{self.message_id} {self.attempts} {self.answered}"

    @staticmethod
    def from_text(text: str) -> "HeadTries | None":
        """Read what `as_text` wrote; None for anything else."""
        match text.split(" "):
            case [message_id, attempts, answered] if _is_count(attempts) and _is_count(answered):
                return HeadTries(message_id=message_id, attempts=int(attempts), answered=int(answered))
            case _:
                return None


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal()


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnListing:
    """A turn, as the server tells of it."""

    address: RouteAddress
    name: str
    """Of its consumer. No other turn ever has it: whoever was replaced can do nothing to its successor."""
    owner: str
    """The process that made it."""
    is_pulled: bool
    """Whether pull requests wait at its consumer: then the owner lives. A turn that pauses or probes makes none."""
    progress: tuple[int, int] = (0, 0)
    """How much was taken from it and acknowledged: while that grows the owner lives, though nobody pulls just now."""
    failures: int = 0
    """Failed probes in a row."""
    paused_until: datetime | None = None
    """When its pause ends, None if it has none."""
    since: datetime | None = None
    """Since when the route is troubled."""
    error: str = ""
    """Of the last failed probe, if none has succeeded since."""
    head: HeadTries | None = None
    """The message that was given back last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnState:
    """What a turn shows of itself in its consumer, for `nats consumer info` and `pulse route show`."""

    phase: str
    """``probing`` (one at a time) or ``growing``."""
    in_flight: int
    """So many messages may be tried at once."""
    failures: int = 0
    """Failed probes in a row."""
    error: str = ""
    """Of the last failed probe: one line, no secret."""
    since: str = ""
    """Since when the route is troubled, RFC 3339."""
    head: HeadTries | None = None
    """The message that was given back last."""

    def as_metadata(self) -> dict[str, str]:
        fields = {
            "state": self.phase,
            "failures": str(self.failures),
            "error": self.error,
            "since": self.since,
            "head": self.head.as_text() if self.head else "",
        }
        return {name: value[:_MOST_CHARACTERS] for name, value in fields.items() if value}


class Notice(StrEnum):
    """What the process that serves a route tells the others about it."""

    HOLD = "hold"
    """Nearly empty: new messages shall gather instead of going behind the others."""
    WITHDRAW = "withdraw"
    """In trouble after all: what gathered goes behind the others."""
    RELEASE = "release"
    """Nothing of the route is left in the siding: it is back on the fast lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRest:
    """What a process tells the others that was asked on the fast lane: not to try the route before a moment."""

    until: datetime
