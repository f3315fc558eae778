"""Putting a trail together of what was found."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pulse_contracts.envelope import Envelope, format_time
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId
from pulse_contracts.records import AttemptRecord, DeadLetterRecord
from pulse_control.trail import Fate, Match, Progress, RouteTrail, Standing, Trail, assemble
from pulse_storage.dead_letters import DeadLetterRow
from pulse_storage.trails import Judged, NamedRoute, Recorded, StoredMessage

ACME = TenantId("acme")
MESSAGE = MessageId("01900000-0000-7000-8000-000000000000")
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
NOTHING = Recorded(stored=None, is_searched=True, judged=None, attempts=())
NOWHERE = Standing(
    tenant=None,
    envelope=None,
    unstored=False,
    unrouted=False,
    judged=None,
    matches=(),
    attempts=(),
    unfiled=(),
    not_searched=(),
)
ENVELOPE = Envelope(
    message_id=MESSAGE,
    tenant_id=ACME,
    device_id=DeviceId("d1"),
    type="t",
    topic="tenant/acme/device/d1/t",
    time=NOON,
    received_at=NOON,
    supplied_id=False,
    traceparent=None,
    payload=b"{}",
)
STORED = StoredMessage(device_id="d1", type="t", topic=ENVELOPE.topic, time=NOON, received_at=NOON, stored_at=None)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def attempt(number: int, outcome: str = "failed", *, route: str = "r-1", at_s: float = 1) -> AttemptRecord:
    return AttemptRecord(
        message_id=MESSAGE,
        tenant_id=ACME,
        route_id=RouteId(route),
        revision=1,
        attempt=number,
        outcome=outcome,
        status=200 if outcome == "delivered" else 503,
        error=None if outcome == "delivered" else "answered 503",
        duration_ms=250,
        at=format_time(later(at_s)),
    )


def match(lane: Fate, *, route: str = "r-1", at_s: float = 2) -> Match:
    cause = "attempt_failed" if lane is Fate.SIDING else None
    return Match(route_id=route, lane=lane, since=later(at_s), routed_at=later(0.1), cause=cause)


UNFILED = DeadLetterRecord(
    route_id=RouteId("r-1"),
    kind="webhook",
    config={},
    reason="status_410",
    error="status_410: gone",
    attempts=1,
    created_at=later(3),
    envelope=ENVELOPE,
)
FILED = DeadLetterRow(
    message_id=MESSAGE,
    route_id="r-1",
    device_id="d1",
    original_topic=ENVELOPE.topic,
    destination_type="webhook",
    destination_config={},
    reason="status_410",
    error_message="status_410: gone",
    attempts=1,
    status="FAILED",
    created_at=later(3),
    replayed_at=None,
    payload={},
)


def put_together(
    *attempts: AttemptRecord,
    standing: Standing = NOWHERE,
    dead: Sequence[DeadLetterRow] = (),
    recorded: Recorded = NOTHING,
    enabled: bool = True,
) -> Trail:
    names = {"r-1": NamedRoute(route_id="r-1", name="alarms", enabled=enabled, deleted=False)}
    recorded = replace(recorded, attempts=attempts)
    return assemble(MESSAGE, ACME, recorded=recorded, standing=standing, dead=dead, names=names)


def only_route(trail: Trail) -> RouteTrail:
    [route] = trail.routes
    return route


def test_what_was_delivered_is_delivered_since_the_end_of_its_attempt() -> None:
    route = only_route(put_together(attempt(1), attempt(2, "delivered", at_s=5)))
    assert (route.fate, route.since) == (Fate.DELIVERED, later(5.25))
    assert [one.number for one in route.attempts] == [1, 2]


@pytest.mark.parametrize(
    ("standing", "dead", "enabled", "expected"),
    [
        (NOWHERE, (), True, (Fate.UNKNOWN, None, None)),
        (replace(NOWHERE, matches=[match(Fate.FAST_LANE)]), (), True, (Fate.FAST_LANE, later(2), None)),
        (replace(NOWHERE, matches=[match(Fate.SIDING)]), (), True, (Fate.SIDING, later(2), "attempt_failed")),
        (replace(NOWHERE, matches=[match(Fate.SIDING)]), (), False, (Fate.PARKED, later(2), "attempt_failed")),
        (replace(NOWHERE, unfiled=[UNFILED]), (), True, (Fate.UNFILED, later(3), "status_410: gone")),
        (NOWHERE, [FILED], True, (Fate.DEAD_LETTER, later(3), "status_410: gone")),
    ],
    ids=["unknown", "fast_lane", "siding", "parked", "unfiled", "dead_letter"],
)
def test_the_fate_of_what_was_not_delivered(
    standing: Standing, dead: Sequence[DeadLetterRow], expected: object, *, enabled: bool
) -> None:
    route = only_route(put_together(attempt(1), standing=standing, dead=dead, enabled=enabled))
    assert (route.fate, route.since, route.reason) == expected


def test_a_final_fate_goes_before_what_is_not_tidied_up_yet() -> None:
    everywhere = replace(
        NOWHERE, matches=[match(Fate.FAST_LANE), match(Fate.SIDING, at_s=4)], unfiled=[UNFILED], unrouted=True
    )
    assert only_route(put_together(attempt(1, "delivered"), standing=everywhere)).fate is Fate.DELIVERED
    assert only_route(put_together(standing=everywhere, dead=[FILED])).fate is Fate.DEAD_LETTER
    moved = replace(everywhere, unfiled=())
    assert (only_route(put_together(standing=moved)).fate, only_route(put_together(standing=moved)).since) == (
        Fate.SIDING,
        later(4),
    )


def test_an_attempt_that_is_in_the_table_and_still_in_its_stream_is_one() -> None:
    both = replace(NOWHERE, attempts=[attempt(1), attempt(2, at_s=9)])
    assert [one.number for one in only_route(put_together(attempt(1), standing=both)).attempts] == [1, 2]


def test_each_route_has_its_own_fate_in_the_order_of_the_first_attempts() -> None:
    trail = put_together(attempt(1, route="r-2", at_s=2), attempt(1, "delivered", route="r-1", at_s=1))
    assert [(route.route_id, route.name, route.fate) for route in trail.routes] == [
        ("r-1", "alarms", Fate.DELIVERED),
        ("r-2", None, Fate.UNKNOWN),
    ]


@pytest.mark.parametrize(
    ("recorded", "standing", "expected"),
    [
        (replace(NOTHING, stored=STORED), NOWHERE, Progress.DONE),
        # Still above the floor of the store although it is in the table.
        (replace(NOTHING, stored=STORED), replace(NOWHERE, unstored=True), Progress.DONE),
        (NOTHING, replace(NOWHERE, unstored=True, envelope=ENVELOPE), Progress.WAITING),
        (NOTHING, replace(NOWHERE, unrouted=True, envelope=ENVELOPE), Progress.UNKNOWN),
    ],
)
def test_whether_it_is_stored(recorded: Recorded, standing: Standing, expected: Progress) -> None:
    trail = put_together(recorded=recorded, standing=standing)
    assert (trail.stored, trail.topic, trail.received_at) == (expected, ENVELOPE.topic, NOON)


def test_it_was_routed_when_its_match_says_and_else_at_the_latest_when_that_was_put_on_record() -> None:
    judged = replace(NOTHING, judged=Judged(generation=7, judged_at=later(0.5)))
    unmatched = put_together(recorded=judged)
    assert (unmatched.routed, unmatched.routed_at, unmatched.generation) == (Progress.DONE, later(0.5), 7)
    matched = put_together(recorded=judged, standing=replace(NOWHERE, matches=[match(Fate.SIDING)]))
    assert matched.routed_at == later(0.1)


def test_what_no_route_has_judged_yet_waits() -> None:
    assert put_together(standing=replace(NOWHERE, unrouted=True)).routed is Progress.WAITING
    assert put_together().routed is Progress.UNKNOWN
    # A judgement may be lost; an attempt shows that there was one.
    assert put_together(attempt(1)).routed is Progress.DONE
