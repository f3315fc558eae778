"""A clock that stands still until a test moves it."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta
from typing import Final

_START: Final = datetime(2026, 1, 5, 12, tzinfo=UTC)
_ROUNDS: Final = 50
"""Turns of the loop after each wake-up: more than any chain of tasks in Pulse needs to reach its next wait."""


class ManualClock:
    """A `pulse_runtime.clock.Clock` whose time passes only in `advance`.

    It knows nothing of sockets: what waits for the network is not settled when `advance` returns.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._start = start
        self._passed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._slept = asyncio.Event()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        return self._passed_s

    @property
    def sleeping(self) -> int:
        """How many tasks wait for the time to pass."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._passed_s + seconds, next(self._order), woken))
        self._slept.set()
        await woken

    async def until_sleeping(self, count: int = 1, *, timeout_s: float = 20.0) -> None:
        """Wait, in real time, until at least *count* tasks sleep; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while self.sleeping < count:
                self._slept.clear()
                await self._slept.wait()

    async def advance(self, seconds: float) -> None:
        """Let *seconds* pass. Sleepers wake in the order of their times, and each sees the time it asked for.

        Whatever a woken task does before its next wait is done before the next sleeper wakes.
        """
        end = self._passed_s + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            wake_at, _, woken = heapq.heappop(self._sleepers)
            if woken.done():  # its task was cancelled
                continue
            self._passed_s = wake_at
            woken.set_result(None)
            await _settle()
        self._passed_s = end
        await _settle()


async def _settle() -> None:
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
