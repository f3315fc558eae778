"""The fast lane: takes messages off DELIVERY, gives each one attempt or moves it to the siding at once."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from random import random
from typing import Any, Final, assert_never

from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_contracts.disposition import DeadLetter, Disposition, ProbeFailed, Settle, Shunt
from pulse_contracts.envelope import InvalidEnvelope
from pulse_contracts.ids import RouteId
from pulse_contracts.outcome import Delivered, Reach
from pulse_contracts.routes import Route
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.adapters.attempts import Attempts
from pulse_delivery.adapters.parcels import parcel_of
from pulse_delivery.adapters.route_book import Destination, RouteBook
from pulse_delivery.adapters.settler import Settler
from pulse_delivery.domain.decide import Attempt, decide, is_overdue, overdue, waits_since
from pulse_delivery.domain.holding import Holding, Load
from pulse_delivery.domain.lanes import Lanes, Refused, Start, Waiting
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.result import Result
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.domain.uplink import reach_of
from pulse_delivery.lanes.outage import Outage, Verdict
from pulse_delivery.lanes.permit_timer import PermitTimer
from pulse_runtime import failpoints
from pulse_runtime.clock import Clock
from pulse_runtime.metrics import DeliveryMetrics

_TAKE: Final = 256
_TICK_S: Final = 0.1
_FORGIVEN_S: Final = 5.0
"""So long after an outage no lane is stuck: the kernel repeats an unanswered SYN rarely, and the crowd is large."""
_TRICKLE: Final = 8
"""So many messages are taken a tick while no destination can be reached."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """A message in the fast lane."""

    message: Incoming
    parcel: Parcel
    destination: Destination


class FastLane:
    """Runs the lanes. Every message taken is settled: attempted once, shunted, or dead-lettered."""

    def __init__(
        self,
        consumers: Mapping[str, PullConsumer],
        *,
        lanes: Lanes[Held],
        limits: LaneLimits,
        troubles: Troubles,
        book: RouteBook,
        attempts: Attempts,
        settler: Settler,
        outage: Outage,
        metrics: DeliveryMetrics,
        clock: Clock,
        lag_s: Callable[[], float],
    ) -> None:
        self._consumers = consumers
        self._lanes = lanes
        self._limits = limits
        self._troubles = troubles
        self._book = book
        self._attempts = attempts
        self._settler = settler
        self._outage = outage
        outage.on_end(lambda: lanes.forgive(self._now() + _FORGIVEN_S))
        self._metrics = metrics
        self._clock = clock
        self._timer = PermitTimer(lanes, clock, self._proceed)
        self._lag_s = lag_s
        self._rest = troubles.rest
        self._holding = Holding(limits, consumers)
        self._tasks: asyncio.TaskGroup | None = None
        self._settled = asyncio.Event()
        self._draining = False

    def on_rest(self, callback: Callable[[RouteAddress, datetime], None]) -> None:
        """Call *callback* when a destination asks not to be tried before a moment, and it goes to the siding."""
        self._rest = callback

    async def run(self) -> None:
        """Deliver until cancelled. A failure of this code ends the process: the messages come again."""
        async with asyncio.TaskGroup() as self._tasks:
            for kind, consumer in self._consumers.items():
                self._tasks.create_task(self._take_from(kind, consumer), name=f"delivery.take[{consumer.name}]")
            self._tasks.create_task(self._outage.run(), name="delivery.outage")
            self._tasks.create_task(self._timer.run(), name="delivery.permits")
            while True:
                self._tend()
                await self._clock.sleep(_TICK_S)

    @property
    def unsettled(self) -> int:
        """Messages taken and not settled yet; if the process ends now they come again."""
        return self._holding.held.messages

    async def drain(self) -> None:
        """Take nothing more, give back what waits, and wait until what is in flight is settled."""
        self._draining = True
        self._outage.drain()
        for consumer in self._consumers.values():
            consumer.set_capacity(0)
        for item in self._lanes.withdraw_all():
            self._spawn(item.message.nak(), item.message)
        while self.unsettled:
            self._settled.clear()
            await self._settled.wait()

    def release(self, address: RouteAddress) -> None:
        """Run what gathered in the route's lane, unless it is troubled: then it goes behind the others."""
        if self._troubles.is_troubled(address):
            self.withdraw(address, "behind")
            return
        in_flight = self._in_flight_of(address.route)
        self._carry_on(*self._lanes.release(address.route, self._now(), in_flight=in_flight))

    def withdraw(self, address: RouteAddress, reason: str) -> None:
        """The route is troubled: what waits in its lane goes behind the others in the siding."""
        for item in self._lanes.withdraw(address.route):
            self._shunt(item, reason)

    async def _take_from(self, kind: str, consumer: PullConsumer) -> None:
        while True:
            is_trickling = self._outage.is_down(kind)
            for message in await consumer.take(_TRICKLE if is_trickling else _TAKE):
                self._count(message)
                self._admit(message)
            self._limit_pulling()
            # A burst must not keep the loop from the attempts in flight.
            await self._clock.sleep(_TICK_S if is_trickling else 0)

    def _count(self, message: Incoming) -> None:
        """Take *message* as unsettled; a task of ours settles it."""
        self._holding.took(_kind_of(message), len(message.data))

    def _admit(self, message: Incoming) -> None:
        try:
            parcel = parcel_of(message)
        except InvalidEnvelope as exc:
            self._spawn(self._settler.bury_unreadable(message, str(exc)), message)
            return
        destination = self._book.get(parcel.address.route, parcel.revision)
        if destination is None:
            self._spawn(self._look_up(message, parcel), None)
        else:
            self._place(Held(message=message, parcel=parcel, destination=destination))

    def _place(self, item: Held) -> None:
        route = item.destination.route
        if self._draining:
            self._spawn(item.message.nak(), item.message)
        elif self._attempts.was_delivered(item.parcel):
            self._spawn(item.message.ack(), item.message)
        elif route.deleted:
            self._spawn(self._settler.bury_of_deleted(item.message, item.parcel, route), item.message)
        elif not route.enabled:
            self._shunt(item, "parked")
        elif is_overdue(item.parcel.routed_at, route, self._clock.now()):
            self._spawn(
                self._settler.dead_letter(item.message, item.parcel, route, "max_age", overdue(route.policy)),
                item.message,
            )
        elif self._troubles.is_troubled(item.parcel.address) and not self._lanes.is_held(route.route_id):
            self._shunt(item, "behind")
        else:
            self._offer(item)

    def _offer(self, item: Held) -> None:
        route, now = item.destination.route, self._now()
        in_flight = route.policy.in_flight
        match self._lanes.offer(route.route_id, item, now, tenant=route.tenant_id, in_flight=in_flight):
            case Start() as start:
                self._start([start])
            case Waiting():
                self._timer.check()
            case Refused(reason=reason):
                self._refuse(item, reason)

    def _proceed(self, route: RouteId) -> None:
        """The lane has the permit that it waited for."""
        self._carry_on(*self._lanes.proceed(route, self._now(), in_flight=self._in_flight_of(route)))

    def _in_flight_of(self, route: RouteId) -> int:
        destination = self._book.get(route)
        return destination.route.policy.in_flight if destination else 1

    def _carry_on(self, starts: Sequence[Start[Held]], refused: Sequence[Refused[Held]]) -> None:
        self._start(starts)
        for each in refused:
            self._refuse(each.item, each.reason)
        self._timer.check()

    def _refuse(self, item: Held, reason: str) -> None:
        """Move what has no room to the siding, unless its destination is out of reach for a reason of ours."""
        if reason != "rate_limited" and self._outage.is_down(item.parcel.address.kind):
            self._spawn(self._see_through(item, None), item.message)
        else:
            self._shunt(item, reason)

    async def _look_up(self, message: Incoming, parcel: Parcel) -> None:
        """Wait for a route that the router saw first; one that stays unknown waits in the siding, never dies."""
        destination = await self._book.wait_for(parcel.address.route, parcel.revision)
        if destination:
            self._place(Held(message=message, parcel=parcel, destination=destination))
        else:
            self._spawn(self._settler.shunt(message, parcel, None, "route_unknown"), message)

    def _start(self, starts: Sequence[Start[Held]]) -> None:
        for start in starts:
            self._spawn(self._attempt(start), start.item.message)

    async def _attempt(self, start: Start[Held]) -> None:
        item = start.item
        if item.message.has_lapsed:
            item.message.abandon()
            self._finish(start, None)
            return
        if self._attempts.was_delivered(item.parcel):
            # A copy, which came while the first was in flight.
            self._finish(start, None)
            await item.message.ack()
            return
        if self._attempts.is_in_hand(item.parcel):
            self._finish(start, None)
            await self._attempts.end_of_copy(item.parcel)
            self._count(item.message)
            self._place(self._afresh(item))
            return
        took_s: float | None = None
        try:
            result = await self._attempts.make(item.parcel, item.destination)
            took_s = result.took_s if isinstance(result.outcome, Delivered) else None
            if reach_of(result.outcome) is Reach.NOWHERE:
                # What waits behind it would only meet the same.
                self._lanes.hold(item.destination.route.route_id)
        finally:
            self._finish(start, took_s)
        await self._see_through(item, result)

    async def _see_through(self, item: Held, result: Result | None) -> None:
        """Settle an attempt whose *result* is the destination's own; in an outage, offer the message again after it.

        Without a result the message has not been tried: there was no room for it in an outage.
        """
        address = item.parcel.address
        is_suspect = result is not None and reach_of(result.outcome) is Reach.NOWHERE
        while (verdict := await self._outage.verdict(address, result.outcome if result else None)) is Verdict.PROBE:
            await self._attempts.end_of_copy(item.parcel)
            item = self._afresh(item)
            if self._is_called_off(item):
                break
            # Everybody waits for what it finds out, so it does not wait for a permit.
            self._lanes.owe_permit(address.route)
            result = await self._attempts.make(item.parcel, item.destination)
        if result is not None and verdict is Verdict.THEIRS:
            await self._settle(item, result, is_suspect=is_suspect)
            return
        self._count(item.message)
        if is_suspect:
            self.release(address)
        self._place(self._afresh(item))

    def _is_called_off(self, item: Held) -> bool:
        """Whether what was held in an outage is not to be tried any more."""
        route, was_delivered = item.destination.route, self._attempts.was_delivered(item.parcel)
        return was_delivered or not route.enabled or route.deleted or item.message.has_lapsed

    def _finish(self, start: Start[Held], took_s: float | None) -> None:
        in_flight = start.item.destination.route.policy.in_flight
        self._start(self._lanes.finish(start.ticket, self._now(), took_s=took_s, in_flight=in_flight))
        self._timer.check()

    def _afresh(self, item: Held) -> Held:
        """Return the message with its route as it is now: an outage may last, and an operator edit it."""
        destination = self._book.get(item.parcel.address.route, item.parcel.revision)
        return replace(item, destination=destination) if destination else item

    async def _settle(self, item: Held, result: Result, *, is_suspect: bool) -> None:
        route = item.destination.route
        parcel = item.parcel.after(result.outcome)
        attempt = Attempt(answered=parcel.answered, routed_at=waits_since(parcel.routed_at, route))
        disposition = decide(result.outcome, attempt, route.policy, self._clock.now(), random=random)
        if isinstance(disposition, Shunt):
            # Before anything is awaited: from here on the route is troubled, and what waits goes behind.
            self._troubles.shunt_begins(parcel.address)
            self.withdraw(parcel.address, "behind")
            if disposition.failed:
                self._troubles.note_failure(parcel.address, disposition.failed)
            if disposition.rest_until:
                self._rest(parcel.address, disposition.rest_until)
        elif is_suspect:
            self.release(parcel.address)
        try:
            await self._settler.record(parcel, route, result)
            failpoints.hit("delivery.after_record")
            await self._carry_out(disposition, item.message, parcel, route)
        finally:
            if isinstance(disposition, Shunt):
                # Of its own, a shunt that found no room leaves no trouble.
                self._troubles.shunt_ends(parcel.address, waits=False)

    async def _carry_out(self, disposition: Disposition, message: Incoming, parcel: Parcel, route: Route) -> None:
        match disposition:
            case Settle():
                await message.ack()
            case Shunt(reason=reason):
                await self._settler.shunt(message, parcel, route, reason)
            case DeadLetter(reason=reason, error=error):
                await self._settler.dead_letter(message, parcel, route, reason, error)
            case ProbeFailed():
                raise AssertionError(f"not for the fast lane: {disposition}")
            case _:
                assert_never(disposition)

    def _shunt(self, item: Held, reason: str) -> None:
        self._spawn(self._settler.shunt(item.message, item.parcel, item.destination.route, reason), item.message)

    def _spawn(self, work: Coroutine[Any, Any, None], message: Incoming | None) -> None:
        """Do *work* in a task of ours; *message* is settled by the end of it."""
        if self._tasks is None:
            work.close()
            raise RuntimeError("the fast lane does not run")
        task = self._tasks.create_task(work)
        if message is not None:
            task.add_done_callback(lambda _task: self._account(message))

    def _account(self, message: Incoming) -> None:
        self._holding.settled(_kind_of(message), len(message.data))
        self._settled.set()

    def _tend(self) -> None:
        """Every tick: shunt what waits in stuck lanes, keep under the bounds, show the figures."""
        for route in self._lanes.stuck(self._now()):
            if destination := self._book.get(route):
                self._outage.suspect(destination.route.address)
        for _, items in self._lanes.stuck_waiting(self._now()):
            for item in items:
                self._refuse(item, "lane_stuck")
        self._give_way()
        for route in self._lanes.may_go_on():
            self._proceed(route)
        self._limit_pulling()
        self._metrics.lanes_busy.set(self._lanes.busy)
        self._metrics.slots_in_use.set(self._lanes.in_flight)
        held = self._holding.held
        self._metrics.held_messages.set(held.messages + sum(consumer.buffered for consumer in self._consumers.values()))
        self._metrics.held_bytes.set(held.size_bytes)

    def _give_way(self) -> None:
        """Hand back what waits in the slowest lanes before it takes the room of what comes for the others."""
        excess = self._holding.excess(self._lanes.held)
        while excess > 0 and (items := self._lanes.slowest_waiting()):
            for item in items:
                self._refuse(item, "held_limit")
            excess -= len(items)

    def _limit_pulling(self) -> None:
        if self._draining:
            return
        forgiven_since = self._clock.monotonic() - _FORGIVEN_S
        for kind, consumer in self._consumers.items():
            is_down, was_down = self._outage.is_down(kind), self._outage.ended_since(kind, forgiven_since)
            room = self._holding.room(kind, self._promised(), is_down=is_down, was_down=was_down)
            prefetch = _TRICKLE if is_down else self._limits.prefetch
            consumer.set_capacity(min(prefetch, room.messages), room.size_bytes)
            self._outage.stalled(kind, is_stalled=is_down and not consumer.promised[0])

    def _promised(self) -> dict[str, Load]:
        promised = {kind: consumer.promised for kind, consumer in self._consumers.items()}
        return {kind: Load(messages=messages, size_bytes=size) for kind, (messages, size) in promised.items()}

    def _now(self) -> float:
        """Monotonic time net of the process's own lag: a frozen process does not find its routes stuck."""
        return self._clock.monotonic() - self._lag_s()


def _kind_of(message: Incoming) -> str:
    """Return the kind, which each consumer's filter names."""
    return message.subject.split(".", 2)[1]
