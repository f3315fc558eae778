import pytest

from pulse_contracts.ids import RouteId
from pulse_contracts.routes import Rate
from pulse_delivery.domain.lanes import Lanes, Refused, Start, Waiting
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.rates import Rates

A, B = RouteId("a"), RouteId("b")
LIMITS = LaneLimits(
    slots=8,
    lane_in_flight=4,
    lane_waiting=3,
    stuck_in_flight=2,
    stuck_after_s=0.5,
    stuck_untold_s=0.5,
    stuck_factor=4.0,
)
BOUND = 16


class Offering:
    """Lanes, and what was offered to them with a number each."""

    def __init__(self, limits: LaneLimits = LIMITS, **rates: Rate) -> None:
        self.now = 0.0
        """What the permits go by."""
        self.rates = {RouteId(name): rate for name, rate in rates.items()}
        self.lanes: Lanes[int] = Lanes(limits, Rates(self.rates.get, lambda: self.now))
        self.tickets: list[int] = []
        self._items = 0

    def offer(self, route: RouteId, now: float = 0.0, *, in_flight: int = BOUND) -> str:
        self._items += 1
        match self.lanes.offer(route, self._items, now, in_flight=in_flight):
            case Start(ticket=ticket):
                self.tickets.append(ticket)
                return "start"
            case Waiting():
                return "wait"
            case Refused(reason=reason):
                return reason

    def offers(self, route: RouteId, count: int, now: float = 0.0) -> list[str]:
        return [self.offer(route, now) for _ in range(count)]

    def finish(self, now: float = 0.0, *, took_s: float | None = None) -> list[int]:
        starts = self.lanes.finish(self.tickets.pop(0), now, took_s=took_s, in_flight=BOUND)
        self.tickets += [start.ticket for start in starts]
        return [start.item for start in starts]

    def proceed(self, now: float) -> tuple[list[int], list[tuple[int, str]]]:
        """Let the time come and do what is due."""
        self.now = now
        begun: list[int] = []
        back: list[tuple[int, str]] = []
        for route in self.lanes.take_due():
            starts, refused = self.lanes.proceed(route, now, in_flight=BOUND)
            self.tickets += [start.ticket for start in starts]
            begun += [start.item for start in starts]
            back += [(each.item, each.reason) for each in refused]
        return begun, back


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
    made = Offering()
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
    made = Offering()
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
    assert [lanes.borrow_slot(A) for _ in range(slots + 1)].count(True) == lent
    assert lanes.in_flight == lent


def test_a_turn_borrows_nothing_while_the_lanes_have_all_slots() -> None:
    made = Offering()
    for number in range(8):
        made.offer(RouteId(f"r{number}"))
    assert not made.lanes.borrow_slot(B)
    made.finish()
    assert made.lanes.borrow_slot(B)
    assert made.offer(A) == "no_slot"
    made.lanes.return_slot()
    assert made.offer(A) == "start"


def test_withdraw_all_empties_every_lane() -> None:
    made = Offering()
    made.offers(A, 6)
    made.lanes.hold(B)
    made.offers(B, 1)
    assert sorted(made.lanes.withdraw_all()) == [5, 6, 7]
    assert made.lanes.held == 4


SLOW = Rate(per_s=2, burst=2)
"""A permit every half second."""
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
    assert [made.lanes.borrow_slot(A) for _ in range(3)] == [True, True, False]
    starts, refused = made.lanes.release(A, 0.0, in_flight=BOUND)
    assert starts == []
    assert refused == [Refused(item=5, reason="rate_limited"), Refused(item=6, reason="rate_limited")]
    assert made.proceed(0.5) == ([1], [])


def test_turns_and_the_lane_share_the_permits_of_a_route() -> None:
    made = Offering(PACED, a=SLOW)
    assert made.lanes.borrow_slot(A)
    assert made.offers(A, 2) == ["start", "wait"]
    made.now = 0.5
    assert not made.lanes.borrow_slot(A), "what waits in the lane is older"
    assert made.proceed(0.5) == ([2], [])
    assert not made.lanes.borrow_slot(A)
    assert made.lanes.permit_wait_s(A) == 0.5
    made.now = 1.0
    assert made.lanes.borrow_slot(A)


def test_an_attempt_that_is_owed_for_delays_the_next() -> None:
    made = Offering(PACED, a=SLOW)
    for route in (A, B):
        made.lanes.owe_permit(route)
    assert made.offers(A, 2) == ["start", "wait"]
    assert made.offer(B) == "start"
    assert made.lanes.next_due_at == 0.5


def test_a_turn_that_finds_no_slot_takes_no_permit() -> None:
    made = Offering(LaneLimits(slots=2), a=SLOW)
    assert [made.lanes.borrow_slot(B), made.lanes.borrow_slot(A)] == [True, False]
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
