"""Sweeping: has every route that nobody serves swept often enough, whatever the others hold.

    a route is visited every  ROUND_S + VISIT_S x routes that need all of a visit / VISITORS   at the latest

One visit buries one page. A route with more than that waits behind all others for its next, so a large backlog delays
nobody; a route with nothing to bury costs one read. Messages are therefore dead-lettered within a minute of their
`max_age`, as long as fewer than 128 routes take a visit to its bound, which is what happens while the stream takes no
dead letter at all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from pulse_bus.errors import BusError
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.rota import Rota
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)
ROUND_S: Final = 15.0
VISITORS: Final = 16
VISIT_S: Final = 5.0
_TROUBLE_PAUSE_S: Final = 0.5


class Sweeping:
    """Visits routes in rotation. *everybody* names those to be visited; *visit* says whether a route needs another."""

    def __init__(
        self,
        everybody: Callable[[], Iterable[RouteAddress]],
        visit: Callable[[RouteAddress], Awaitable[bool]],
        clock: Clock,
    ) -> None:
        self._everybody = everybody
        self._visit = visit
        self._clock = clock
        self._rota = Rota()
        self._asked_for = asyncio.Event()

    async def run(self) -> None:
        """Visit until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(VISITORS):
                group.create_task(self._visit_in_turn(), name=f"delivery.sweep[{number}]")
            while True:
                self._rota.begin_round(self._everybody())
                self._asked_for.set()
                await self._clock.sleep(ROUND_S)

    async def _visit_in_turn(self) -> None:
        while True:
            while (address := self._rota.next()) is None:
                self._asked_for.clear()
                await self._asked_for.wait()
            is_wanted = await self._is_wanted_again(address)
            self._rota.visited(address, again=is_wanted)

    async def _is_wanted_again(self, address: RouteAddress) -> bool:
        """Visit a route within the bound; return whether it needs another visit before the next round."""
        try:
            # A dead letter is waited for as long as DEADLETTER takes none; the others must not stand still for it.
            async with asyncio.timeout(VISIT_S):
                return await self._visit(address)
        except TimeoutError:
            return False
        except BusError as exc:
            _log.warning("sweep_interrupted", route_id=address.route, error=str(exc))
            await self._clock.sleep(_TROUBLE_PAUSE_S)
            return False
