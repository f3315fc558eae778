"""The lanes: who may be attempted now, who waits, who moves to the siding. Synchronous; returns the effects.

Every message offered is in exactly one place: in flight (a ticket), waiting in its lane, or handed back to be
shunted. No lane waits for another: what finds no slot goes to the siding at once.
"""

from dataclasses import dataclass
from itertools import count
from typing import Final, Generic, TypeVar

from pulse_contracts.ids import RouteId
from pulse_delivery.domain.lane import Lane
from pulse_delivery.domain.limits import LaneLimits

T = TypeVar("T")

_MAX_REMEMBERED: Final = 10_000
"""Idle lanes whose usual duration is remembered."""


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
    """All lanes of a process, and the slots they share with the siding's turns."""

    def __init__(self, limits: LaneLimits) -> None:
        self._limits = limits
        self._lanes: dict[RouteId, Lane[T]] = {}
        self._tickets = count(1)
        self._route_of: dict[int, RouteId] = {}
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

    def borrow_slot(self) -> bool:
        """Take a slot for a turn, if one is free; turns together get at most half of them."""
        if self.in_flight >= self._limits.slots or self._borrowed >= max(1, self._limits.slots // 2):
            return False
        self._borrowed += 1
        return True

    def return_slot(self) -> None:
        self._borrowed -= 1

    def offer(self, route: RouteId, item: T, now: float, *, in_flight: int) -> Start[T] | Waiting | Refused[T]:
        """Find a place for *item*. *now* is net of the process's own lag; *in_flight* is the route's own bound."""
        lane = self._lane(route)
        stuck = lane.is_stuck(now, self._limits)
        if lane.is_held:
            return self._wait(lane, item)
        if not lane.waiting and len(lane.started) < self._cap(lane, in_flight, stuck=stuck):
            if self.in_flight >= self._limits.slots:
                return Refused(item=item, reason="no_slot")
            return self._start(lane, item, now)
        if stuck:
            return Refused(item=item, reason="lane_stuck")
        return self._wait(lane, item)

    def finish(self, ticket: int, now: float, *, took_s: float | None, in_flight: int) -> list[Start[T]]:
        """Take back a ticket and start what waited for it. *took_s* is given when the attempt succeeded."""
        lane = self._lanes[self._route_of.pop(ticket)]
        del lane.started[ticket]
        self._busy -= not lane.started
        if took_s is not None:
            lane.learn(took_s)
        return self._start_waiting(lane, now, in_flight)

    def hold(self, route: RouteId) -> None:
        """Gather the route's messages in its lane: the last of its siding are being delivered."""
        self._lane(route).is_held = True

    def release(self, route: RouteId, now: float, *, in_flight: int) -> tuple[list[Start[T]], list[T]]:
        """Let a held lane run. If no slot is free, what gathered is handed back: nothing would ever start it."""
        lane = self._lane(route)
        lane.is_held = False
        starts = self._start_waiting(lane, now, in_flight)
        return starts, [] if lane.started else self.withdraw(route)

    def withdraw(self, route: RouteId) -> list[T]:
        """Hand back what waits in a lane, which is held no longer: the route is troubled."""
        lane = self._lane(route)
        lane.is_held = False
        items = list(lane.waiting)
        lane.waiting.clear()
        self._waiting -= len(items)
        return items

    def withdraw_all(self) -> list[T]:
        """Hand back everything that waits."""
        return [item for lane in list(self._lanes.values()) if lane.waiting for item in self.withdraw(lane.route)]

    def stuck_waiting(self, now: float) -> list[tuple[RouteId, list[T]]]:
        """Hand back what waits in lanes that have become stuck: a stuck lane queues nothing."""
        stuck = [lane.route for lane in self._lanes.values() if lane.waiting and lane.is_stuck(now, self._limits)]
        return [(route, self.withdraw(route)) for route in stuck]

    def stuck(self, now: float) -> list[RouteId]:
        """Return the routes of the lanes that are stuck, waiting or not."""
        return [lane.route for lane in self._lanes.values() if lane.started and lane.is_stuck(now, self._limits)]

    def forgive(self, until: float) -> None:
        """Find no lane stuck before *until*: everybody was out of reach, and now all are tried at once."""
        self._forgiven_until = until
        for lane in self._lanes.values():
            lane.started = dict.fromkeys(lane.started, until)

    def slowest_waiting(self) -> list[T]:
        """Hand back what waits in the lane that takes longest: more is held than may be."""
        candidates = [lane for lane in self._lanes.values() if lane.waiting]
        if not candidates:
            return []
        return self.withdraw(max(candidates, key=lambda lane: lane.usual_s or self._limits.stuck_after_s).route)

    def _cap(self, lane: Lane[T], in_flight: int, *, stuck: bool) -> int:
        busy = max(1, self._busy + (not lane.started))
        share = max(1, min(self._limits.slots // busy, self._limits.lane_in_flight))
        cap = min(share, in_flight)
        return min(cap, self._limits.stuck_in_flight) if stuck else cap

    def _start(self, lane: Lane[T], item: T, now: float) -> Start[T]:
        ticket = next(self._tickets)
        self._busy += not lane.started
        lane.started[ticket] = max(now, self._forgiven_until)
        self._route_of[ticket] = lane.route
        return Start(ticket=ticket, item=item)

    def _start_waiting(self, lane: Lane[T], now: float, in_flight: int) -> list[Start[T]]:
        starts: list[Start[T]] = []
        while (
            lane.waiting
            and not lane.is_held
            and self.in_flight < self._limits.slots
            and len(lane.started) < self._cap(lane, in_flight, stuck=lane.is_stuck(now, self._limits))
        ):
            self._waiting -= 1
            starts.append(self._start(lane, lane.waiting.popleft(), now))
        return starts

    def _wait(self, lane: Lane[T], item: T) -> Waiting | Refused[T]:
        if len(lane.waiting) >= self._limits.lane_waiting:
            return Refused(item=item, reason="lane_full")
        lane.waiting.append(item)
        self._waiting += 1
        return Waiting()

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
