"""A trail, drawn in the terminal as a tree."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO, assert_never

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from pulse_control.trail import TELEMETRY, Attempt, Fate, Progress, RouteTrail, Trail

_MOST_ERROR_CHARS: Final = 160
_WIDTH: Final = 10_000
"""Of a line that no terminal's width breaks."""
_SECOND_MS: Final = 1000
_MINUTE_S: Final = 60
_FATES: Final[Mapping[Fate, str]] = {
    Fate.DELIVERED: "delivered",
    Fate.DEAD_LETTER: "dead letter",
    Fate.UNFILED: "dead letter, not in its table yet",
    Fate.PARKED: "parked, its route is disabled",
    Fate.SIDING: "waits in the siding",
    Fate.FAST_LANE: "on the fast lane",
    Fate.UNKNOWN: "what came of it is not on record",
}
_STYLES: Final[Mapping[Fate, str]] = {
    Fate.DELIVERED: "green",
    Fate.DEAD_LETTER: "red",
    Fate.UNFILED: "red",
    Fate.PARKED: "yellow",
    Fate.SIDING: "yellow",
    Fate.FAST_LANE: "cyan",
    Fate.UNKNOWN: "dim",
}


def show_trail(trail: Trail, file: TextIO | None = None) -> None:
    """Print it; a line is never broken, so that ids can be copied and searched for."""
    Console(file=file, width=_WIDTH, highlight=False).print(draw_trail(trail))


def draw_trail(trail: Trail) -> Tree:
    """Return the tree: the message, its steps, below routing each route, below a route each attempt."""
    tree = Tree(_line(trail.message_id, f"tenant {trail.tenant_id}", trail.topic or "topic unknown"))
    tree.add(_line("accepted", _accepted(trail)))
    tree.add(_line(_stored(trail), _since(trail.stored_at, trail.received_at)))
    routing = tree.add(_line(_routed(trail)))
    for route in trail.routes:
        _add_route(routing, route, trail.received_at)
    for stream in trail.not_searched:
        tree.add(Text(f"{stream} holds too much to be looked through: there may be more", style="yellow"))
    return tree


def _accepted(trail: Trail) -> str:
    if trail.received_at is None:
        return "when is not on record"
    accepted = _moment(trail.received_at)
    if trail.measured_at in {None, trail.received_at}:
        return accepted
    return f"{accepted}, measured {_moment(trail.measured_at)} by the device's clock" if trail.measured_at else accepted


def _stored(trail: Trail) -> str:
    match trail.stored:
        case Progress.DONE:
            return "stored"
        case Progress.WAITING:
            return "waits to be stored"
        case Progress.UNKNOWN if TELEMETRY in trail.not_searched:
            return "whether it is stored could not be found out in time"
        case Progress.UNKNOWN:
            return "not in telemetry: its row was removed, or the database refused it (quarantine)"
        case _:
            assert_never(trail.stored)


def _routed(trail: Trail) -> str:
    match trail.routed:
        case Progress.DONE:
            when = _since(trail.routed_at, trail.received_at)
            by = f"by generation {trail.generation} of the routes" if trail.generation is not None else ""
            none = "" if trail.routes else "nothing is on record of a route: none matched that sends it on"
            return "  ".join(part for part in ("routed", when, by, none) if part)
        case Progress.WAITING:
            return "waits to be routed"
        case Progress.UNKNOWN:
            return "which routes judged it is not on record"
        case _:
            assert_never(trail.routed)


def _add_route(routing: Tree, route: RouteTrail, accepted: datetime | None) -> None:
    name = f"({route.name})" if route.name else "(no such route)"
    line = _line(route.route_id, name)
    line.append("  ").append(_fate(route, accepted), style=_STYLES[route.fate])
    branch = routing.add(line)
    for attempt in route.attempts:
        branch.add(_attempt(attempt, accepted))


def _fate(route: RouteTrail, accepted: datetime | None) -> str:
    parts = (_FATES[route.fate], _since(route.since, accepted), _printable(route.reason or ""))
    return "  ".join(part for part in parts if part)


def _attempt(attempt: Attempt, accepted: datetime | None) -> Text:
    status = f" {attempt.status}" if attempt.status else ""
    error = f": {_printable(attempt.error)}" if attempt.error else ""
    return _line(
        f"#{attempt.number}",
        _since(attempt.began_at, accepted),
        f"took {_duration(attempt.took_ms)}",
        f"{attempt.outcome}{status}{error}",
    )


def _line(*parts: str) -> Text:
    return Text("  ".join(part for part in parts if part))


def _since(moment: datetime | None, accepted: datetime | None) -> str:
    """Return how long after the acceptance, or when, if nobody knows when that was."""
    if moment is None:
        return ""
    if accepted is None:
        return _moment(moment)
    # Different processes took the times: what is a little early was at once.
    return f"+{_duration(max((moment - accepted).total_seconds(), 0.0) * _SECOND_MS)}"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _duration(milliseconds: float) -> str:
    if milliseconds < _SECOND_MS:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / _SECOND_MS
    if seconds < _MINUTE_S:
        return f"{seconds:.2f} s"
    minutes, seconds = divmod(round(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, _MINUTE_S)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _printable(text: str) -> str:
    """Return an error fit for one line of a terminal: it may quote what a receiver sent."""
    shown = "".join(character if character.isprintable() else "�" for character in text)
    return shown if len(shown) <= _MOST_ERROR_CHARS else f"{shown[:_MOST_ERROR_CHARS]}…"
