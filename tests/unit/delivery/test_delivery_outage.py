import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

from delivery_builders import address
from prometheus_client import CollectorRegistry

from pulse_contracts.ids import TenantId
from pulse_contracts.outcome import Delivered, Failed, Reach
from pulse_delivery.lanes.outage import Outage, Verdict
from pulse_runtime.metrics import DeliveryMetrics
from pulse_testkit.clock import ManualClock

CUT = Failed(error="no route to host", answered=False, reach=Reach.NOWHERE)
ROUTES = [replace(address(f"r-{n}"), tenant=TenantId(f"t-{n % 2}")) for n in range(6)]


@asynccontextmanager
async def held(outage: Outage, clock: ManualClock) -> AsyncGenerator[asyncio.Task[Verdict]]:
    """Cut everybody off; yields the verdict on one more message of the last route, tried in vain each time."""
    for route in ROUTES:
        outage.note(route, CUT)
    assert outage.is_down("webhook")

    async def probe() -> Verdict:
        while (verdict := await outage.verdict(ROUTES[-1], CUT)) is Verdict.PROBE:
            outage.note(ROUTES[-1], CUT)
        return verdict

    async with asyncio.TaskGroup() as group:
        running = group.create_task(outage.run(), name="test.outage")
        message = group.create_task(probe(), name="test.message")
        await clock.advance(0)
        yield message
        message.cancel()
        running.cancel()


async def stall(outage: Outage, clock: ManualClock, seconds: int) -> None:
    for _ in range(seconds):
        outage.stalled("webhook", is_stalled=True)
        await clock.advance(1)


async def test_what_nobody_can_prove_any_more_is_theirs(manual_clock: ManualClock) -> None:
    outage = Outage(manual_clock, DeliveryMetrics(CollectorRegistry()))
    async with held(outage, manual_clock) as message:
        await stall(outage, manual_clock, 10)
        assert not message.done()
        await stall(outage, manual_clock, 1)
        assert await message is Verdict.THEIRS
    assert not outage.is_down("webhook")


async def test_while_more_can_be_taken_somebody_may_still_prove_it(manual_clock: ManualClock) -> None:
    outage = Outage(manual_clock, DeliveryMetrics(CollectorRegistry()))
    async with held(outage, manual_clock) as message:
        await stall(outage, manual_clock, 9)
        outage.stalled("webhook", is_stalled=False)
        await stall(outage, manual_clock, 9)
        assert not message.done()
        assert outage.is_down("webhook")


async def test_an_outage_after_somebody_was_reached_lasts_until_somebody_is_again(manual_clock: ManualClock) -> None:
    outage = Outage(manual_clock, DeliveryMetrics(CollectorRegistry()))
    for route in ROUTES:
        outage.note(route, Delivered())
    await manual_clock.advance(1)
    async with held(outage, manual_clock) as message:
        await stall(outage, manual_clock, 60)
        assert not message.done()
        outage.note(ROUTES[0], Delivered())
        assert await message is Verdict.OVER
