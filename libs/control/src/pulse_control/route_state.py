"""Where a route's messages are: the fast lane or the siding, and why."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pulse_bus.connection import Connection
from pulse_bus.siding import Siding
from pulse_contracts import headers
from pulse_contracts.routes import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteState:
    """The truth about one route, as the server knows it."""

    lane: str
    """``fast``, ``siding`` or ``parked``."""
    waiting: int
    cause: str | None
    oldest_routed_at: str | None
    phase: str | None
    """``probing`` or ``growing``, while it has a turn."""
    paused_until: str | None
    troubled_since: str | None
    failures: int
    """Failed probes in a row."""
    last_error: str | None


async def route_state(bus: Connection, route: Route) -> RouteState:
    """Ask the server; raises `ApiError` or `BusUnavailable`."""
    siding = Siding(bus)
    address = route.address
    waiting = await siding.waiting_of(address)
    head = await siding.peek(address) if waiting else None
    turn = await siding.turn_info(address)
    fields = head.headers if head else {}
    routed_at = fields.get(headers.ROUTED_AT)
    config: dict[str, Any] = turn["config"] if turn else {}
    shown: dict[str, str] = config.get("metadata") or {}
    return RouteState(
        lane="parked" if waiting and not route.enabled else "siding" if waiting else "fast",
        waiting=waiting,
        cause=fields.get(headers.CAUSE),
        oldest_routed_at=datetime.fromtimestamp(int(routed_at) / 1000, UTC).isoformat() if routed_at else None,
        phase=shown.get("state"),
        paused_until=config.get("pause_until") if turn and turn.get("paused") else None,
        troubled_since=shown.get("since"),
        failures=int(shown.get("failures", 0)),
        last_error=shown.get("error"),
    )
