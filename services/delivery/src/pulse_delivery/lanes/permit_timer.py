"""Wakes the fast lane when a lane gets the permit that it waits for."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from pulse_contracts.ids import RouteId
from pulse_runtime.clock import Clock


class DueLanes(Protocol):
    """The lanes, as the timer sees them."""

    @property
    def next_due_at(self) -> float | None:
        """When the next lane is due, by the monotonic clock."""
        ...

    def take_due(self) -> list[RouteId]:
        """Return the routes whose lanes are due, once."""
        ...


class PermitTimer:
    """Sleeps until the first lane is due, without end while none waits for a permit."""

    def __init__(self, lanes: DueLanes, clock: Clock, proceed: Callable[[RouteId], None]) -> None:
        """*proceed* is called for each lane when it is due."""
        self._lanes = lanes
        self._clock = clock
        self._proceed = proceed
        self._wakes_at: float | None = None
        self._sooner = asyncio.Event()

    async def run(self) -> None:
        """Call until cancelled."""
        while True:
            for route in self._lanes.take_due():
                self._proceed(route)
            self._wakes_at = due_at = self._lanes.next_due_at
            self._sooner.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due_at is None else due_at - self._clock.monotonic()):
                    await self._sooner.wait()

    def check(self) -> None:
        """Wake earlier if a lane has become due before the moment that is slept for."""
        next_at = self._lanes.next_due_at
        if next_at is not None and (self._wakes_at is None or next_at < self._wakes_at):
            self._sooner.set()
