import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.typing import EventDict

from pulse_runtime.clock import SystemClock
from pulse_runtime.watchdog import LoopWatchdog


class LateClock:
    """Wakes each sleeper as late as its script says; when the script is over it sleeps for ever."""

    def __init__(self, *lateness: float) -> None:
        self.time = 100.0
        self.asleep = asyncio.Event()
        self._lateness = iter(lateness)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        late = next(self._lateness, None)
        if late is None:
            self.asleep.set()
            await asyncio.Event().wait()
        else:
            self.time += seconds + late


async def watched(clock: LateClock, reported: list[float]) -> tuple[LoopWatchdog, asyncio.Task[None]]:
    # pytest replaces stderr with something that is no file; nothing is dumped here.
    with Path("/dev/null").open("w") as null:  # noqa: ASYNC230 -- opening it does not block
        watchdog = LoopWatchdog(clock=clock, report=reported.append, dump_after_s=60.0, dump_to=null)
        task = asyncio.create_task(watchdog.run())
        await clock.asleep.wait()
    return watchdog, task


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_lag_is_the_worst_of_the_last_second() -> None:
    reported: list[float] = []
    watchdog, task = await watched(LateClock(0.0, 0.5, 0.25), reported)
    assert reported == pytest.approx([0.0, 0.5, 0.5])
    assert watchdog.lag_s() == pytest.approx(0.5)
    await stopped(task)


async def test_old_lag_is_forgotten_but_stays_in_the_total() -> None:
    watchdog, task = await watched(LateClock(0.5, *[0.0] * 10), [])
    assert watchdog.lag_s() == pytest.approx(0.0)
    assert watchdog.total_lag_s() == pytest.approx(0.5)
    await stopped(task)


async def test_lag_counts_before_the_watchdog_itself_wakes() -> None:
    clock = LateClock()
    watchdog, task = await watched(clock, [])
    clock.time += 2.1
    assert watchdog.lag_s() == pytest.approx(2.0)
    assert watchdog.total_lag_s() == pytest.approx(2.0)
    await stopped(task)


async def test_a_blocked_loop_dumps_its_stacks(tmp_path: Path, logged: list[EventDict]) -> None:
    reported = asyncio.Event()

    def report(lag: float) -> None:
        if lag > 0.2:
            reported.set()

    with (tmp_path / "stacks").open("w") as stacks:
        watchdog = LoopWatchdog(clock=SystemClock(), report=report, dump_after_s=0.2, dump_to=stacks)
        task = asyncio.create_task(watchdog.run())
        await asyncio.sleep(0)
        block_the_loop()
        await reported.wait()
        await stopped(task)
    assert "block_the_loop" in (tmp_path / "stacks").read_text()
    assert [line["event"] for line in logged] == ["event_loop_blocked"]


def block_the_loop() -> None:
    time.sleep(0.5)
