"""What `pulse top` says of two looks, with given figures."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

from rich.console import Console

from pulse_bus.ages import Owed
from pulse_bus.errors import BusUnavailable
from pulse_cli.output import to_plain
from pulse_cli.top.lookout import Look, TroubledRoute
from pulse_cli.top.sight import Rates, compare
from pulse_cli.top.view import away, picture_of, row
from pulse_contracts.ids import RouteId, TenantId

AT = datetime(2026, 11, 28, 22, 3, 4, tzinfo=UTC)
NOTHING = Owed(messages=0, oldest_age_s=0.0)
DEAD = TroubledRoute(
    tenant=TenantId("acme"),
    route=RouteId("r-1"),
    kind="webhook",
    waiting=7,
    oldest_age_s=61.25,
    cause="failed",
    failures=3,
    paused_until=AT + timedelta(seconds=56),
    error="status 503",
)
BEFORE = Look(
    at=AT - timedelta(seconds=2),
    elapsed_s=100.0,
    accepted=1_000,
    matched=2_000,
    dead_lettered=5,
    owed={
        "store": Owed(messages=10, oldest_age_s=0.4),
        "router": NOTHING,
        "fast_lane": Owed(messages=4, oldest_age_s=0.1),
        "siding": Owed(messages=1, oldest_age_s=59.25),
        "dead_letter": NOTHING,
    },
    troubled_routes=1,
    worst_routes=(replace(DEAD, waiting=1),),
)
AFTER = replace(
    BEFORE,
    at=AT,
    elapsed_s=102.0,
    accepted=1_100,
    matched=2_200,
    dead_lettered=6,
    owed={
        "store": NOTHING,
        "router": Owed(messages=20, oldest_age_s=1.5),
        "fast_lane": NOTHING,
        "siding": Owed(messages=7, oldest_age_s=61.25),
        "dead_letter": NOTHING,
    },
    worst_routes=(DEAD,),
)


def test_rates_are_what_has_passed_each_point_between_the_looks() -> None:
    # Delivered: 2,000 - 4 - 1 - 5 then, 2,200 - 7 - 6 now.
    assert compare(BEFORE, AFTER).per_s == Rates(
        accepted=50.0, stored=55.0, routed=40.0, matched=100.0, delivered=98.5, dead_lettered=0.5
    )


def test_a_stream_that_was_made_anew_has_no_rate_below_nothing() -> None:
    emptied = replace(AFTER, accepted=0, matched=0, dead_lettered=0)
    assert set(to_plain(compare(BEFORE, emptied).per_s).values()) == {0.0}


def test_the_plain_form_says_what_flows_what_waits_and_where() -> None:
    assert picture_of(compare(BEFORE, AFTER)).lines.splitlines() == [
        "22:03:04  accepted 50/s  stored 55/s  routed 40/s  matched 100/s  delivered 98/s  "
        "dead letters 0.5/s, 6 in all",
        "waiting: not stored 0  not routed 20 (1.5 s)  fast lane 0  siding 7 (61.2 s)  dead letters not filed 0  "
        "troubled routes 1",
        "  acme  r-1  webhook  7  61.2 s  3  22:04:00  failed: status 503",
    ]


def test_the_drawn_form_has_the_same_figures_and_a_row_for_each_route() -> None:
    picture = picture_of(compare(BEFORE, AFTER))
    Console(file=(shown := StringIO()), width=200).print(picture.drawn)
    flow, standing, *table = shown.getvalue().splitlines()
    assert [flow, standing] == picture.lines.splitlines()[:2]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in table if line.startswith("│")]
    assert rows == [list(row(DEAD))]


def test_what_is_not_known_is_a_dash() -> None:
    unserved = replace(DEAD, oldest_age_s=None, cause=None, failures=0, paused_until=None, error=None)
    assert row(unserved) == ("acme", "r-1", "webhook", "7", "-", "0", "-", "-")


def test_what_a_destination_said_moves_no_cursor_and_is_no_markup() -> None:
    hostile = replace(DEAD, error="\x1b[2J[bold]\r\n" + "x" * 500)
    *_, why = row(hostile)
    assert why.startswith("failed:  [2J[bold]  xxx")
    assert len(why) == 60
    Console(file=(shown := StringIO()), width=200).print(
        picture_of(compare(BEFORE, replace(AFTER, worst_routes=(hostile,)))).drawn
    )
    assert "[bold]" in shown.getvalue()


def test_a_server_that_does_not_answer_is_said_so() -> None:
    assert away(BusUnavailable("no answer to X within 5 s")).lines == ("no answer from NATS: no answer to X within 5 s")
