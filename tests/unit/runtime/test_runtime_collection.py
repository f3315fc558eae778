"""Full garbage collections: none by itself, one every ten minutes."""

import asyncio
import gc
from collections.abc import Generator

import pytest

from pulse_runtime.collection import collect_now_and_then, collect_seldom
from pulse_testkit.clock import ManualClock

MANY = 400_000
"""Objects that stay: full collections come several times while so many are made."""


@pytest.fixture
def _as_before() -> Generator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def _full_collections_while_growing() -> int:
    before = gc.get_stats()[2]["collections"]
    kept = [[number] for number in range(MANY)]
    assert len(kept) == MANY
    return gc.get_stats()[2]["collections"] - before


@pytest.mark.usefixtures("_as_before")
def test_a_growing_process_is_not_stopped_by_a_full_collection() -> None:
    gc.freeze()
    assert _full_collections_while_growing() > 0

    collect_seldom()
    assert _full_collections_while_growing() == 0


async def test_everything_is_looked_through_every_ten_minutes() -> None:
    clock = ManualClock()
    collections: list[float] = []
    task = asyncio.create_task(collect_now_and_then(clock, lambda: collections.append(clock.monotonic())))
    began = clock.monotonic()
    for _ in range(3):
        await clock.until_sleeping()
        await clock.advance(600)
    task.cancel()
    assert [at - began for at in collections] == [600, 1200, 1800]
