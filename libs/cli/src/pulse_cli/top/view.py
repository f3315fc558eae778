"""What `pulse top` shows of a sight: figures above, and a row for each of the worst routes."""

from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pulse_bus.errors import BusError
from pulse_cli.screen import Picture
from pulse_cli.top.lookout import TroubledRoute
from pulse_cli.top.sight import Sight

_OWED: Final = {
    "store": "not stored",
    "router": "not routed",
    "fast_lane": "fast lane",
    "siding": "siding",
    "dead_letter": "dead letters not filed",
}
_COLUMNS: Final = ("tenant", "route", "kind", "waiting", "oldest", "failures", "paused until", "why")
_ERROR_CHARS: Final = 60
_NO_DECIMALS_FROM: Final = 10


def picture_of(sight: Sight) -> Picture:
    """Return a sight in both forms."""
    lines = [flow(sight), standing(sight), *(f"  {'  '.join(row(route))}" for route in sight.worst_routes)]
    return Picture(lines="\n".join(lines), drawn=Group(flow(sight), standing(sight), _table(sight)))


def away(error: BusError) -> Picture:
    """Return what is shown while the server does not answer."""
    text = f"no answer from NATS: {error}"
    return Picture(lines=text, drawn=Text(text))


def flow(sight: Sight) -> str:
    """Return what moves, in one line."""
    rates = sight.per_s
    return (
        f"{sight.at:%H:%M:%S}  accepted {_rate(rates.accepted)}  stored {_rate(rates.stored)}  "
        f"routed {_rate(rates.routed)}  matched {_rate(rates.matched)}  delivered {_rate(rates.delivered)}  "
        f"dead letters {_rate(rates.dead_lettered)}, {sight.dead_letters} in all"
    )


def standing(sight: Sight) -> str:
    """Return what waits, and since when, in one line."""
    parts = [
        f"{called} {owed.messages}" + (f" ({owed.oldest_age_s:.1f} s)" if owed.messages else "")
        for cause, called in _OWED.items()
        for owed in (sight.owed[cause],)
    ]
    return f"waiting: {'  '.join(parts)}  troubled routes {sight.troubled_routes}"


def row(route: TroubledRoute) -> tuple[str, ...]:
    """Return the cells of one route."""
    why = f"{route.cause or '-'}: {_printable(route.error)}" if route.error else route.cause or "-"
    return (
        route.tenant,
        route.route,
        route.kind,
        str(route.waiting),
        "-" if route.oldest_age_s is None else f"{route.oldest_age_s:.1f} s",
        str(route.failures),
        f"{route.paused_until:%H:%M:%S}" if route.paused_until else "-",
        why[:_ERROR_CHARS],
    )


def _rate(per_s: float) -> str:
    return f"{per_s:.{0 if per_s >= _NO_DECIMALS_FROM else 1}f}/s"


def _printable(text: str) -> str:
    """What a destination said may hold what a terminal obeys."""
    return "".join(character if character.isprintable() else " " for character in text)


def _table(sight: Sight) -> Table:
    table = Table()
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in {"waiting", "oldest", "failures"} else "left")
    for route in sight.worst_routes:
        table.add_row(*(Text(cell) for cell in row(route)))
    return table
