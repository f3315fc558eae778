import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pulse_bus import reaper as reaper_module
from pulse_bus.api import api_request
from pulse_bus.connection import Connection
from pulse_bus.consumer import PullConsumer
from pulse_bus.errors import ApiError
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_bus.reaper import Reaper
from pulse_contracts.topology import ROUTER, STORE
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import Bus

Publish = Callable[..., Awaitable[Publisher]]
Pull = Callable[..., Awaitable[tuple[PullConsumer, asyncio.Task[None]]]]
State = Callable[[str], Awaitable[dict[str, Any]]]
Info = Callable[[str, str], Awaitable[dict[str, Any]]]

KEPT = 10


@pytest.fixture(autouse=True)
def _keep_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper_module, "KEEP", KEPT)


@pytest.fixture
async def ingest(bus: Bus, publisher: Publish) -> Connection:
    """A connection that may reap a stream of 100 messages."""
    connection = await bus.connect("ingest")
    committer = await publisher(connection, "TELEMETRY")
    await committer.publish(
        *(Outgoing(subject="telemetry.acme.d1.t", data=b"x", message_id=f"m{n}") for n in range(100))
    )
    return connection


@pytest.fixture
def finish(bus: Bus, consumer: Pull, consumer_info: Info) -> Callable[[str, str, int], Awaitable[None]]:
    """Has a consumer acknowledge its next messages, and waits until the server knows."""

    async def acknowledge(service: str, name: str, count: int) -> None:
        pull, task = await consumer(await bus.connect(service), "TELEMETRY", name, capacity=count)
        done = 0
        while done < count:
            for message in await pull.take(count - done):
                await message.ack()
                done += 1
        task.cancel()
        await asyncio.wait({task})
        async with asyncio.timeout(5):
            while (await consumer_info("TELEMETRY", name))["ack_floor"]["stream_seq"] < count:
                pass

    return acknowledge


async def test_messages_stay_until_the_slowest_required_consumer_is_done(
    ingest: Connection, finish: Callable[[str, str, int], Awaitable[None]], stream_state: State
) -> None:
    reaper = Reaper(ingest, (STORE, ROUTER), clock=ManualClock())
    await finish("ingest", "store", 100)
    assert await reaper.reap() == 0, "the router has seen nothing"

    await finish("router", "router", 60)
    assert await reaper.reap() == 60 - KEPT

    state = await stream_state("TELEMETRY")
    assert (state["first_seq"], state["messages"]) == (60 - KEPT + 1, 100 - 60 + KEPT)
    assert await reaper.reap() == 0, "nothing more to purge"


async def test_a_stream_that_fills_up_keeps_nothing_that_is_done_with(
    bus: Bus, ingest: Connection, finish: Callable[[str, str, int], Awaitable[None]], stream_state: State
) -> None:
    """What stays to be looked at must not have the stream refuse: then nothing would ever be done with again."""
    reaper = Reaper(ingest, (STORE, ROUTER), clock=ManualClock())
    await finish("ingest", "store", 100)
    await finish("router", "router", 100)
    info = await api_request(bus.control, "STREAM.INFO.TELEMETRY")
    almost_full = {**info["config"], "max_bytes": info["state"]["bytes"] * 3 // 2}
    await api_request(bus.control, "STREAM.UPDATE.TELEMETRY", almost_full)
    await reaper.reap()
    assert (await stream_state("TELEMETRY"))["messages"] == 0


async def test_a_lagging_consumer_gets_every_message_after_reaping(
    bus: Bus, ingest: Connection, finish: Callable[[str, str, int], Awaitable[None]], consumer: Pull
) -> None:
    await finish("ingest", "store", 100)
    await finish("router", "router", 30)
    await Reaper(ingest, (STORE, ROUTER), clock=ManualClock()).reap()

    router, _ = await consumer(await bus.connect("router"), "TELEMETRY", "router")
    seen: set[int] = set()
    while len(seen) < 70:
        seen |= {message.stream_seq for message in await router.take(70)}

    assert seen == set(range(31, 101))


async def test_a_missing_required_consumer_means_no_purge_and_trouble(
    bus: Bus, ingest: Connection, finish: Callable[[str, str, int], Awaitable[None]], stream_state: State
) -> None:
    await finish("ingest", "store", 100)
    await api_request(bus.control, "CONSUMER.DELETE.TELEMETRY.router")
    reaper = Reaper(ingest, (STORE, ROUTER), clock=ManualClock())

    with pytest.raises(ApiError, match="consumer not found"):
        await reaper.reap()

    assert (await stream_state("TELEMETRY"))["messages"] == 100


async def test_a_running_reaper_says_what_troubles_it_and_goes_on(
    bus: Bus, ingest: Connection, finish: Callable[[str, str, int], Awaitable[None]], stream_state: State
) -> None:
    await finish("ingest", "store", 100)
    await finish("router", "router", 50)
    info = await api_request(bus.control, "CONSUMER.INFO.TELEMETRY.store")
    await api_request(bus.control, "CONSUMER.DELETE.TELEMETRY.store")
    clock = ManualClock()
    reaper = Reaper(ingest, (STORE, ROUTER), clock=clock)
    run = asyncio.create_task(reaper.run())
    await clock.until_sleeping()
    trouble = reaper.trouble

    body = {"stream_name": "TELEMETRY", "config": info["config"], "action": "create"}
    await api_request(bus.control, "CONSUMER.CREATE.TELEMETRY.store.telemetry.>", body)
    await clock.advance(5)
    await clock.until_sleeping()
    run.cancel()
    await asyncio.wait({run})

    assert (trouble is not None, reaper.trouble) == (True, None)
    assert (await stream_state("TELEMETRY"))["messages"] == 100, "the new consumer has acknowledged nothing"
