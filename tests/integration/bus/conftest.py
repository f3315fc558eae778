import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pulse_bus.api import api_request
from pulse_bus.connection import Connection
from pulse_bus.consumer import PullConsumer
from pulse_bus.publisher import Publisher
from pulse_runtime.clock import SystemClock
from pulse_runtime.metrics import BusMetrics
from pulse_testkit.background import running
from pulse_testkit.nats import Bus


@pytest.fixture
async def owned() -> AsyncGenerator[AsyncExitStack]:
    """Ends what a test started."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def publisher(owned: AsyncExitStack) -> Callable[..., Awaitable[Publisher]]:
    """Starts a publisher to a stream."""

    async def start(connection: Connection, stream: str, **options: Any) -> Publisher:
        chosen: dict[str, Any] = {"clock": SystemClock(), "metrics": BusMetrics(CollectorRegistry()), **options}
        made = Publisher(connection, stream, **chosen)
        await owned.enter_async_context(running(made.run()))
        return made

    return start


@pytest.fixture
def consumer(owned: AsyncExitStack) -> Callable[..., Awaitable[tuple[PullConsumer, asyncio.Task[None]]]]:
    """Starts to pull from a durable consumer."""

    async def start(
        connection: Connection, stream: str, name: str, **options: Any
    ) -> tuple[PullConsumer, asyncio.Task[None]]:
        chosen: dict[str, Any] = {"clock": SystemClock(), "capacity": 100, **options}
        made = PullConsumer(connection, stream, name, **chosen)
        return made, await owned.enter_async_context(running(made.run()))

    return start


@pytest.fixture
def stream_state(bus: Bus) -> Callable[[str], Awaitable[dict[str, Any]]]:
    async def read(stream: str) -> dict[str, Any]:
        info = await api_request(bus.control, f"STREAM.INFO.{stream}")
        return info["state"]

    return read


@pytest.fixture
def consumer_info(bus: Bus) -> Callable[[str, str], Awaitable[dict[str, Any]]]:
    async def read(stream: str, name: str) -> dict[str, Any]:
        return await api_request(bus.control, f"CONSUMER.INFO.{stream}.{name}")

    return read
