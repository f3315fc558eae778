"""A message taken while the next ones were being asked for left the consumer idle for a second."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from pulse_bus import consumer as consumer_module
from pulse_bus.consumer import PullConsumer
from pulse_contracts.topology import deliver_consumer
from pulse_runtime.clock import SystemClock
from pulse_testkit.nats import Bus

MESSAGES = 3
CONGESTED_S = 0.2
NO_TICK_S = 60.0
"""Until the consumer would look by itself: longer than the test waits."""


async def test_what_is_taken_while_a_pull_is_on_its_way_is_asked_for_at_once(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    router, delivery = await bus.connect("router"), await bus.connect("delivery")
    for number in range(MESSAGES):
        await router.publish("delivery.webhook.acme.r-1", b"{}", headers={"Nats-Msg-Id": f"m-{number}"})
    consumer = PullConsumer(delivery, "DELIVERY", deliver_consumer("webhook").name, clock=SystemClock(), capacity=1)
    publish, taken = delivery.publish, asyncio.Event()

    async def congested(subject: str, *more: Any, **named: Any) -> None:
        """Return once what was asked for has come and been taken, as behind a full socket."""
        await publish(subject, *more, **named)
        if "MSG.NEXT" in subject:
            with suppress(TimeoutError):
                async with asyncio.timeout(CONGESTED_S):
                    await taken.wait()
            taken.clear()

    monkeypatch.setattr(delivery, "publish", congested)
    monkeypatch.setattr(consumer_module, "_TICK_S", NO_TICK_S)
    pulling = asyncio.create_task(consumer.run(), name="test.pull")
    async with asyncio.timeout(10):
        for _ in range(MESSAGES):
            [message] = await consumer.take(1)
            taken.set()
            await message.ack()
    pulling.cancel()
    await asyncio.wait({pulling})
