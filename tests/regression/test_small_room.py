"""A consumer with little room, bounded in bytes too, pulled once a second."""

import asyncio

import pytest

from pulse_bus import consumer as consumer_module
from pulse_bus.consumer import PullConsumer
from pulse_contracts.topology import deliver_consumer
from pulse_runtime.clock import SystemClock
from pulse_testkit.nats import Bus

MESSAGES, ROOM = 100, 20
NO_TICK_S = 60.0
"""Until the consumer would look by itself: longer than the test waits."""


async def test_a_pull_that_brought_all_it_asked_for_is_followed_by_another_at_once(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "_TICK_S", NO_TICK_S)
    router, delivery = await bus.connect("router"), await bus.connect("delivery")
    for number in range(MESSAGES):
        await router.publish("delivery.webhook.acme.r-1", b"{}", headers={"Nats-Msg-Id": f"m-{number}"})
    consumer = PullConsumer(delivery, "DELIVERY", deliver_consumer("webhook").name, clock=SystemClock(), capacity=ROOM)
    consumer.set_capacity(ROOM, 5_000_000)
    pulling = asyncio.create_task(consumer.run(), name="test.pull")
    taken = 0
    async with asyncio.timeout(20):
        while taken < MESSAGES:
            for message in await consumer.take(ROOM):
                taken += 1
                await message.ack()
    pulling.cancel()
    await asyncio.wait({pulling})
