import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.routes import Rate
from pulse_delivery.domain.lanes import Lanes
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.rates import Rates
from pulse_delivery.lanes.permit_timer import PermitTimer
from pulse_runtime.clock import SystemClock

TENANT = TenantId("acme")
SOON, LATE = RouteId("soon"), RouteId("late")
RATES = {SOON: Rate(per_s=50, burst=1), LATE: Rate(per_s=0.5, burst=1)}
WITHIN_S = 1.0


class Timed:
    """Lanes whose permits a timer watches."""

    def __init__(self) -> None:
        self.lanes: Lanes[int] = Lanes(LaneLimits(), Rates(RATES.get, time.monotonic))
        self.timer = PermitTimer(self.lanes, SystemClock(), self._proceed)
        self.called: asyncio.Queue[RouteId] = asyncio.Queue()

    def offer_two(self, route: RouteId) -> None:
        for item in range(2):
            self.lanes.offer(route, item, 0.0, tenant=TENANT, in_flight=16)
        self.timer.check()

    def _proceed(self, route: RouteId) -> None:
        self.lanes.proceed(route, 0.0, in_flight=16)
        self.called.put_nowait(route)


@asynccontextmanager
async def running() -> AsyncGenerator[Timed, None]:
    timed = Timed()
    task = asyncio.create_task(timed.timer.run(), name="test.timer")
    await asyncio.sleep(0)
    try:
        yield timed
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_lane_is_called_when_its_permit_is_due_and_not_before() -> None:
    async with running() as timed:
        began = time.monotonic()
        timed.offer_two(SOON)
        async with asyncio.timeout(WITHIN_S):
            assert await timed.called.get() == SOON
        assert time.monotonic() - began > 0.019
        assert timed.lanes.next_due_at is None


async def test_a_lane_that_is_due_first_is_called_first_whoever_came_first() -> None:
    async with running() as timed:
        timed.offer_two(LATE)
        await asyncio.sleep(0)
        timed.offer_two(SOON)
        async with asyncio.timeout(WITHIN_S):
            assert await timed.called.get() == SOON
        assert timed.called.empty()


async def test_each_that_waits_in_a_lane_is_called_for_in_its_turn() -> None:
    async with running() as timed:
        timed.offer_two(SOON)
        timed.lanes.offer(SOON, 3, 0.0, tenant=TENANT, in_flight=16)
        async with asyncio.timeout(WITHIN_S):
            assert [await timed.called.get() for _ in range(2)] == [SOON, SOON]
        assert timed.lanes.in_flight == 3
