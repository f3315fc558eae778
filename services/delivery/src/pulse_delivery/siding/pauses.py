"""The pauses of one turn: nothing is asked for and nobody looks about until they end; a thousand must cost nothing."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pulse_contracts.subjects import RouteAddress
from pulse_delivery.siding.breaker import Breaker
from pulse_delivery.siding.sweep import TurnSweeps
from pulse_delivery.siding.tools import TurnTools

_A_MOMENT_S: Final = 1.0
"""Most first pauses are shorter."""


class Pauses:
    """Waits for their ends, and has dead-lettered what grows too old meanwhile."""

    def __init__(self, address: RouteAddress, tools: TurnTools, breaker: Breaker) -> None:
        self._address = address
        self._tools = tools
        self._breaker = breaker
        self._stirred = asyncio.Event()
        self._began, self._revision = 0.0, 0
        self.begin()
        self.sweeps: TurnSweeps = tools.sweep.of_turn(address, breaker.heads)

    def begin(self) -> None:
        """Note that a pause begins, before anything is awaited for it: an edit of the route from now on ends it."""
        self._began = self._tools.clock.monotonic()
        self._revision = self._tools.book.revision_of(self._address.route)

    def stir(self) -> None:
        """Look again: the route was edited, an outage has ended, or the turn has to go."""
        self._stirred.set()

    async def sit_out_a_moment(self) -> None:
        """Sit out next to nothing of a pause before there is a consumer: the server need not know of it."""
        if self._breaker.pause_until is not None and (left_s := self._left_s()) <= _A_MOMENT_S:
            await self._tools.clock.sleep(max(left_s, 0.0))
            self._breaker.pause_until = None

    async def sit_out(self, is_called_off: Callable[[], bool]) -> None:
        """Wait for the end of the pause; an edit of the route ends it too. May raise what `Sweep.page` raises."""
        self.sweeps.pause()
        while not is_called_off() and self._lasts():
            self._stirred.clear()
            if not await self.sweeps.in_pause() or is_called_off() or not self._lasts():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._left_s(), self.sweeps.wait_s)):
                    await self._stirred.wait()

    def _lasts(self) -> bool:
        tools, route = self._tools, self._address.route
        return (
            self._left_s() > 0
            and tools.book.revision_of(route) == self._revision
            # With the end of an outage on this side everybody may be reached again, and nobody's failures count.
            and not tools.outage.ended_since(self._address.kind, self._began)
        )

    def _left_s(self) -> float:
        until = self._breaker.pause_until
        return (until - self._tools.clock.now()).total_seconds() if until else 0.0
