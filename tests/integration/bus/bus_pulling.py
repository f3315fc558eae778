"""What tests of the pull loop share."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pulse_bus.api import api_request
from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_bus.outgoing import Outgoing
from pulse_bus.provision import consumer_config
from pulse_bus.publisher import Publisher
from pulse_contracts.topology import STORE
from pulse_testkit.nats import Bus

Publish = Callable[..., Awaitable[Publisher]]
Pull = Callable[..., Awaitable[tuple[PullConsumer, asyncio.Task[None]]]]
Info = Callable[[str, str], Awaitable[dict[str, Any]]]


def messages(count: int, *, prefix: str = "m") -> list[Outgoing]:
    return [Outgoing(subject="telemetry.acme.d1.t", data=b"x", message_id=f"{prefix}{n}") for n in range(count)]


async def take(consumer: PullConsumer, count: int, *, timeout_s: float = 10.0) -> list[Incoming]:
    taken: list[Incoming] = []
    async with asyncio.timeout(timeout_s):
        while len(taken) < count:
            taken += await consumer.take(count - len(taken))
    return taken


async def shorten_ack_wait(bus: Bus, seconds: float) -> None:
    config = consumer_config(STORE) | {"ack_wait": int(seconds * 1e9)}
    body = {"stream_name": "TELEMETRY", "config": config, "action": "update"}
    await api_request(bus.control, "CONSUMER.CREATE.TELEMETRY.store.telemetry.>", body)


async def until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float = 10.0) -> None:
    """Ask the server again and again: it does not tell by itself."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            pass


async def is_pending(consumer_info: Info, count: int) -> bool:
    return (await consumer_info("TELEMETRY", "store"))["num_ack_pending"] == count
