"""The dead-letter writer, when there is nowhere to write to."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
import structlog
from delivery_yard import Yard, open_yard
from support.waiting import eventually

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.topology import DEAD_LETTER_WRITER
from pulse_delivery.adapters.parcels import parcel_of
from pulse_delivery.writers.dead_letters import dead_letter_writer
from pulse_runtime.clock import SystemClock
from pulse_storage.pool import open_pool
from pulse_testkit.nats import Bus

ONE = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("r-1"))


@pytest.fixture
async def yard(bus: Bus) -> AsyncGenerator[Yard]:
    async with open_yard(bus) as opened:
        yield opened


async def test_dead_letters_that_postgresql_does_not_take_are_told_by_the_predecessors_name(yard: Yard) -> None:
    for message in await yard.arrive(ONE, 2):
        await yard.settler.dead_letter(message, parcel_of(message), None, "status_400", "answered 400")
    consumer = yard.pull("DEADLETTER", DEAD_LETTER_WRITER.name)
    consumer.set_capacity(10)
    async with open_pool("postgresql://127.0.0.1:1/pulse", service="test") as pool:
        writer = dead_letter_writer(consumer, pool, SystemClock())
        tasks = {asyncio.create_task(work, name="test.writer") for work in (consumer.run(), writer.run())}
        with structlog.testing.capture_logs() as events:
            await eventually(lambda: [event for event in events if event["event"] == "dlq_write_failed"])
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    told = next(event for event in events if event["event"] == "dlq_write_failed")
    assert (told["route_id"], told["tenant_id"]) == ("r-1", "acme")
    assert told["rows"] >= 1
    assert told["error"]
    assert len(await yard.dead()) == 2, "they wait in their stream"
