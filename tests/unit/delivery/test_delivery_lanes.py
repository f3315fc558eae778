from dataclasses import replace

import pytest
from lanes_offering import BOUND, LIMITS, A, B, Offering

from pulse_contracts.ids import RouteId, TenantId
from pulse_delivery.domain.lanes import Refused
from pulse_delivery.domain.limits import LaneLimits

TENANT = TenantId("t")


def test_a_lane_attempts_then_queues_then_refuses() -> None:
    assert Offering().offers(A, 9) == ["start"] * 4 + ["wait"] * 3 + ["lane_full"] * 2


def test_a_route_bounds_its_own_attempts() -> None:
    made = Offering()
    assert [made.offer(A, in_flight=1) for _ in range(3)] == ["start", "wait", "wait"]


def test_an_end_starts_the_one_that_waited_longest() -> None:
    made = Offering()
    made.offers(A, 7)
    assert [made.finish(), made.finish(), made.finish(), made.finish()] == [[5], [6], [7], []]


def test_a_busy_lane_takes_nothing_from_another() -> None:
    made = Offering(replace(LIMITS, slots=12))
    made.offers(A, 20)
    assert made.offers(B, 4) == ["start"] * 4


def test_the_more_lanes_are_busy_the_fewer_attempts_each_has() -> None:
    made = Offering()
    routes = [RouteId(f"r{n}") for n in range(8)]
    assert [made.offer(route) for route in routes] == ["start"] * 8
    # A share of one each: all slots are taken, and what comes next waits for its own lane.
    assert [made.offer(route) for route in routes] == ["wait"] * 8


def test_without_a_free_slot_a_new_lane_is_refused_at_once() -> None:
    made = Offering()
    for number in range(8):
        made.offer(RouteId(f"r{number}"))
    assert made.offer(A) == "no_slot"
    assert (made.lanes.in_flight, made.lanes.held, made.lanes.busy) == (8, 8, 8)


def test_a_tenant_whose_destinations_all_hang_leaves_slots_to_the_others() -> None:
    made = Offering(replace(LIMITS, slots=64, lane_in_flight=16))
    for number in range(200):
        made.offer(RouteId(f"hog{number}"), tenant=TenantId("hog"))
    assert made.lanes.in_flight == 48
    found = {
        name: [made.offer(RouteId(f"{name}{n}"), tenant=TenantId(name)) for n in range(20)].count("start")
        for name in "abc"
    }
    assert found == {"a": 8, "b": 4, "c": 2}


def test_its_turns_take_no_more_than_its_share_either() -> None:
    made, tenant = Offering(replace(LIMITS, slots=64, lane_in_flight=16)), TenantId("hog")
    for number in range(200):
        made.offer(RouteId(f"hog{number}"), tenant=tenant)
    assert not made.lanes.borrow_slot(A, tenant)
    assert made.lanes.borrow_slot(A, TENANT)
    for _ in range(30):
        made.finish()
    assert [made.lanes.borrow_slot(A, tenant) for _ in range(40)].count(True) == 29


def test_what_finds_no_slot_waits_behind_an_attempt_of_its_own_route_until_it_may_go_on() -> None:
    made, tenant = Offering(replace(LIMITS, slots=16, lane_in_flight=8)), TenantId("hog")
    hog = [A] * 2 + [RouteId("hog1")] * 6 + [RouteId("hog2")] * 4
    assert [made.offer(route, tenant=tenant) for route in hog] == ["start"] * 12
    assert [made.offer(RouteId(f"other{n}")) for n in range(2)] == ["start"] * 2
    assert made.offer(B, tenant=tenant) == "no_slot"
    assert made.offer(A, tenant=tenant) == "wait"
    assert made.lanes.may_go_on() == [A]
    assert made.lanes.proceed(A, 0.0, in_flight=BOUND) == ([], []), "its tenant has its share"
    assert made.finish() == [], "nor may it while another of its own is in flight"
    made.tickets.append(made.tickets.pop(0))
    assert [made.finish() for _ in range(6)] == [[]] * 6
    starts, refused = made.lanes.proceed(A, 0.0, in_flight=BOUND)
    assert ([start.item for start in starts], refused) == ([16], [])


def test_a_lane_that_is_due_or_released_gets_no_more_than_its_tenants_share() -> None:
    made, tenant = Offering(), TenantId("hog")
    made.lanes.hold(A)
    made.offer(A, tenant=tenant)
    for number in range(6):
        made.offer(RouteId(f"hog{number}"), tenant=tenant)
    assert made.lanes.release(A, 0.0, in_flight=BOUND) == ([], [Refused(item=1, reason="no_slot")])


def test_what_waits_behind_nothing_goes_on_though_its_tenant_has_its_share() -> None:
    made, tenant = Offering(), TenantId("hog")
    assert [made.offer(A, in_flight=1, tenant=tenant) for _ in range(2)] == ["start", "wait"]
    assert [made.offer(RouteId(f"hog{n}"), tenant=tenant) for n in range(4)] == ["start"] * 4
    assert [made.offer(RouteId(f"other{n}")) for n in range(3)] == ["start"] * 3
    assert made.finish() == [2]


def test_a_tenant_whose_attempts_have_ended_has_its_share_again() -> None:
    made, tenant = Offering(), TenantId("hog")
    for number in range(5):
        made.offer(RouteId(f"hog{number}"), tenant=tenant)
    for _ in range(5):
        made.finish()
    assert [made.offer(RouteId(f"other{n}")) for n in range(6)] == ["start"] * 6
    assert made.offer(A, tenant=tenant) == "start"


def test_a_stuck_lane_gets_few_attempts_and_queues_nothing() -> None:
    made = Offering()
    assert made.offer(A, 0.0) == "start"
    assert made.offers(A, 3, now=0.6) == ["start", "lane_stuck", "lane_stuck"]


def test_what_waits_in_a_lane_that_becomes_stuck_is_handed_back_in_order() -> None:
    made = Offering()
    made.offers(A, 7)
    assert made.lanes.stuck_waiting(0.5) == []
    assert made.lanes.stuck_waiting(0.51) == [(A, [5, 6, 7])]
    assert made.lanes.held == 4


def test_an_end_in_a_lane_that_is_still_stuck_starts_nothing() -> None:
    made = Offering()
    made.offers(A, 7)
    assert made.finish(now=1.0) == []
    assert made.finish(now=1.0) == []
    # Only one of the four old attempts is left beside it: below what a stuck lane may have.
    assert made.finish(now=1.0) == [5]


def test_merely_slow_is_not_stuck() -> None:
    made = Offering()
    made.offer(A, 0.0)
    made.finish(0.6, took_s=0.6)
    made.offers(A, 4, now=1.0)
    assert made.offer(A, 1.0 + 4 * 0.6) == "wait"
    assert made.offer(A, 1.0 + 4 * 0.6 + 0.01) == "lane_stuck"


@pytest.mark.parametrize("per_s", [1, 5, 10, 20, 26])
def test_a_route_that_answers_in_600_ms_has_room_for_whatever_it_can_sustain_from_its_first_message_on(
    per_s: int,
) -> None:
    made = Offering(LaneLimits())
    answers: list[float] = []
    for number in range(10 * per_s):
        now = number / per_s
        while answers and answers[0] <= now:
            ended = answers.pop(0)
            answers += [ended + 0.6 for _ in made.finish(ended, took_s=0.6)]
        if (found := made.offer(A, now)) == "start":
            answers.append(now + 0.6)
        assert found in {"start", "wait"}, f"message {number}, {now:.2f} s after the first"
        assert made.lanes.stuck_waiting(now) == []


def test_a_failure_teaches_nothing_about_what_a_route_usually_takes() -> None:
    made = Offering()
    made.offer(A, 0.0)
    made.finish(100.0, took_s=None)
    made.offers(A, 4, now=100.0)
    assert made.offer(A, 100.6) == "lane_stuck"


def test_a_held_lane_gathers_and_starts_nothing_until_it_is_released() -> None:
    made = Offering()
    made.lanes.hold(A)
    assert made.offers(A, 4) == ["wait", "wait", "wait", "lane_full"]
    starts, refused = made.lanes.release(A, 0.0, in_flight=BOUND)
    assert ([start.item for start in starts], refused) == ([1, 2, 3], [])


def test_an_attempt_that_ends_in_a_held_lane_starts_nothing() -> None:
    made = Offering()
    made.offer(A)
    made.lanes.hold(A)
    made.offer(A)
    assert made.finish() == []
    assert made.lanes.held == 1


def test_a_lane_released_without_a_free_slot_hands_back_what_gathered() -> None:
    made = Offering()
    made.lanes.hold(A)
    made.offers(A, 2)
    for number in range(8):
        made.offer(RouteId(f"r{number}"))
    starts, refused = made.lanes.release(A, 0.0, in_flight=BOUND)
    assert (starts, refused) == ([], [Refused(item=1, reason="no_slot"), Refused(item=2, reason="no_slot")])
    assert made.lanes.held == 8


def test_a_withdrawn_lane_is_held_no_longer() -> None:
    made = Offering()
    made.lanes.hold(A)
    made.offers(A, 2)
    assert made.lanes.withdraw(A) == [1, 2]
    assert made.offer(A) == "start"


def test_withdrawing_from_an_unknown_lane_hands_back_nothing() -> None:
    assert Offering().lanes.withdraw(A) == []


def test_over_the_bound_the_slowest_lane_gives_way_first() -> None:
    made = Offering(replace(LIMITS, slots=12))
    for route, took_s in ((A, 0.1), (B, 0.4)):
        made.offer(route)
        made.finish(took_s=took_s)
    made.offers(A, 6)
    made.offers(B, 5)
    assert made.lanes.slowest_waiting() == [13]
    assert made.lanes.slowest_waiting() == [7, 8]
    assert made.lanes.slowest_waiting() == []


@pytest.mark.parametrize(("slots", "lent"), [(8, 4), (9, 4), (2, 1), (1, 1)])
def test_turns_borrow_at_most_half_of_the_slots(slots: int, lent: int) -> None:
    lanes = Offering(LaneLimits(slots=slots)).lanes
    assert [lanes.borrow_slot(A, TENANT) for _ in range(slots + 1)].count(True) == lent
    assert lanes.in_flight == lent


def test_a_turn_borrows_nothing_while_the_lanes_have_all_slots() -> None:
    made = Offering()
    for number in range(8):
        made.offer(RouteId(f"r{number}"))
    assert not made.lanes.borrow_slot(B, TENANT)
    made.finish()
    assert made.lanes.borrow_slot(B, TENANT)
    assert made.offer(A) == "no_slot"
    made.lanes.return_slot(TENANT)
    assert made.offer(A) == "start"


def test_withdraw_all_empties_every_lane() -> None:
    made = Offering()
    made.offers(A, 6)
    made.lanes.hold(B)
    made.offers(B, 1)
    assert sorted(made.lanes.withdraw_all()) == [5, 6, 7]
    assert made.lanes.held == 4
