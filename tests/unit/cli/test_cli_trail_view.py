"""What `pulse trace` draws of given trails."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest

from pulse_cli.trail_view import show_trail
from pulse_contracts.ids import MessageId, TenantId
from pulse_control.trail import TELEMETRY, Attempt, Fate, Progress, RouteTrail, Trail

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
FIRST, SECOND = (f"01900000-0000-7000-8000-00000000000{number}" for number in (1, 2))


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def attempt(number: int, at_s: float, outcome: str = "failed", error: str | None = "answered 503") -> Attempt:
    status = 204 if outcome == "delivered" else 503
    return Attempt(number=number, began_at=later(at_s), took_ms=12.4, outcome=outcome, status=status, error=error)


TRAIL = Trail(
    message_id=MessageId("01900000-0000-7000-8000-000000000000"),
    tenant_id=TenantId("acme"),
    topic="tenant/acme/device/boiler/reading",
    received_at=NOON,
    measured_at=NOON,
    stored=Progress.DONE,
    stored_at=None,
    routed=Progress.DONE,
    routed_at=later(0.02),
    generation=3,
    routes=(
        RouteTrail(
            route_id=FIRST,
            name="alarms",
            fate=Fate.DELIVERED,
            since=later(75),
            reason=None,
            attempts=(attempt(1, 0.031), attempt(2, 1.25, "delivered", None)),
        ),
        RouteTrail(
            route_id=SECOND,
            name=None,
            fate=Fate.DEAD_LETTER,
            since=later(7384),
            reason="status_410: answered 410",
            attempts=(),
        ),
    ),
    not_searched=(),
)
EMPTY = replace(TRAIL, routes=(), routed=Progress.UNKNOWN, routed_at=None, generation=None)


def drawn(trail: Trail) -> str:
    file = StringIO()
    show_trail(trail, file)
    return file.getvalue()


def test_a_trail_is_a_tree_of_steps_routes_and_attempts() -> None:
    assert (
        drawn(TRAIL)
        == f"""\
{TRAIL.message_id}  tenant acme  tenant/acme/device/boiler/reading
├── accepted  2026-01-05T12:00:00.000Z
├── stored
└── routed  +20 ms  by generation 3 of the routes
    ├── {FIRST}  (alarms)  delivered  +1 min 15 s
    │   ├── #1  +31 ms  took 12 ms  failed 503: answered 503
    │   └── #2  +1.25 s  took 12 ms  delivered 204
    └── {SECOND}  (no such route)  dead letter  +2 h 3 min  status_410: answered 410
"""
    )


@pytest.mark.parametrize("fate", Fate)
def test_every_fate_has_words(fate: Fate) -> None:
    route = replace(TRAIL.routes[0], fate=fate, attempts=())
    [line] = [line for line in drawn(replace(TRAIL, routes=[route])).splitlines() if FIRST in line]
    assert len(line.partition("(alarms)  ")[2].split()) > 1


@pytest.mark.parametrize(
    ("trail", "words"),
    [
        (replace(TRAIL, stored_at=later(0.1)), "stored  +100 ms"),
        (replace(TRAIL, stored=Progress.WAITING), "waits to be stored"),
        (replace(TRAIL, stored=Progress.UNKNOWN), "not in telemetry"),
        (replace(TRAIL, stored=Progress.UNKNOWN, not_searched=[TELEMETRY]), "could not be found out in time"),
        (replace(EMPTY, routed=Progress.WAITING), "waits to be routed"),
        (EMPTY, "which routes judged it is not on record"),
        (replace(EMPTY, routed=Progress.DONE, generation=0), "by generation 0 of the routes  nothing is on record"),
        (replace(TRAIL, received_at=None, measured_at=None, topic=None), "accepted  when is not on record"),
        (replace(TRAIL, received_at=None, measured_at=None), "routed  2026-01-05T12:00:00.020Z"),
        (replace(TRAIL, measured_at=later(-60)), "measured 2026-01-05T11:59:00.000Z by the device's clock"),
        (replace(TRAIL, not_searched=["SIDING"]), "SIDING holds too much to be looked through"),
    ],
)
def test_what_is_not_known_is_said(trail: Trail, words: str) -> None:
    assert words in drawn(trail)


def test_what_a_receiver_sent_cannot_write_to_the_terminal() -> None:
    error = "[red]\x1b[2J\nanswered " + "x" * 500
    route = replace(TRAIL.routes[0], attempts=[attempt(1, 1, error=error)])
    [line] = [line for line in drawn(replace(TRAIL, routes=[route])).splitlines() if "#1" in line]
    assert "[red]�[2J�answered" in line
    assert "\x1b" not in line
    assert line.endswith("x…")
