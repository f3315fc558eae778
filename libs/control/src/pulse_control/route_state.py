"""Where a route's messages are: the fast lane or the siding, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pulse_bus.connection import Connection
from pulse_bus.inspection import Standing
from pulse_bus.presence import is_heard
from pulse_bus.siding import Siding
from pulse_contracts import headers
from pulse_contracts.routes import Route

_STORED_AT: Final = "Nats-Time-Stamp"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteState:
    """The truth about one route, as the server knows it."""

    lane: str
    """``fast``, ``siding`` or ``parked``."""
    waiting: int
    cause: str | None
    """Why the first of those that wait is there."""
    oldest_routed_at: str | None
    troubled_since: str | None
    """At the latest: when the first of them came there, or when the turn began."""
    phase: str | None
    """``unserved`` (waits for its turn), ``paused``, ``probing`` (half-open) or ``growing``; None without trouble."""
    trying: int
    """Messages that its turn has in hand."""
    paused_until: str | None
    failures: int | None
    """Failed probes in a row; None while unserved: like its pause and error, the process that had its turn knows."""
    last_error: str | None
    served_by: str | None
    """The delivery process that has its turn; None if nobody has, or if that one is not heard of."""


async def route_state(bus: Connection, route: Route) -> RouteState:
    """Ask the server; raises `ApiError` or `BusUnavailable`."""
    siding = Siding(bus)
    waiting = await siding.waiting_of(route.address)
    head = await siding.peek(route.address) if waiting else None
    turn = await siding.turn_info(route.address) or {}
    config: dict[str, Any] = turn.get("config") or {}
    shown: dict[str, str] = config.get("metadata") or {}
    is_parked = not route.enabled
    phase = _phase(turn, shown) or ("unserved" if waiting and not is_parked else None)
    return RouteState(
        lane="parked" if is_parked else "siding" if waiting else "fast",
        waiting=waiting,
        cause=head.headers.get(headers.CAUSE) if head else None,
        oldest_routed_at=at.isoformat() if head and (at := routed_at(head)) else None,
        troubled_since=_earliest(head, shown.get("since")),
        phase=phase,
        trying=turn.get("num_ack_pending", 0),
        paused_until=config.get("pause_until") if turn.get("paused") else None,
        failures=None if phase == "unserved" else int(shown.get("failures", 0)),
        last_error=shown.get("error"),
        served_by=await _served_by(bus, turn, shown.get("owner")),
    )


async def _served_by(bus: Connection, turn: Mapping[str, Any], owner: str | None) -> str | None:
    # A turn that pauses, or tries its only probe, pulls nothing.
    return owner if owner and (turn.get("num_waiting") or await is_heard(bus, owner)) else None


def _phase(turn: Mapping[str, Any], shown: Mapping[str, str]) -> str | None:
    return "paused" if turn.get("paused") else shown.get("state")


def routed_at(standing: Standing) -> datetime | None:
    """Return when the router matched a message of the siding; None for one that says nothing of it."""
    milliseconds = standing.headers.get(headers.ROUTED_AT, "")
    is_known = milliseconds.isascii() and milliseconds.isdecimal()
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if is_known else None


def _earliest(head: Standing | None, began: str | None) -> str | None:
    """Return the earlier of two times: a turn that was taken over began anew, a head that moved came again."""
    times = [datetime.fromisoformat(text) for text in (head and head.headers.get(_STORED_AT), began) if text]
    return min(times).astimezone(UTC).isoformat() if times else None
