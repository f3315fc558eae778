"""Keeps the turns: reads the siding about once a second and serves every troubled route that nobody serves."""

import asyncio
from collections import Counter
from typing import Final

from pulse_bus.errors import BusError
from pulse_bus.siding import Siding
from pulse_contracts import headers
from pulse_contracts.subjects import RouteAddress, parse_route_address
from pulse_contracts.tokens import InvalidToken
from pulse_delivery.adapters.route_book import RouteBook
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.siding.turn import Turn, TurnTools
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import DeliveryMetrics

_log = get_logger(__name__)
_READ_S: Final = 1.0
_MEASURED_ROUTES: Final = 20
MOST_TURNS: Final = 256
"""Turns at work at once; one that sits out a pause does not count."""
MOST_CONSUMERS: Final = 1000
"""Consumers on the siding at once, paused ones included: below what the stream allows."""


class TurnKeeper:
    """Owns the turns of this process, fairly: first the tenant with the fewest turns, then the longest queue."""

    def __init__(
        self,
        siding: Siding,
        troubles: Troubles,
        book: RouteBook,
        tools: TurnTools,
        *,
        metrics: DeliveryMetrics,
        clock: Clock,
    ) -> None:
        self._siding = siding
        self._troubles = troubles
        self._book = book
        self._tools = tools
        self._metrics = metrics
        self._clock = clock
        self._turns: dict[RouteAddress, asyncio.Task[None]] = {}
        self._working: dict[RouteAddress, Turn] = {}

    async def run(self) -> None:
        """Keep turns until cancelled, which ends them; their consumers stay for whoever comes next."""
        try:
            async with asyncio.TaskGroup() as group:
                while not self._tools.stopping.is_set():
                    await self._look(group)
                    await self._clock.sleep(_READ_S)
                await asyncio.Event().wait()
        finally:
            self._turns.clear()

    async def drain(self) -> None:
        """Start no turn any more and wait until those that run have finished what they have in flight."""
        self._tools.stopping.set()
        if self._turns:
            await asyncio.wait(set(self._turns.values()))

    async def look_first(self) -> None:
        """Know which routes are troubled before the first message is taken; waits until the siding can be read."""
        while not await self._read():
            await self._clock.sleep(_READ_S)

    async def _read(self) -> bool:
        try:
            subjects = await self._siding.waiting()
        except BusError as exc:
            _log.warning("siding_unreadable", error=str(exc))
            return False
        waiting = {address: count for subject, count in subjects.items() if (address := _address(subject))}
        self._troubles.replace(waiting)
        self._metrics.troubled_routes.set(len(waiting))
        return True

    async def _look(self, group: asyncio.TaskGroup) -> None:
        if await self._read():
            await self._measure_oldest()
        waiting = self._troubles.all()
        for address in self._next_turns(waiting):
            task = group.create_task(self._serve(address), name=f"delivery.turn[{address.route}]")
            self._turns[address] = task
        self._metrics.turns_in_use.set(len(self._turns))

    async def _measure_oldest(self) -> None:
        """Show the age of the oldest message in the siding, among the routes with the most waiting."""
        waiting = self._troubles.all()
        longest = sorted(waiting, key=lambda address: -waiting[address])[:_MEASURED_ROUTES]
        oldest_s = 0.0
        try:
            for address in longest:
                head = await self._siding.peek(address)
                routed_at_ms = int(head.headers.get(headers.ROUTED_AT, 0)) if head else 0
                if routed_at_ms:
                    oldest_s = max(oldest_s, self._clock.now().timestamp() - routed_at_ms / 1000)
        except (BusError, ValueError) as exc:
            _log.warning("siding_unreadable", error=str(exc))
            return
        self._metrics.oldest_undelivered_age_seconds.labels(cause="siding").set(oldest_s)

    def _next_turns(self, waiting: dict[RouteAddress, int]) -> list[RouteAddress]:
        working = sum(not turn.is_paused for turn in self._working.values())
        room = min(MOST_TURNS - working, MOST_CONSUMERS - len(self._turns))
        unserved = [address for address in waiting if address not in self._turns and not self._is_parked(address)]
        turns_of = Counter(address.tenant for address in self._turns)
        chosen: list[RouteAddress] = []
        while unserved and len(chosen) < room:
            following = min(unserved, key=lambda address: (turns_of[address.tenant], -waiting[address]))
            unserved.remove(following)
            turns_of[following.tenant] += 1
            chosen.append(following)
        return chosen

    def _is_parked(self, address: RouteAddress) -> bool:
        destination = self._book.get(address.route)
        return destination is not None and not destination.route.enabled and not destination.route.deleted

    async def _serve(self, address: RouteAddress) -> None:
        self._working[address] = turn = Turn(address, self._tools)
        try:
            await turn.run()
        except* BusError as group:
            # The messages are safe in the siding; the next look starts the turn again.
            _log.warning("turn_interrupted", route_id=address.route, error=str(group.exceptions[0]))
        finally:
            self._turns.pop(address, None)
            self._working.pop(address, None)


def _address(subject: str) -> RouteAddress | None:
    try:
        return parse_route_address(subject)
    except InvalidToken:
        return None
