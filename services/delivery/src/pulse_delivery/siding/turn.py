"""A turn: one troubled route served from its siding, gently, until nothing of it waits there.

    probing  --delivered--> growing (1 -> 4 -> 16 in flight) --empty--> closed: back on the fast lane
       ^                        |
       +--- paused by the server <-- a failure

Messages wait for the destination, they do not burn attempts: while it is down only the head is tried.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from pulse_bus.consumer import PullConsumer
from pulse_bus.errors import BusError, BusUnavailable
from pulse_bus.incoming import Incoming
from pulse_contracts.disposition import DeadLetter, ProbeFailed, Settle, Shunt
from pulse_contracts.envelope import InvalidEnvelope
from pulse_contracts.routes import Route
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.adapters.parcels import parcel_of
from pulse_delivery.adapters.route_book import Destination
from pulse_delivery.domain.backoff import pause_s
from pulse_delivery.domain.decide import Attempt, decide, is_overdue, overdue, waits_since
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.roster import Rest
from pulse_delivery.siding.breaker import Breaker
from pulse_delivery.siding.pauses import Pauses
from pulse_delivery.siding.recovery import report_recovery
from pulse_delivery.siding.tools import TurnTools
from pulse_runtime.events import ROUTE_PAUSED, ROUTE_TROUBLED, TURN_ADOPTED
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)
_NEARLY_EMPTY: Final = 32
"""So few waiting, new messages gather in the route's lane until the last of these are delivered …"""
_NEARLY_EMPTY_S: Final = 2.0
"""… unless these need longer than this for their permits: what gathers is held by the process."""
_IDLE_CHECK_S: Final = 0.25
_LOOK_S: Final = 1.0
_REMADE_WITHIN_S: Final = 2.0
"""The jitter of turns whose consumers went all at once, with a restart of the server."""


class Turn:
    """Serves one route. `run` returns when the siding holds nothing of it, when the route is parked, or when told."""

    def __init__(self, address: RouteAddress, tools: TurnTools, *, rest: Rest | None, left_behind: str | None) -> None:
        """*rest* is what is known of the route's breaker; *left_behind* the consumer of a process that is gone."""
        self._address = address
        self._tools = tools
        self._left_behind = left_behind
        self._breaker = Breaker(address, tools.siding, rest=rest, now=tools.clock.now())
        self._pauses = Pauses(address, tools, self._breaker)
        self._in_flight: set[asyncio.Task[None]] = set()
        self._queue = asyncio.Lock()
        """Only the first of the messages that wait for a slot and a permit asks for them."""
        self._finishing = False
        self._expects_one = True
        """Whether the server was asked for a message just now: while it is on its way nothing is to be asked."""
        self._holding = False
        self._succeeded_at: float | None = None
        self._told_to_close: bool | None = None
        """Whether the consumer goes too; None until the turn is told to end."""
        self._trouble: str | None = None
        """Why the turn cannot go on: what the server does not do for it any more."""
        self._is_over = False

    @property
    def consumer(self) -> str | None:
        """The name of the route's consumer while it is there and ours."""
        return self._breaker.consumer

    @property
    def paused_until(self) -> datetime | None:
        """When the pause ends or a permit comes, if the turn only waits: it takes no place from other routes."""
        if self._breaker.pause_until is None and (wait_s := self._tools.gate.permit_wait_s(self._address)):
            return self._tools.clock.now() + timedelta(seconds=wait_s)
        return self._breaker.pause_until

    @property
    def _most_more(self) -> int:
        """So many messages may be tried beside those in flight."""
        if self._in_flight and self._tools.bodies.are_many:
            return 0
        return self._breaker.most_in_flight - len(self._in_flight)

    def leave(self, *, close: bool) -> None:
        """Have `run` return soon; with *close* the consumer goes too, without it is another's."""
        self._told_to_close = close
        self.stir()

    def stir(self) -> None:
        """Have a pause looked at again: the route was edited, an outage has ended, or the process stops."""
        self._pauses.stir()

    def rest(self) -> Rest | None:
        """Return what the next turn of the route has to know, None once there is nothing more to wait for."""
        if self._is_over:
            return None
        jitter = timedelta(seconds=self._tools.random() * _REMADE_WITHIN_S)
        return self._breaker.remembered(self._tools.clock.now() + jitter)

    async def run(self) -> None:
        """Serve the route. May raise `ApiError` or `BusUnavailable`: whoever keeps turns starts another."""
        if not self._left_behind:
            await self._pauses.sit_out_a_moment()
        if self._is_leaving() or not await self._breaker.open(self._left_behind):
            return
        consumer = self._tools.open_consumer(self._breaker.name)
        event = TURN_ADOPTED if self._left_behind else ROUTE_TROUBLED
        _log.info(event, route_id=self._address.route, tenant_id=self._address.tenant)
        try:
            async with asyncio.TaskGroup() as group:
                pulling = group.create_task(consumer.run(), name=f"delivery.turn[{self._address.route}].pull")
                try:
                    await self._serve(consumer, group)
                finally:
                    pulling.cancel()
        finally:
            self._stop_holding(recovered=False)

    async def _serve(self, consumer: PullConsumer, group: asyncio.TaskGroup) -> None:
        while not self._is_leaving():
            if trouble := consumer.trouble or self._trouble:
                await self._finish_in_flight()
                # Held in memory, it does not outlive a restart of the server. The messages do: begin again.
                raise BusUnavailable(trouble)
            if self._tools.book.is_parked(self._address.route):
                await self._park(consumer)
                continue
            if (asked_until := self._tools.troubles.take_rest(self._address)) and not await self._rest(asked_until):
                continue
            if self._breaker.pause_until:
                await self._sit_out(consumer)
                continue
            if consumer.buffered and (most := self._most_more) > 0:
                for message in consumer.take_now(most):
                    self._begin(message, group)
                continue
            if await self._is_done(consumer):
                return
            await self._wait_for_event(consumer)
        # An open pull request looks like life: for as long as the last attempt lasts, nobody would take the route over.
        await self._come_to_rest(consumer)
        if self._told_to_close:
            await self._close()

    async def _close(self) -> None:
        await self._breaker.close()
        # What waits of a parked route is tried again one day.
        self._is_over = not self._tools.book.is_parked(self._address.route)

    async def _rest(self, until: datetime) -> bool:
        """Pause as the destination asked; False if the server does not do it."""
        self._pauses.begin()
        try:
            await self._breaker.rest(until)
        except BusError as exc:
            # Raised here it would cut off the attempts in flight, which may have been delivered all the same.
            self._trouble = str(exc)
            return False
        return True

    def _is_leaving(self) -> bool:
        return self._tools.stopping.is_set() or self._told_to_close is not None

    async def _park(self, consumer: PullConsumer) -> None:
        """End the turn of a route that was disabled, unless it is enabled again by then: its breaker stays as it is."""
        await self._come_to_rest(consumer)
        if self._tools.book.is_parked(self._address.route):
            self.leave(close=True)
        else:
            consumer.set_capacity(1)

    async def _come_to_rest(self, consumer: PullConsumer) -> None:
        """Take nothing any more, and let go of what is here."""
        consumer.set_capacity(0)
        await self._give_back(consumer)
        await self._finish_in_flight()
        await self._give_back(consumer)

    async def _finish_in_flight(self) -> None:
        """Let attempts come to their end: one that is cut off may have been delivered all the same.

        Messages whose attempt has not begun are given back: their permits may be far away.
        """
        self._finishing = True
        try:
            if self._in_flight:
                await asyncio.wait(set(self._in_flight))
        finally:
            self._finishing = False

    def _begin(self, message: Incoming, group: asyncio.TaskGroup) -> None:
        task = group.create_task(self._try(message), name=f"delivery.turn[{self._address.route}].attempt")
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)
        size_bytes = len(message.data)
        self._tools.bodies.took(size_bytes)
        task.add_done_callback(lambda _task: self._tools.bodies.settled(size_bytes))

    async def _wait_for_event(self, consumer: PullConsumer) -> None:
        """Wait until a message arrives, an attempt ends, or it is time to look whether anything is left."""
        if self._most_more <= 0:
            # A probe may last as long as a deadline: what may not be tried beside it is not asked for.
            consumer.set_capacity(0 if self._breaker.most_in_flight == 1 else 1)
            await asyncio.wait(set(self._in_flight), timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if self._most_more > 0:
                consumer.set_capacity(1)
            return
        arrival = asyncio.ensure_future(consumer.arrival())
        try:
            await asyncio.wait({arrival, *self._in_flight}, timeout=_IDLE_CHECK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrival.cancel()

    async def _try(self, message: Incoming) -> None:
        try:
            await self._handle(message)
        except BusError as exc:
            # Raised here it would cut off the other attempts, which may have been delivered all the same.
            self._trouble = str(exc)

    async def _handle(self, message: Incoming) -> None:
        try:
            parcel = parcel_of(message)
        except InvalidEnvelope as exc:
            await self._tools.settler.bury_unreadable(message, str(exc))
            return
        destination = await self._tools.book.wait_for(self._address.route, parcel.revision)
        if destination is None:
            await self._wait_for_revision(message, parcel)
        elif self._tools.attempts.was_delivered(parcel):
            await message.ack()
        elif destination.route.deleted:
            await self._tools.settler.bury_of_deleted(message, parcel, destination.route)
        elif is_overdue(parcel.routed_at, destination.route, self._tools.clock.now()):
            await self._bury_overdue(message, parcel, destination.route)
        else:
            await self._attempt(message, parcel, destination)

    async def _wait_for_revision(self, message: Incoming, parcel: Parcel) -> None:
        now, known = self._tools.clock.now(), self._tools.book.get(self._address.route)
        if known and is_overdue(parcel.routed_at, known.route, now):
            await self._bury_overdue(message, parcel, known.route)
        else:
            await self._fail(message, "the route is not known here yet", now + timedelta(seconds=5))

    async def _bury_overdue(self, message: Incoming, parcel: Parcel, route: Route) -> None:
        """Bury it, if nothing else is in flight with all that is too old: one by one a backlog would take hours."""
        sweeps, is_alone = self._pauses.sweeps, self._breaker.most_in_flight == len(self._in_flight) == 1
        if sweeps.took(message.stream_seq) or (is_alone and await sweeps.takes(message.stream_seq)):
            await message.ack()
        else:
            await self._tools.settler.dead_letter(message, parcel, route, "max_age", overdue(route.policy))

    async def _attempt(self, message: Incoming, parcel: Parcel, destination: Destination) -> None:
        tools, route = self._tools, destination.route
        if not await self._may_begin(message, parcel, destination):
            await message.nak()
            return
        try:
            # A copy of it may have been in flight when this one came.
            result = None if tools.attempts.was_delivered(parcel) else await tools.attempts.make(parcel, destination)
        finally:
            tools.gate.return_slot(self._address)
        if result is None:
            await message.ack()
            return
        heads, came_with = self._breaker.heads, parcel.answered
        parcel = heads.of(parcel).after(result.outcome)
        heads.note(parcel)
        attempt = Attempt(
            answered=parcel.answered,
            routed_at=waits_since(parcel.routed_at, destination.route),
            is_probe=True,
            answered_as_head=parcel.answered - came_with,
            failures=self._breaker.failures,
        )
        disposition = decide(result.outcome, attempt, route.policy, tools.clock.now(), random=tools.random)
        tools.troubles.heed(self._address, disposition)
        match disposition:
            case Settle():
                heads.forget(parcel)
                self._note_success(message.pending)
                await tools.settler.record(parcel, route, result)
                await message.ack()
                await self._breaker.grow(route.policy.in_flight)
            case DeadLetter(reason=reason, error=error):
                tools.gate.was_no_waste()
                await tools.settler.record(parcel, route, result)
                await tools.settler.dead_letter(message, parcel, route, reason, error)
            case Shunt(reason=reason):
                await tools.settler.record(parcel, route, result)
                if await tools.settler.move_to_tail(message, parcel, reason):
                    heads.forget(parcel)
                else:
                    pause = timedelta(seconds=pause_s(self._breaker.failures + 1, route.policy, None, tools.random))
                    await self._fail(message, "no room at the tail", tools.clock.now() + pause)
            case ProbeFailed(pause_until=until, error=error, rest_until=asked_until):
                await tools.settler.record(parcel, route, result)
                await self._fail(message, error, until, asked_until)

    async def _may_begin(self, message: Incoming, parcel: Parcel, destination: Destination) -> bool:
        """Take a slot, while no copy of the message is being attempted; False if nothing is to be begun any more."""
        tools, is_off = self._tools, lambda: self._is_called_off(message, parcel, destination)
        while True:
            # Without a slot: it may last as long as a deadline.
            await tools.attempts.end_of_copy(parcel)
            async with self._queue:
                if not await tools.gate.slot(self._address, is_off, is_probe=self._breaker.failures > 0):
                    return False
            if not tools.attempts.is_in_hand(parcel):
                return True
            tools.gate.return_slot(self._address)

    def _is_called_off(self, message: Incoming, parcel: Parcel, destination: Destination) -> bool:
        """Whether an attempt that has not begun would not be made now; judged afresh when the message comes back."""
        return (
            self._finishing
            or message.has_lapsed
            or self._trouble is not None
            or self._breaker.pause_until is not None
            or self._tools.book.get(self._address.route) is not destination
            or is_overdue(parcel.routed_at, destination.route, self._tools.clock.now())
        )

    def _note_success(self, pending: int) -> None:
        if self._breaker.failures:
            self._tools.gate.was_no_waste()
        if self._succeeded_at is None:
            self._succeeded_at = self._tools.clock.monotonic()
        self._breaker.note_success()
        self._tools.metrics.probes_total.labels(result="ok").inc()
        if self._is_nearly_empty(pending):
            self._hold()

    def _is_nearly_empty(self, waiting: int) -> bool:
        return waiting <= _NEARLY_EMPTY and self._tools.gate.permit_wait_s(self._address, waiting) <= _NEARLY_EMPTY_S

    async def _fail(self, message: Incoming, error: str, until: datetime, asked_until: datetime | None = None) -> None:
        """Have the server pause the route, then give the head back."""
        self._tools.metrics.probes_total.labels(result="failed").inc()
        self._stop_holding(recovered=False)
        until = self._tools.troubles.stretched(self._address, until, self._tools.clock.now())
        if self._breaker.pause_until is None:
            self._pauses.begin()
        if await self._breaker.trip(until, error, asked_until):
            self._succeeded_at = None
            _log.info(ROUTE_PAUSED, route_id=self._address.route, until=until.isoformat(), error=error)
        await message.nak()

    async def _sit_out(self, consumer: PullConsumer) -> None:
        await self._come_to_rest(consumer)
        await self._pauses.sit_out(lambda: self._has_to_end(consumer))
        if not self._has_to_end(consumer):
            await self._breaker.half_open(self._tools.clock.now())
            consumer.set_capacity(1)
            self._expects_one = True

    def _has_to_end(self, consumer: PullConsumer) -> bool:
        return self._is_leaving() or bool(consumer.trouble or self._trouble)

    async def _is_done(self, consumer: PullConsumer) -> bool:
        """Close the turn if nothing of the route is left anywhere on this side."""
        tools = self._tools
        if self._in_flight or consumer.buffered or tools.troubles.is_shunting(self._address) or self._expects_one:
            self._expects_one = False
            return False
        waiting = await tools.siding.waiting_of(self._address)
        if waiting:
            if self._is_nearly_empty(waiting) and not self._breaker.failures:
                self._hold()
            return False
        if tools.troubles.is_shunting(self._address) or consumer.buffered:
            return False
        await self._close()
        # If one more came while the turn was being closed, whoever keeps turns opens another.
        if not tools.troubles.is_shunting(self._address):
            self._stop_holding(recovered=True)
            report_recovery(self._address, self._breaker.since, self._succeeded_at, tools.metrics, tools.clock)
        return True

    def _hold(self) -> None:
        self._holding = True
        self._tools.gate.hold(self._address)

    def _stop_holding(self, *, recovered: bool) -> None:
        if recovered:
            self._tools.gate.release(self._address)
        elif self._holding:
            self._tools.gate.withdraw(self._address, "behind")
        self._holding = False

    @staticmethod
    async def _give_back(consumer: PullConsumer) -> None:
        for message in consumer.take_now(consumer.buffered):
            await message.nak()
