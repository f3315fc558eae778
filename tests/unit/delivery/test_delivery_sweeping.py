"""That every route is swept within a minute follows from the rotation; time is virtual."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from delivery_builders import address

from pulse_bus.errors import BusUnavailable
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.siding.sweeping import VISIT_S, VISITORS, Sweeping
from pulse_testkit.clock import ManualClock

PROMISED_S = 60.0
OBSERVED_S = 120


class Siding:
    """Routes with so many pages to bury, each of which takes its time."""

    def __init__(self, clock: ManualClock, pages: Mapping[RouteAddress, int], visit_s: float) -> None:
        self.pages = dict(pages)
        self.visited_at: defaultdict[RouteAddress, list[float]] = defaultdict(list)
        self._clock = clock
        self._visit_s = visit_s

    async def visit(self, route: RouteAddress) -> bool:
        self.visited_at[route].append(self._clock.monotonic())
        if self.pages[route]:
            await self._clock.sleep(self._visit_s)
            self.pages[route] -= 1
        return self.pages[route] > 0

    def longest_wait_s(self, route: RouteAddress) -> float:
        moments = [0.0, *self.visited_at[route], float(OBSERVED_S)]
        return max(later - earlier for earlier, later in pairwise(moments))


@asynccontextmanager
async def sweeping(siding: Siding, clock: ManualClock) -> AsyncGenerator[None]:
    task = asyncio.create_task(Sweeping(lambda: siding.pages, siding.visit, clock).run(), name="test.sweeping")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.parametrize(
    ("hogs", "pages", "visit_s"),
    [
        pytest.param(0, 0, 0.0, id="nothing to bury"),
        pytest.param(1, 100_000, 0.3, id="one endless backlog"),
        pytest.param(2 * VISITORS, 100_000, 0.3, id="endless backlogs of more routes than are visited at once"),
        pytest.param(8 * VISITORS, 100_000, VISIT_S, id="as many that take as long as they may"),
    ],
)
async def test_every_route_is_visited_within_a_minute_whatever_the_others_hold(
    manual_clock: ManualClock, hogs: int, pages: int, visit_s: float
) -> None:
    others = {address(f"other-{n}"): 0 for n in range(100)}
    siding = Siding(manual_clock, {**{address(f"hog-{n}"): pages for n in range(hogs)}, **others}, visit_s)
    async with sweeping(siding, manual_clock):
        for _ in range(OBSERVED_S):
            await manual_clock.advance(1)
    assert max(siding.longest_wait_s(route) for route in siding.pages) <= PROMISED_S


async def test_a_long_backlog_alone_is_swept_without_a_pause(manual_clock: ManualClock) -> None:
    siding = Siding(manual_clock, {address("hog"): 100}, 0.25)
    async with sweeping(siding, manual_clock):
        await manual_clock.advance(26)
    assert siding.pages == {address("hog"): 0}


async def test_what_the_server_refuses_is_left_to_the_next_round(manual_clock: ManualClock) -> None:
    siding = Siding(manual_clock, {address("one"): 0, address("other"): 0}, 0)

    async def visit(route: RouteAddress) -> bool:
        await siding.visit(route)
        raise BusUnavailable("no")

    task = asyncio.create_task(Sweeping(lambda: siding.pages, visit, manual_clock).run(), name="test.sweeping")
    await manual_clock.advance(31)
    task.cancel()
    await asyncio.wait({task})
    assert [len(moments) for moments in siding.visited_at.values()] == [3, 3]
