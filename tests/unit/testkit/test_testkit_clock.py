import asyncio
from datetime import timedelta

import pytest

from pulse_runtime.clock import Clock
from pulse_testkit.clock import ManualClock


async def test_time_stands_still_until_it_is_moved(manual_clock: ManualClock) -> None:
    start, reading = manual_clock.now(), manual_clock.monotonic()

    await manual_clock.advance(90)

    assert manual_clock.now() - start == timedelta(seconds=90)
    assert manual_clock.monotonic() - reading == 90


async def test_sleepers_wake_in_the_order_of_their_times_and_each_at_its_own(manual_clock: ManualClock) -> None:
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await manual_clock.sleep(seconds)
        woken.append((name, manual_clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("c", 30), ("a", 10), ("b", 20), ("a2", 10)):
            group.create_task(sleep(name, seconds))
        await manual_clock.advance(25)
        assert woken == [("a", 10), ("a2", 10), ("b", 20)]
        assert manual_clock.sleeping == 1
        await manual_clock.advance(5)

    assert woken[-1] == ("c", 30)


async def test_one_advance_carries_a_task_through_many_sleeps(manual_clock: ManualClock) -> None:
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await manual_clock.sleep(10)
            ticks.append(manual_clock.monotonic())

    task = asyncio.create_task(tick())
    await manual_clock.advance(35)
    task.cancel()

    assert ticks == [10, 20, 30]


async def test_a_sleep_of_nothing_only_yields(manual_clock: ManualClock) -> None:
    await asyncio.wait_for(manual_clock.sleep(0), 1)
    await asyncio.wait_for(manual_clock.sleep(-1), 1)

    assert manual_clock.sleeping == 0


async def test_a_cancelled_sleeper_disturbs_nobody(manual_clock: ManualClock) -> None:
    cancelled = asyncio.create_task(manual_clock.sleep(5))
    other = asyncio.create_task(manual_clock.sleep(6))
    await manual_clock.until_sleeping(2)

    cancelled.cancel()
    await manual_clock.advance(10)

    assert other.done()


async def test_waiting_for_sleepers_is_bounded(manual_clock: ManualClock) -> None:
    with pytest.raises(TimeoutError):
        await manual_clock.until_sleeping(1, timeout_s=0.01)


def test_it_is_a_clock() -> None:
    clock: Clock = ManualClock()

    assert clock.now().utcoffset() == timedelta(0)
