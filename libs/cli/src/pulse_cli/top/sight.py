"""What two looks at the server say together: how fast things move, and where they stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pulse_bus.ages import Owed
from pulse_cli.top.lookout import Look, TroubledRoute


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Messages a second, between two looks."""

    accepted: float
    stored: float
    routed: float
    matched: float
    """Pairs of a message and a route."""
    delivered: float
    """Of those."""
    dead_lettered: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """The state of the whole at one moment."""

    at: datetime
    per_s: Rates
    owed: Mapping[str, Owed]
    """As in `Look`."""
    dead_letters: int
    """All that were ever made, since the stream was; `pulse dlq list` shows a tenant's."""
    troubled_routes: int
    worst_routes: tuple[TroubledRoute, ...]


def compare(before: Look, after: Look) -> Sight:
    """Return the state at *after*, with the rates since *before*."""
    span_s = after.elapsed_s - before.elapsed_s

    def rate(then: int, now: int) -> float:
        # A stream that was made anew counts from zero; what moved during a look may be missing from it.
        return round(max(now - then, 0) / span_s, 2)

    return Sight(
        at=after.at,
        per_s=Rates(
            accepted=rate(before.accepted, after.accepted),
            stored=rate(before.stored, after.stored),
            routed=rate(before.routed, after.routed),
            matched=rate(before.matched, after.matched),
            delivered=rate(before.delivered, after.delivered),
            dead_lettered=rate(before.dead_lettered, after.dead_lettered),
        ),
        owed=after.owed,
        dead_letters=after.dead_lettered,
        troubled_routes=after.troubled_routes,
        worst_routes=after.worst_routes,
    )
