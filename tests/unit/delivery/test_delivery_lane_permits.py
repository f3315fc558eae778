from lanes_offering import BOUND, A, B, Offering

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.routes import Rate
from pulse_delivery.domain.lanes import Refused
from pulse_delivery.domain.limits import LaneLimits

SLOW = Rate(per_s=2, burst=2)
"""A permit every half second."""
TENANT = TenantId("t")
PACED = LaneLimits(slots=8, lane_in_flight=8, lane_waiting=6, permit_wait_s=2.0, stuck_after_s=100.0)


def test_without_a_permit_a_message_waits_in_its_lane_and_is_due_with_the_next() -> None:
    made = Offering(PACED, a=SLOW)
    assert made.offers(A, 3) == ["start", "start", "wait"]
    assert made.lanes.next_due_at == 0.5
    assert made.proceed(0.4) == ([], [])
    assert made.proceed(0.5) == ([3], [])
    assert made.lanes.next_due_at is None


def test_of_several_that_wait_each_permit_starts_the_oldest() -> None:
    made = Offering(PACED, a=SLOW)
    made.offers(A, 5)
    assert [made.proceed(now) for now in (0.5, 1.0, 1.4)] == [([3], []), ([4], []), ([], [])]
    assert made.lanes.next_due_at == 1.5


def test_a_message_whose_permit_is_far_away_is_refused() -> None:
    made = Offering(PACED, a=SLOW)
    assert made.offers(A, 7) == ["start", "start", "wait", "wait", "wait", "wait", "rate_limited"]


def test_a_full_lane_that_waits_for_permits_names_the_rate() -> None:
    made = Offering(LaneLimits(slots=8, lane_waiting=1), a=SLOW)
    assert made.offers(A, 4) == ["start", "start", "wait", "rate_limited"]


def test_an_end_does_not_start_what_has_no_permit() -> None:
    made = Offering(PACED, a=SLOW)
    made.offers(A, 3)
    assert [made.finish(), made.finish()] == [[], []]
    assert made.proceed(0.5) == ([3], [])


def test_an_end_starts_what_has_its_permit_by_now() -> None:
    made = Offering(PACED, a=SLOW)
    made.offers(A, 3)
    made.now = 0.5
    assert made.finish() == [3]
    assert made.lanes.next_due_at is None


def test_a_permit_starts_nothing_beyond_the_attempts_a_route_may_have() -> None:
    made = Offering(PACED, a=SLOW)
    assert [made.offer(A, in_flight=1), made.offer(A, in_flight=1)] == ["start", "wait"]
    assert made.lanes.next_due_at is None
    made.now = 9.0
    assert made.finish() == [2]


def test_a_lane_that_waits_for_permits_is_neither_busy_nor_stuck() -> None:
    made = Offering(PACED, a=SLOW)
    made.offers(A, 3)
    made.finish()
    made.finish()
    assert made.lanes.stuck_waiting(100.0) == []
    assert (made.lanes.busy, made.lanes.in_flight, made.lanes.held) == (0, 0, 1)
    assert made.offers(B, 4) == ["start"] * 4


def test_a_stuck_lane_does_not_wait_for_permits_either() -> None:
    made = Offering(PACED, a=Rate(per_s=2, burst=1))
    made.offer(A)
    made.now = 101.0
    assert made.offers(A, 2, now=101.0) == ["start", "lane_stuck"]


def test_a_due_lane_that_finds_no_slot_hands_back_what_waits() -> None:
    made = Offering(PACED, a=SLOW)
    made.offers(A, 4)
    made.finish()
    made.finish()
    for number in range(8):
        made.offer(RouteId(f"r{number}"))
    assert made.proceed(0.5) == ([], [(3, "no_slot"), (4, "no_slot")])
    assert made.lanes.held == 8


def test_a_lane_that_is_withdrawn_or_held_is_not_due() -> None:
    made = Offering(PACED, a=SLOW, b=SLOW)
    made.offers(A, 3)
    made.offers(B, 3)
    assert made.lanes.withdraw(A) == [3]
    made.lanes.hold(B)
    assert made.lanes.next_due_at is None
    assert made.proceed(9.0) == ([], [])


def test_a_released_lane_runs_at_its_rate_and_hands_back_what_would_wait_long() -> None:
    made = Offering(PACED, a=SLOW)
    made.lanes.hold(A)
    made.offers(A, 6)
    assert [made.lanes.borrow_slot(A, TENANT) for _ in range(3)] == [True, True, False]
    starts, refused = made.lanes.release(A, 0.0, in_flight=BOUND)
    assert starts == []
    assert refused == [Refused(item=5, reason="rate_limited"), Refused(item=6, reason="rate_limited")]
    assert made.proceed(0.5) == ([1], [])


def test_turns_and_the_lane_share_the_permits_of_a_route() -> None:
    made = Offering(PACED, a=SLOW)
    assert made.lanes.borrow_slot(A, TENANT)
    assert made.offers(A, 2) == ["start", "wait"]
    made.now = 0.5
    assert not made.lanes.borrow_slot(A, TENANT), "what waits in the lane is older"
    assert made.proceed(0.5) == ([2], [])
    assert not made.lanes.borrow_slot(A, TENANT)
    assert made.lanes.permit_wait_s(A) == 0.5
    made.now = 1.0
    assert made.lanes.borrow_slot(A, TENANT)


def test_an_attempt_that_is_owed_for_delays_the_next() -> None:
    made = Offering(PACED, a=SLOW)
    for route in (A, B):
        made.lanes.owe_permit(route)
    assert made.offers(A, 2) == ["start", "wait"]
    assert made.offer(B) == "start"
    assert made.lanes.next_due_at == 0.5


def test_a_turn_that_finds_no_slot_takes_no_permit() -> None:
    made = Offering(LaneLimits(slots=2), a=SLOW)
    assert [made.lanes.borrow_slot(B, TENANT), made.lanes.borrow_slot(A, TENANT)] == [True, False]
    assert made.lanes.permit_wait_s(A, 2) == 0


def test_a_lower_rate_hands_back_what_it_keeps_waiting_too_long() -> None:
    made = Offering(PACED, a=SLOW)
    made.offers(A, 5)
    made.rates[A] = Rate(per_s=0.625, burst=2)
    assert made.lanes.permit_wait_s(A) == 1.6
    assert made.proceed(0.5) == ([], [(4, "rate_limited"), (5, "rate_limited")])
    assert made.proceed(1.5) == ([], [])
    assert made.proceed(1.6) == ([3], [])


def test_a_rate_that_becomes_very_low_empties_the_lane_soon() -> None:
    made = Offering(PACED, a=SLOW)
    made.offers(A, 4)
    made.rates[A] = Rate(per_s=0.01, burst=1)
    made.finish()
    assert made.proceed(PACED.permit_wait_s) == ([], [(3, "rate_limited"), (4, "rate_limited")])
    assert made.lanes.next_due_at is None


def test_a_route_whose_rate_is_taken_away_runs_on_at_once() -> None:
    made = Offering(LaneLimits(slots=8), a=SLOW)
    made.offers(A, 5)
    del made.rates[A]
    assert made.proceed(0.5) == ([3, 4, 5], [])
    assert made.offer(A) == "start"


def test_a_lane_that_waits_long_for_its_permits_gives_way_before_a_slow_one() -> None:
    made = Offering(LaneLimits(slots=8, lane_in_flight=4), a=SLOW)
    made.offer(B)
    made.finish(took_s=1.0)
    made.offers(B, 5)
    made.offers(A, 6)
    assert made.lanes.slowest_waiting() == [9, 10, 11, 12]
    assert made.lanes.slowest_waiting() == [6]
