"""What the demo shows of a run, with given figures."""

from collections.abc import Sequence
from io import StringIO

from ledger_books import books, destination, holding, message
from rich.console import Console

from pulse_cli.demo.view import Glance, picture_of, table_of
from pulse_cli.ledger.balance import balance
from pulse_contracts.routes import Route
from pulse_control.route_state import RouteState

SENT = [message(f"m{n}") for n in range(3)]
COLUMNS = ["tenant", "route", "kind", "lane", "delivered", "waiting", "dead letters", "paused until"]


def state(lane: str = "fast", paused_until: str | None = None) -> RouteState:
    return RouteState(
        lane=lane,
        waiting=0,
        cause=None,
        oldest_routed_at=None,
        troubled_since=None,
        phase=None,
        trying=0,
        paused_until=paused_until,
        failures=0,
        last_error=None,
        served_by=None,
    )


def glance() -> Glance:
    """Of three messages: all delivered to one route; one waiting and one dead at another; a third is not known yet."""
    healthy, dead, new = (destination(name) for name in ("healthy", "dead", "new"))
    route_id = dead.route.route_id
    made = holding(
        books(*SENT, destinations=(healthy, dead, new)),
        set_aside=frozenset({(SENT[0].entry, route_id)}),
        dead_lettered=frozenset({("acme", (SENT[1].entry, route_id))}),
    )
    return Glance(
        elapsed_s=12.34,
        sent_per_s=49.6,
        delivered_per_s=120.2,
        oldest_undelivered_s=7.86,
        ledger=balance(made),
        routes=routes(healthy.route, dead.route, new.route),
        states={
            healthy.route.route_id: state(),
            route_id: state("siding", paused_until="2026-11-28T22:03:04.567Z"),
        },
    )


def routes(*found: Route) -> Sequence[Route]:
    return found


def drawn() -> list[str]:
    """What a terminal of 200 columns shows, line by line."""
    console = Console(file=(shown := StringIO()), width=200)
    console.print(table_of(glance()))
    return shown.getvalue().splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]


SUMMARY = (
    " 12.3 s  sent 50/s  delivered 120/s  accepted 3  delivered 3  waiting 1  dead letters 1  routes in siding 1  "
    "oldest undelivered 7.9 s"
)


def test_elsewhere_than_on_a_terminal_it_is_one_plain_line() -> None:
    assert picture_of(glance()).lines == SUMMARY


def test_the_table_has_the_figures_above_and_a_row_for_each_route() -> None:
    title, _, frame = "\n".join(drawn()).partition("┏")
    assert title.split() == SUMMARY.split()
    _, header, _, *rows, _ = frame.splitlines()
    assert cells(header) == COLUMNS
    assert [cells(row) for row in rows] == [
        ["acme", "healthy", "webhook", "fast", "3", "0", "0", "-"],
        ["acme", "dead", "webhook", "siding", "0", "1", "1", "22:03:04"],
        ["acme", "new", "webhook", "?", "0", "0", "0", "-"],
    ]
