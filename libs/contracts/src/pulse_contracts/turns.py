"""Turns as processes see each other's: the consumer of a troubled route on the siding."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pulse_contracts.subjects import RouteAddress

_MOST_CHARACTERS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnListing:
    """A turn, as the server tells of it."""

    address: RouteAddress
    owner: str
    """The process that made it."""
    is_pulled: bool
    """Whether pull requests wait at its consumer: the owner lives, also while the turn is paused."""


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
    """When the turn began, RFC 3339."""

    def as_metadata(self) -> dict[str, str]:
        fields = {"state": self.phase, "failures": str(self.failures), "error": self.error, "since": self.since}
        return {name: value[:_MOST_CHARACTERS] for name, value in fields.items() if value}


class Notice(StrEnum):
    """What the process that serves a route tells the others about it."""

    HOLD = "hold"
    """Nearly empty: new messages shall gather instead of going behind the others."""
    WITHDRAW = "withdraw"
    """In trouble after all: what gathered goes behind the others."""
    RELEASE = "release"
    """Nothing of the route is left in the siding: it is back on the fast lane."""
