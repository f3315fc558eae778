"""A consumer with little room, bounded in bytes too, pulled once a second."""

import asyncio
import time

from pulse_bus.consumer import PullConsumer
from pulse_contracts.topology import deliver_consumer
from pulse_runtime.clock import SystemClock
from pulse_testkit.nats import Bus

MESSAGES, ROOM = 100, 20
MOST_S = 2.0


async def test_a_pull_that_brought_all_it_asked_for_is_followed_by_another_at_once(bus: Bus) -> None:
    router, delivery = await bus.connect("router"), await bus.connect("delivery")
    for number in range(MESSAGES):
        await router.publish("delivery.webhook.acme.r-1", b"{}", headers={"Nats-Msg-Id": f"m-{number}"})
    consumer = PullConsumer(delivery, "DELIVERY", deliver_consumer("webhook").name, clock=SystemClock(), capacity=ROOM)
    consumer.set_capacity(ROOM, 5_000_000)
    pulling = asyncio.create_task(consumer.run(), name="test.pull")
    began, taken = time.monotonic(), 0
    async with asyncio.timeout(20):
        while taken < MESSAGES:
            for message in await consumer.take(ROOM):
                taken += 1
                await message.ack()
    took_s = time.monotonic() - began
    pulling.cancel()
    await asyncio.wait({pulling})
    assert took_s < MOST_S
