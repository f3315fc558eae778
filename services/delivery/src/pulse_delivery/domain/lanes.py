"""The lanes: who may be attempted now, who waits, who moves to the siding. Synchronous; returns the effects.

Every message offered is in exactly one place: in flight (a ticket), waiting in its lane, or handed back to be
shunted. No lane waits for another: what finds no slot, and nothing of its own route in flight, goes to the siding at
once. What only has to wait for a permit of its route's rate waits in the lane if it is due soon, holds no slot, and is
started by whoever watches `next_due_at`.
"""

from collections import Counter, deque
from dataclasses import dataclass
from itertools import count
from typing import Final, Generic, TypeVar

from pulse_contracts.ids import RouteId, TenantId
from pulse_delivery.domain.due import DueRoutes
from pulse_delivery.domain.lane import Lane
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.rates import Rates

T = TypeVar("T")

_MAX_REMEMBERED: Final = 10_000
"""Idle lanes whose usual duration is remembered."""
_KEPT_FREE: Final = 4
"""One slot in so many is for tenants that have fewer attempts in flight than slots are free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Generic[T]):
    """Attempt the item now; `Lanes.finish` takes the ticket back."""

    ticket: int
    item: T


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The item waits in its lane; a later `Start` will name it, or a `Refused`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Generic[T]):
    """There is no room for the item in the fast lane."""

    item: T
    reason: str


class Lanes(Generic[T]):
    """All lanes of a process, and the slots and permits they share with the siding's turns."""

    def __init__(self, limits: LaneLimits, rates: Rates) -> None:
        self._limits = limits
        self._rates = rates
        self._due = DueRoutes()
        """Lanes whose first message waits for a permit, and nothing else."""
        self._lanes: dict[RouteId, Lane[T]] = {}
        self._at_work: dict[RouteId, Lane[T]] = {}
        """Those that have something in flight or waiting, and some that had: of all remembered ones mostly few."""
        self._tickets = count(1)
        self._route_of: dict[int, RouteId] = {}
        self._in_flight_of: Counter[TenantId | None] = Counter()
        self._borrowed = 0
        self._waiting = 0
        self._busy = 0
        self._forgiven_until = float("-inf")

    @property
    def in_flight(self) -> int:
        """Slots in use, those lent to turns included."""
        return len(self._route_of) + self._borrowed

    @property
    def held(self) -> int:
        """Messages in flight or waiting in lanes."""
        return len(self._route_of) + self._waiting

    @property
    def busy(self) -> int:
        """Lanes with an attempt in flight."""
        return self._busy

    def borrow_slot(self, route: RouteId, tenant: TenantId) -> bool:
        """Take a slot and a permit for a turn of the route, or neither; turns together get at most half of the slots.

        What waits for a permit in the route's lane is older, and goes first.
        """
        if not self._has_slot(tenant) or self._borrowed >= max(1, self._limits.slots // 2):
            return False
        if route in self._due or not self._rates.take(route):
            return False
        self._borrowed += 1
        self._in_flight_of[tenant] += 1
        return True

    def return_slot(self, tenant: TenantId) -> None:
        """Give back a slot that a turn of this tenant has borrowed."""
        self._borrowed -= 1
        self._ended(tenant)

    @property
    def next_due_at(self) -> float | None:
        """When the next lane gets a permit that it waits for, by the rates' clock; None if no lane does."""
        return self._due.next_at

    def take_due(self) -> list[RouteId]:
        """Return the routes whose lane has the permit that it waited for: `proceed` with each."""
        return self._due.take(self._rates.now)

    def owe_permit(self, route: RouteId) -> None:
        """Count an attempt that no lane and no turn makes, and that cannot wait: the next ones have to."""
        self._rates.owe(route)

    def permit_wait_s(self, route: RouteId, nth: int = 1) -> float:
        """Return in how long the route may make its *nth* attempt from now by its rate; 0 if it may now."""
        return self._rates.wait_s(route, nth)

    def offer(
        self, route: RouteId, item: T, now: float, *, tenant: TenantId, in_flight: int
    ) -> Start[T] | Waiting | Refused[T]:
        """Find a place for *item*. *now* is net of the process's own lag; *in_flight* is the route's own bound."""
        lane = self._lane(route)
        lane.tenant = tenant
        stuck = lane.is_stuck(now, self._limits)
        if lane.is_held:
            return self._wait(lane, item)
        if not lane.waiting and len(lane.started) < self._cap(lane, in_flight, stuck=stuck):
            if not self._has_slot(tenant):
                if not lane.started:
                    return Refused(item=item, reason="no_slot")
            elif self._rates.take(route):
                return self._start(lane, item, now)
            elif not stuck:
                return self._wait_for_permit(lane, item)
        if stuck:
            return Refused(item=item, reason="lane_stuck")
        return self._wait(lane, item)

    def finish(self, ticket: int, now: float, *, took_s: float | None, in_flight: int) -> list[Start[T]]:
        """Take back a ticket and start what waited for it. *took_s* is given when the attempt succeeded."""
        lane = self._lanes[self._route_of.pop(ticket)]
        del lane.started[ticket]
        self._busy -= not lane.started
        self._ended(lane.tenant)
        if took_s is not None:
            lane.learn(took_s)
        return self._start_waiting(lane, now, in_flight, swaps=True)

    def hold(self, route: RouteId) -> None:
        """Gather the route's messages in its lane: the last of its siding are being delivered."""
        self._lane(route).is_held = True
        self._due.discard(route)

    def is_held(self, route: RouteId) -> bool:
        """Whether the route's messages gather in its lane."""
        lane = self._lanes.get(route)
        return lane is not None and lane.is_held

    def release(self, route: RouteId, now: float, *, in_flight: int) -> tuple[list[Start[T]], list[Refused[T]]]:
        """Let a held lane run, as `proceed` does."""
        self._lane(route).is_held = False
        return self.proceed(route, now, in_flight=in_flight)

    def proceed(self, route: RouteId, now: float, *, in_flight: int) -> tuple[list[Start[T]], list[Refused[T]]]:
        """Start what waits in a lane; what nothing would start, or only a permit that is far away, is handed back."""
        lane = self._lane(route)
        starts = self._start_waiting(lane, now, in_flight)
        if lane.started or lane.is_held or route in self._due:
            return starts, [Refused(item=item, reason="rate_limited") for item in self._cut_tail(lane)]
        return starts, [Refused(item=item, reason="no_slot") for item in self.withdraw(route)]

    def withdraw(self, route: RouteId) -> list[T]:
        """Hand back what waits in a lane, which is held no longer: the route is troubled."""
        lane = self._lane(route)
        lane.is_held = False
        self._due.discard(route)
        items = list(lane.waiting)
        lane.waiting.clear()
        self._waiting -= len(items)
        return items

    def withdraw_all(self) -> list[T]:
        """Hand back everything that waits."""
        return [item for lane in self._lanes_at_work() if lane.waiting for item in self.withdraw(lane.route)]

    def stuck_waiting(self, now: float) -> list[tuple[RouteId, list[T]]]:
        """Hand back what waits in lanes that have become stuck: a stuck lane queues nothing."""
        stuck = [lane.route for lane in self._lanes_at_work() if lane.waiting and lane.is_stuck(now, self._limits)]
        return [(route, self.withdraw(route)) for route in stuck]

    def may_go_on(self) -> list[RouteId]:
        """Return the routes whose lane wants to `proceed`: it waited for slots, not only for its own attempts."""
        return [
            lane.route
            for lane in self._lanes_at_work()
            if lane.waiting and lane.started and not lane.is_held and lane.route not in self._due
            if len(lane.started) < self._cap(lane, self._limits.lane_in_flight, stuck=False)
        ]

    def stuck(self, now: float) -> list[RouteId]:
        """Return the routes of the lanes that are stuck, waiting or not."""
        return [lane.route for lane in self._lanes_at_work() if lane.started and lane.is_stuck(now, self._limits)]

    def forgive(self, until: float) -> None:
        """Find no lane stuck before *until*: everybody was out of reach, and now all are tried at once."""
        self._forgiven_until = until
        for lane in self._lanes_at_work():
            lane.started = dict.fromkeys(lane.started, until)

    def slowest_waiting(self) -> list[T]:
        """Hand back what waits in the lane that takes longest: more is held than may be."""
        candidates = [lane for lane in self._lanes_at_work() if lane.waiting]
        if not candidates:
            return []
        return self.withdraw(max(candidates, key=self._slowness_s).route)

    def _slowness_s(self, lane: Lane[T]) -> float:
        usual_s = lane.usual_s or self._limits.stuck_after_s
        return max(usual_s, self._rates.wait_s(lane.route, len(lane.waiting)))

    def _has_slot(self, tenant: TenantId | None) -> bool:
        """Whether the tenant may have one attempt more in flight."""
        free = self._limits.slots - self.in_flight
        return free > self._limits.slots // _KEPT_FREE or self._in_flight_of[tenant] < free

    def _ended(self, tenant: TenantId | None) -> None:
        self._in_flight_of[tenant] -= 1
        if not self._in_flight_of[tenant]:
            del self._in_flight_of[tenant]

    def _cap(self, lane: Lane[T], in_flight: int, *, stuck: bool) -> int:
        busy = max(1, self._busy + (not lane.started))
        share = max(1, min(self._limits.slots // busy, self._limits.lane_in_flight))
        cap = min(share, in_flight)
        return min(cap, self._limits.stuck_in_flight) if stuck else cap

    def _start(self, lane: Lane[T], item: T, now: float) -> Start[T]:
        ticket = next(self._tickets)
        self._busy += not lane.started
        lane.started[ticket] = max(now, self._forgiven_until)
        self._at_work[lane.route] = lane
        self._route_of[ticket] = lane.route
        self._in_flight_of[lane.tenant] += 1
        return Start(ticket=ticket, item=item)

    def _start_waiting(self, lane: Lane[T], now: float, in_flight: int, *, swaps: bool = False) -> list[Start[T]]:
        """Start what waits and may. One that *swaps* has just given back a slot, and never stops for want of one."""
        starts: list[Start[T]] = []
        self._due.discard(lane.route)
        while (
            lane.waiting
            and not lane.is_held
            and (self._has_slot(lane.tenant) or (swaps and not lane.started))
            and len(lane.started) < self._cap(lane, in_flight, stuck=lane.is_stuck(now, self._limits))
        ):
            if not self._rates.take(lane.route):
                self._await_permit(lane)
                break
            self._waiting -= 1
            starts.append(self._start(lane, lane.waiting.popleft(), now))
        return starts

    def _wait(self, lane: Lane[T], item: T) -> Waiting | Refused[T]:
        if self._rates.wait_s(lane.route, len(lane.waiting) + 1) > self._limits.permit_wait_s:
            return Refused(item=item, reason="rate_limited")
        if len(lane.waiting) >= self._limits.lane_waiting:
            return Refused(item=item, reason="rate_limited" if lane.route in self._due else "lane_full")
        lane.waiting.append(item)
        self._at_work[lane.route] = lane
        self._waiting += 1
        return Waiting()

    def _wait_for_permit(self, lane: Lane[T], item: T) -> Waiting | Refused[T]:
        answer = self._wait(lane, item)
        if isinstance(answer, Waiting):
            self._await_permit(lane)
        return answer

    def _await_permit(self, lane: Lane[T]) -> None:
        # Not later than this, though the permit be: the rate may have been edited since the messages began to wait.
        wait_s = min(self._rates.wait_s(lane.route), self._limits.permit_wait_s)
        self._due.put(lane.route, self._rates.now + wait_s)

    def _cut_tail(self, lane: Lane[T]) -> list[T]:
        """Hand back the last messages of a lane that would wait too long for their permits."""
        tail: deque[T] = deque()
        while lane.waiting and self._rates.wait_s(lane.route, len(lane.waiting)) > self._limits.permit_wait_s:
            tail.appendleft(lane.waiting.pop())
            self._waiting -= 1
        if not lane.waiting:
            self._due.discard(lane.route)
        return list(tail)

    def _lanes_at_work(self) -> list[Lane[T]]:
        for lane in [lane for lane in self._at_work.values() if not (lane.started or lane.waiting)]:
            del self._at_work[lane.route]
        return list(self._at_work.values())

    def _lane(self, route: RouteId) -> Lane[T]:
        lane = self._lanes.get(route)
        if lane is None:
            if len(self._lanes) >= _MAX_REMEMBERED:
                self._forget_idle()
            lane = self._lanes[route] = Lane(route=route)
        return lane

    def _forget_idle(self) -> None:
        for route in [route for route, lane in self._lanes.items() if lane.is_idle]:
            del self._lanes[route]
