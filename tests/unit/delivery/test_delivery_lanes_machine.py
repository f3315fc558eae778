"""The lanes against a model that knows only where each item is and how many permits each route has."""

from collections import Counter
from collections.abc import Iterable, Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.routes import Rate
from pulse_delivery.domain.lanes import Lanes, Refused, Start, Waiting
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.rates import Rates

ROUTES = st.sampled_from([RouteId(f"r{n}") for n in range(3)])
LIMITS = st.builds(
    LaneLimits,
    slots=st.sampled_from([1, 2, 4, 24]),
    lane_in_flight=st.integers(1, 6),
    lane_waiting=st.integers(1, 4),
    stuck_in_flight=st.integers(1, 3),
    stuck_after_s=st.just(0.5),
    stuck_untold_s=st.sampled_from([0.5, 1.0]),
    stuck_factor=st.just(4.0),
    permit_wait_s=st.sampled_from([0.5, 2.0]),
)
RATES = st.none() | st.builds(Rate, per_s=st.sampled_from([0.25, 1.0, 4.0, 16.0]), burst=st.integers(1, 4))
"""With powers of two, and times that are sums of them, all permits are exact."""
BOUNDS = {RouteId(f"r{n}"): bound for n, bound in enumerate((1, 3, 16))}
TENANT_OF = {RouteId("r0"): TenantId("t0"), RouteId("r1"): TenantId("t0"), RouteId("r2"): TenantId("t1")}
TOOK = st.none() | st.floats(0.01, 5.0)
LATER = st.sampled_from([0.0, 0.125])
"""Little, so that lanes are not always stuck: they would show little else."""
BURST = st.integers(1, 6)


class LanesMachine(RuleBasedStateMachine):
    """Offers, ends, holds and withdraws at random; every item must be in exactly one place at all times.

    However messages come, by the lane or by a turn, no route is tried more often than its rate allows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.offered = 0
        self.route_of: dict[int, RouteId] = {}
        self.started: dict[int, tuple[int, float]] = {}
        """Item and start by ticket."""
        self.waiting: dict[RouteId, list[int]] = {route: [] for route in BOUNDS}
        self.gone: set[int] = set()
        """Finished, or handed back to be shunted."""
        self.held: set[RouteId] = set()
        self.usual: dict[RouteId, float] = {}
        self.borrowed: list[TenantId] = []
        """Whose turns have a slot."""
        self.rates: dict[RouteId, Rate] = {}
        self.permits: dict[RouteId, float] = {}
        self.counted_at = 0.0
        """When the permits were as they are in the model."""
        self.begun: dict[RouteId, list[float]] = {route: [] for route in BOUNDS}
        """When attempts began since the route has its present rate."""

    @initialize(limits=LIMITS, rates=st.tuples(RATES, RATES, RATES))
    def open_lanes(self, limits: LaneLimits, rates: Sequence[Rate | None]) -> None:
        self.limits = limits
        self.lanes: Lanes[int] = Lanes(limits, Rates(self.rates.get, lambda: self.now))
        for route, rate in zip(BOUNDS, rates, strict=True):
            if rate:
                self.rates[route] = rate
                self.permits[route] = rate.burst

    @rule(route=ROUTES, rate=RATES)
    def edit_the_rate(self, route: RouteId, rate: Rate | None) -> None:
        # The lanes learn of an edit when they next ask: let them ask before it and after.
        self.let_permits_come()
        self.lanes.permit_wait_s(route)
        was_rated = self.rates.pop(route, None)
        self.begun[route].clear()
        if rate:
            self.permits[route] = min(self.permits[route], rate.burst) if was_rated else rate.burst
            self.rates[route] = rate
        self.lanes.permit_wait_s(route)

    @rule()
    def let_what_waits_become_due(self) -> None:
        if (due_at := self.lanes.next_due_at) is not None:
            self.now = max(self.now, due_at)
        self.start_due()

    @rule(later=LATER)
    def start_due_after(self, later: float) -> None:
        self.now += later
        self.start_due()

    @rule()
    def let_all_come_to_its_end(self) -> None:
        # Each round an end or a permit starts something, or the slots are all lent and the lane hands it back.
        for _ in range(2 * self.offered + 2):
            self.let_what_waits_become_due()
            for ticket in list(self.started):
                self.finish_one(ticket, None)
        assert not self.started
        assert all(route in self.held for route, queue in self.waiting.items() if queue), "nobody will start it"

    def start_due(self) -> None:
        for route in self.lanes.take_due():
            assert self.waiting[route]
            assert route not in self.held
            starts, refused = self.lanes.proceed(route, self.now, in_flight=BOUNDS[route])
            self.take_starts(starts)
            self.hand_back_refused(route, refused)

    @rule(route=ROUTES, count=BURST)
    def offer(self, route: RouteId, count: int) -> None:
        for _ in range(count):
            self.offer_one(route)

    def offer_one(self, route: RouteId) -> None:
        self.offered += 1
        item = self.offered
        self.route_of[item] = route
        was_stuck, was_running = self.is_stuck(route), self.running(route)
        had_room = self.has_room(route)
        had_permit = self.has_permits(route)
        match self.lanes.offer(route, item, self.now, tenant=TENANT_OF[route], in_flight=BOUNDS[route]):
            case Start() as start:
                assert start.item == item
                assert had_room
                assert route not in self.held
                assert not self.waiting[route], "overtook what waits in its lane"
                assert not was_stuck or was_running < self.limits.stuck_in_flight
                self.take_starts([start])
            case Waiting():
                assert route in self.held or not was_stuck, "queued in a stuck lane"
                assert was_running or self.waiting[route] or route in self.held or not had_permit, "waits for nothing"
                self.waiting[route].append(item)
                assert self.wait_s(route, len(self.waiting[route])) <= self.limits.permit_wait_s
            case Refused(item=refused, reason=reason):
                assert refused == item
                assert reason in {"no_slot", "lane_stuck", "lane_full", "rate_limited"}
                assert reason != "no_slot" or not (had_room or was_running)
                assert reason != "lane_stuck" or was_stuck
                is_full = len(self.waiting[route]) == self.limits.lane_waiting
                assert reason != "lane_full" or is_full
                too_long = self.wait_s(route, len(self.waiting[route]) + 1) > self.limits.permit_wait_s
                # A full lane waits for its permit until it is told to proceed, though the permit has come by now.
                assert reason != "rate_limited" or too_long or is_full
                self.gone.add(item)

    @rule(data=st.data(), took_s=TOOK, later=LATER, count=BURST)
    @precondition(lambda self: bool(self.started))
    def finish(self, data: st.DataObject, took_s: float | None, later: float, count: int) -> None:
        self.now += later
        for _ in range(min(count, len(self.started))):
            self.finish_one(data.draw(st.sampled_from(sorted(self.started))), took_s)

    def finish_one(self, ticket: int, took_s: float | None) -> None:
        item, _ = self.started.pop(ticket)
        self.gone.add(item)
        route = self.route_of[item]
        if took_s is not None:
            usual = self.usual.get(route, took_s)
            self.usual[route] = usual + 0.2 * (took_s - usual)
        starts = self.lanes.finish(ticket, self.now, took_s=took_s, in_flight=BOUNDS[route])
        assert all(self.route_of[start.item] == route for start in starts)
        assert not starts or route not in self.held
        self.take_starts(starts, swaps=True)

    @rule()
    def let_attempts_hang(self) -> None:
        self.now += 0.625

    @rule(route=ROUTES)
    def hold(self, route: RouteId) -> None:
        self.lanes.hold(route)
        self.held.add(route)

    @rule(data=st.data())
    @precondition(lambda self: bool(self.held))
    def release(self, data: st.DataObject) -> None:
        route = data.draw(st.sampled_from(sorted(self.held)))
        self.held.discard(route)
        starts, refused = self.lanes.release(route, self.now, in_flight=BOUNDS[route])
        self.take_starts(starts)
        self.hand_back_refused(route, refused)

    @rule(route=ROUTES)
    def withdraw(self, route: RouteId) -> None:
        items = self.lanes.withdraw(route)
        assert items == self.waiting[route]
        self.hand_back(route, items)
        self.held.discard(route)

    @rule(later=LATER, how=st.sampled_from(["tend", "give_way", "withdraw_all"]))
    def hand_back_by_the_process(self, later: float, how: str) -> None:
        self.now += later
        {"tend": self.tend, "give_way": self.give_way, "withdraw_all": self.withdraw_all}[how]()

    def tend(self) -> None:
        stuck = [route for route in BOUNDS if self.waiting[route] and self.is_stuck(route)]
        for route, items in self.lanes.stuck_waiting(self.now):
            assert items == self.waiting[route]
            stuck.remove(route)
            self.hand_back(route, items)
            self.held.discard(route)
        assert stuck == [], "a stuck lane kept its queue"

    def give_way(self) -> None:
        items = self.lanes.slowest_waiting()
        assert bool(items) == any(self.waiting.values())
        if items:
            route = self.route_of[items[0]]
            self.hand_back(route, items)
            assert self.waiting[route] == []
            self.held.discard(route)

    def withdraw_all(self) -> None:
        items = self.lanes.withdraw_all()
        assert Counter(items) == Counter(item for queue in self.waiting.values() for item in queue)
        for route, queue in self.waiting.items():
            if queue:
                self.hand_back(route, list(queue))
                self.held.discard(route)

    @rule(route=ROUTES)
    def borrow(self, route: RouteId) -> None:
        has_slot = self.has_room(route) and len(self.borrowed) < max(1, self.limits.slots // 2)
        may = self.lanes.borrow_slot(route, TENANT_OF[route])
        assert not may or has_slot
        assert may or not has_slot or not self.has_permits(route) or self.waiting[route]
        if may:
            self.borrowed.append(TENANT_OF[route])
            self.spend_permit(route)

    @rule()
    @precondition(lambda self: bool(self.borrowed))
    def give_slot_back(self) -> None:
        self.lanes.return_slot(self.borrowed.pop(0))

    @rule()
    def let_lanes_go_on(self) -> None:
        for route in self.lanes.may_go_on():
            assert self.waiting[route]
            starts, refused = self.lanes.proceed(route, self.now, in_flight=BOUNDS[route])
            self.take_starts(starts)
            self.hand_back_refused(route, refused)

    @invariant()
    def every_item_is_in_exactly_one_place(self) -> None:
        places = Counter(item for item, _ in self.started.values())
        places.update(item for queue in self.waiting.values() for item in queue)
        places.update(self.gone)
        assert places == Counter(range(1, self.offered + 1))

    @invariant()
    def the_figures_are_the_models(self) -> None:
        waiting = sum(len(queue) for queue in self.waiting.values())
        assert self.lanes.in_flight == self.slots_in_use()
        assert self.lanes.held == len(self.started) + waiting
        assert self.lanes.busy == sum(self.running(route) > 0 for route in BOUNDS)

    @invariant()
    def no_bound_is_exceeded(self) -> None:
        assert self.lanes.in_flight <= self.limits.slots
        for route, bound in BOUNDS.items():
            assert self.running(route) <= min(bound, self.limits.lane_in_flight)
            assert len(self.waiting[route]) <= self.limits.lane_waiting

    @invariant()
    def nothing_waits_for_an_attempt_that_nobody_will_start(self) -> None:
        for route, queue in self.waiting.items():
            assert not queue or self.running(route) or route in self.held or self.lanes.next_due_at is not None

    @invariant()
    def nothing_is_due_later_than_a_message_may_wait(self) -> None:
        due_at = self.lanes.next_due_at
        assert due_at is None or due_at <= self.now + self.limits.permit_wait_s

    @invariant()
    def no_route_is_tried_more_often_than_its_rate_allows(self) -> None:
        for route, rate in self.rates.items():
            begun = self.begun[route]
            for number, since in enumerate(begun):
                assert len(begun) - number <= rate.burst + rate.per_s * (begun[-1] - since)

    def take_starts(self, starts: Iterable[Start[int]], *, swaps: bool = False) -> None:
        """Move items from their queues into flight; each lane starts its oldest first.

        Only a lane that *swaps* a slot may have one although its tenant has its share, so as not to stop.
        """
        for start in starts:
            route = self.route_of[start.item]
            assert self.has_room(route) or (swaps and not self.running(route))
            queue = self.waiting[route]
            if queue:
                assert queue.pop(0) == start.item, "out of turn"
            assert start.ticket not in self.started
            self.started[start.ticket] = (start.item, self.now)
            self.spend_permit(self.route_of[start.item])

    def spend_permit(self, route: RouteId) -> None:
        self.begun[route].append(self.now)
        if route in self.rates:
            assert self.has_permits(route)
            self.permits[route] -= 1

    def has_permits(self, route: RouteId, count: int = 1) -> bool:
        self.let_permits_come()
        return route not in self.rates or self.permits[route] >= count

    def let_permits_come(self) -> None:
        passed_s, self.counted_at = self.now - self.counted_at, self.now
        for route, rate in self.rates.items():
            self.permits[route] = min(rate.burst, self.permits[route] + passed_s * rate.per_s)

    def wait_s(self, route: RouteId, nth: int) -> float:
        self.let_permits_come()
        rate = self.rates.get(route)
        return max(0.0, nth - self.permits[route]) / rate.per_s if rate else 0.0

    def hand_back_refused(self, route: RouteId, refused: list[Refused[int]]) -> None:
        self.hand_back(route, [each.item for each in refused])
        for each in refused:
            assert each.reason in {"no_slot", "rate_limited"}
            assert each.reason != "no_slot" or not self.has_room(route)

    def hand_back(self, route: RouteId, items: list[int]) -> None:
        for item in items:
            self.waiting[route].remove(item)
        self.gone.update(items)

    def running(self, route: RouteId) -> int:
        return sum(self.route_of[item] == route for item, _ in self.started.values())

    def has_room(self, route: RouteId) -> bool:
        """Whether the route's tenant may have one attempt more in flight."""
        free = self.limits.slots - self.slots_in_use()
        tenants = sum(self.running(other) for other in BOUNDS if TENANT_OF[other] == TENANT_OF[route])
        tenants += self.borrowed.count(TENANT_OF[route])
        return free > self.limits.slots // 4 or tenants < free

    def slots_in_use(self) -> int:
        return len(self.started) + len(self.borrowed)

    def is_stuck(self, route: RouteId) -> bool:
        begun = [since for item, since in self.started.values() if self.route_of[item] == route]
        usual = self.usual.get(route)
        known = max(self.limits.stuck_after_s, self.limits.stuck_factor * (usual or 0.0))
        limit = self.limits.stuck_untold_s if usual is None else known
        return bool(begun) and self.now - min(begun) > limit


LanesMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestLanes = LanesMachine.TestCase
