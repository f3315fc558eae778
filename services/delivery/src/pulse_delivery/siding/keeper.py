"""Keeps the turns: looks about once a second at the siding and at all turns, and does what the roster says."""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from pulse_bus.errors import BusError
from pulse_bus.siding import Siding
from pulse_contracts.ids import RouteId
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import TurnListing
from pulse_delivery.adapters.route_book import RouteBook
from pulse_delivery.domain.roster import Plan, Roster, Serving, after_failure
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.siding.gate import FastLaneGate
from pulse_delivery.siding.oldest import OldestWaiting
from pulse_delivery.siding.roll_call import RollCall
from pulse_delivery.siding.stocktaking import Stocktaking
from pulse_delivery.siding.sweep import Left
from pulse_delivery.siding.tools import TurnTools
from pulse_delivery.siding.turn import Turn
from pulse_runtime.clock import Clock
from pulse_runtime.events import SIDING_UNREADABLE
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import DeliveryMetrics

_log = get_logger(__name__)
_LOOK_S: Final = 1.0
_BLIND_S: Final = 15.0
"""Who has not been able to look for so long, three answers of the server, cannot keep turns."""


class TurnKeeper:
    """Owns the turns of this process."""

    def __init__(
        self,
        siding: Siding,
        troubles: Troubles,
        book: RouteBook,
        tools: TurnTools,
        gate: FastLaneGate,
        *,
        roster: Roster,
        roll_call: RollCall,
        stocktaking: Stocktaking,
        metrics: DeliveryMetrics,
        clock: Clock,
    ) -> None:
        self._siding = siding
        self._stocktaking = stocktaking
        self._troubles = troubles
        self._book = book
        self._tools = tools
        self._gate = gate
        self._metrics = metrics
        self._clock = clock
        self._roster = roster
        self._roll_call = roll_call
        self._turns: dict[RouteAddress, Turn] = {}
        self._tasks: dict[RouteAddress, asyncio.Task[None]] = {}
        self._looked_at = float("-inf")
        self._listed: Mapping[RouteAddress, TurnListing] = {}
        self._being_swept: set[RouteAddress] = set()
        self._oldest = OldestWaiting(siding, lambda address: book.is_parked(address.route), metrics, clock)
        book.on_change(self._stir_edited)
        tools.outage.on_end(self._stir_all)

    @property
    def serves(self) -> bool:
        """Whether what this process holds is in good hands."""
        return self._clock.monotonic() - self._looked_at < _BLIND_S

    async def run(self) -> None:
        """Keep turns until cancelled, which ends them; their consumers stay for whoever comes next."""
        try:
            async with asyncio.TaskGroup() as group:
                while not self._tools.stopping.is_set():
                    await self._look(group)
                    # Uneven: of processes that look in step the first would take every route.
                    await self._clock.sleep(_LOOK_S * (0.75 + self._tools.random() / 2))
                await asyncio.Event().wait()
        finally:
            self._turns.clear()
            self._tasks.clear()

    async def drain(self) -> None:
        """Start no turn any more and wait until those that run have finished what they have in flight."""
        self._tools.stopping.set()
        self._stir_all()
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()))

    async def look_first(self) -> None:
        """Know which routes are troubled before the first message is taken; waits until the siding can be read."""
        while True:
            try:
                await self._read()
            except BusError as exc:
                _log.warning(SIDING_UNREADABLE, error=str(exc))
                await self._clock.sleep(_LOOK_S)
            else:
                return

    async def sweep(self, address: RouteAddress) -> bool:
        """Sweep one page of a route, unless a turn does that; returns whether there may be more to sweep.

        No turn of the route begins meanwhile: nothing of it may be in flight. Parked time does not count.
        """
        if address in self._turns or address in self._listed or self._book.is_parked(address.route):
            return False
        self._being_swept.add(address)
        try:
            return (await self._tools.sweep.page(address)).left is Left.OVERDUE
        finally:
            self._being_swept.discard(address)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        self._gate.stop_following_the_silent()
        try:
            await self._read()
            plan = await self._plan()
            self._looked_at = self._clock.monotonic()
            await self._carry_out(plan, group)
            await self._oldest.measure(self._troubles.all())
            await self._stocktaking.sample()
        except BusError as exc:
            _log.warning(SIDING_UNREADABLE, error=str(exc))
            self._oldest.could_not_look()
        self._metrics.turns_in_use.set(len(self._turns))
        self._metrics.probes_waiting.set(self._gate.probes_waiting)

    async def _read(self) -> None:
        # The answer takes a while: what is shunted meanwhile, or recovers, must not be forgotten for it.
        self._troubles.count_begins()
        self._troubles.replace(await self._stocktaking.count())
        self._metrics.troubled_routes.set(len(self._troubles.all()))

    async def _plan(self) -> Plan:
        # Before the listing is asked for: a turn that is being opened meanwhile need not be in it.
        mine = {
            address: Serving(paused_until=turn.paused_until) for address, turn in self._turns.items() if turn.consumer
        }
        listed = self._listed = await self._roll_call.turns(self._consumers)
        troubled = self._troubles.all()
        parked = {address for address in troubled if self._book.is_parked(address.route)}
        waiting = {address: count for address, count in troubled.items() if address not in parked}
        opening = [address for address in self._turns if address not in mine]
        return self._roster.plan(waiting, listed, mine, self._clock.now(), opening=opening, parked=parked)

    def _consumers(self) -> Mapping[str, RouteAddress]:
        return {turn.consumer: address for address, turn in self._turns.items() if turn.consumer}

    async def _carry_out(self, plan: Plan, group: asyncio.TaskGroup) -> None:
        self._troubles.crowd(plan.crowded)
        for address in plan.leave:
            if turn := self._turns.get(address):
                self._remember(address, turn)
                turn.leave(close=False)
        for address in plan.retire:
            if (turn := self._turns.get(address)) and (rest := turn.rest()):
                self._roster.remember(address, replace(rest, not_before=rest.paused_until or rest.not_before))
                turn.leave(close=True)
        for nth, address in enumerate(plan.open):
            if address not in self._being_swept:
                # One after the other until the next look: all at once are a burst that everybody waits behind.
                self._begin(address, group, wait_s=nth / len(plan.open) * _LOOK_S)
        for address in plan.adopt:
            self._begin(address, group, left_behind=self._listed[address].name)
        for address in plan.clear:
            await self._siding.close_turn(self._listed[address].name)

    def _begin(
        self, address: RouteAddress, group: asyncio.TaskGroup, *, wait_s: float = 0.0, left_behind: str | None = None
    ) -> None:
        failed, rest = self._troubles.take_failure(address), self._roster.recall(address)
        if rest:
            wait_s = 0.0
        elif failed:
            rest = after_failure(failed, self._clock.now())
        turn = Turn(address, self._tools, rest=rest, left_behind=left_behind)
        self._turns[address] = turn
        name = f"delivery.turn[{address.route}]"
        self._tasks[address] = group.create_task(self._serve(address, turn, wait_s), name=name)

    async def _serve(self, address: RouteAddress, turn: Turn, wait_s: float) -> None:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._tools.stopping.wait()
            await turn.run()
        except* BusError as group:
            # The messages are safe in the siding; a look starts the turn again, after a while and half-open.
            _log.warning("turn_interrupted", route_id=address.route, error=str(group.exceptions[0]))
        finally:
            self._remember(address, turn)
            self._turns.pop(address, None)
            self._tasks.pop(address, None)

    def _stir_edited(self, routes: Collection[RouteId]) -> None:
        for address, turn in self._turns.items():
            if address.route in routes:
                turn.stir()

    def _stir_all(self) -> None:
        for turn in self._turns.values():
            turn.stir()

    def _remember(self, address: RouteAddress, turn: Turn) -> None:
        if rest := turn.rest():
            self._roster.remember(address, rest)
