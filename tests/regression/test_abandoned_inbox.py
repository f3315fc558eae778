"""A consumer that ended while nats-server stood still left its inbox behind, and each reconnect subscribed to it anew.

Draining it was cut off after a second, and so nats-py never forgot it. Turns come and go: one that is interrupted by
such a standstill left a subscription and a task for the life of the process.
"""

import asyncio

import httpx

from pulse_bus.consumer import PullConsumer
from pulse_contracts.topology import deliver_consumer
from pulse_runtime.clock import SystemClock
from pulse_testkit.nats import Bus
from pulse_testkit.proxy import TcpProxy

INFO = "$JS.API.STREAM.INFO.DELIVERY"
"""Answered once the server knows of what was subscribed to before."""


async def test_a_consumer_that_ended_during_a_standstill_is_forgotten(bus: Bus) -> None:
    async with TcpProxy(bus.nats.port) as proxy:
        connection = await bus.connect("delivery", port=proxy.port)
        await connection.request(INFO, timeout_s=5)
        before = await _subscriptions(bus)
        consumer = PullConsumer(
            connection, "DELIVERY", deliver_consumer("webhook").name, clock=SystemClock(), capacity=1
        )
        pulling = asyncio.create_task(consumer.run(), name="test.pull")
        await connection.request(INFO, timeout_s=5)
        assert await _subscriptions(bus) == before + 1

        proxy.blackhole()
        pulling.cancel()
        await asyncio.wait({pulling})
        restored = asyncio.Event()
        connection.on_reconnect(restored.set)
        proxy.heal()
        proxy.reset()
        await asyncio.wait_for(restored.wait(), 10)

        await connection.request(INFO, timeout_s=5)
        assert await _subscriptions(bus) == before


async def _subscriptions(bus: Bus) -> int:
    """How many delivery's connection has, as the server counts them."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{bus.nats.monitor_url}/connz")
    [count] = [each["subscriptions"] for each in answer.json()["connections"] if each.get("name") == "pulse-delivery"]
    return count
