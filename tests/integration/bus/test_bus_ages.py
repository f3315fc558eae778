import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pulse_bus.ages import OldestAges, Owed, owed_by
from pulse_bus.api import api_request
from pulse_bus.connection import Connection
from pulse_bus.consumer import PullConsumer
from pulse_bus.errors import BusError
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_contracts.topology import STORE, ConsumerSpec
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import Bus

Publish = Callable[..., Awaitable[Publisher]]
Pull = Callable[..., Awaitable[tuple[PullConsumer, asyncio.Task[None]]]]
Info = Callable[[str, str], Awaitable[dict[str, Any]]]
AN_HOUR: Any = pytest.approx(3600.0, abs=10)


@pytest.fixture
async def ingest(bus: Bus, publisher: Publish) -> Connection:
    """A connection to a stream of three messages."""
    connection = await bus.connect("ingest")
    committer = await publisher(connection, "TELEMETRY")
    for number in range(3):
        await committer.publish(Outgoing(subject="telemetry.acme.d.t", data=b"{}", message_id=f"m-{number}"))
    return connection


async def test_nothing_owed_has_no_age(bus: Bus) -> None:
    owed = await owed_by(await bus.connect("ingest"), ManualClock(datetime.now(UTC)), STORE)
    assert owed == Owed(messages=0, oldest_age_s=0.0)


async def test_the_age_is_that_of_the_oldest_message_nobody_acknowledged(
    ingest: Connection, consumer: Pull, consumer_info: Info
) -> None:
    later = ManualClock(datetime.now(UTC) + timedelta(hours=1))
    assert await owed_by(ingest, later, STORE) == Owed(messages=3, oldest_age_s=AN_HOUR)

    pull, _ = await consumer(ingest, "TELEMETRY", STORE.name)
    taken = await pull.take(3)
    while len(taken) < 3:
        taken += await pull.take(3 - len(taken))
    for message in taken[1:]:
        await message.ack()
    async with asyncio.timeout(5):
        while (await owed_by(ingest, later, STORE)).messages > 1:
            pass
    assert await owed_by(ingest, later, STORE) == Owed(messages=1, oldest_age_s=AN_HOUR)

    await taken[0].ack()
    async with asyncio.timeout(5):
        while (await consumer_info("TELEMETRY", STORE.name))["num_ack_pending"]:
            pass
    assert await owed_by(ingest, later, STORE) == Owed(messages=0, oldest_age_s=0.0)


async def test_the_oldest_of_the_consumers_of_a_cause_is_shown(ingest: Connection) -> None:
    shown: asyncio.Queue[tuple[str, Owed]] = asyncio.Queue()
    clock = ManualClock(datetime.now(UTC) + timedelta(hours=1))
    ages = OldestAges(
        ingest, {"store": [STORE], "nothing": []}, lambda cause, owed: shown.put_nowait((cause, owed)), clock=clock
    )
    task = asyncio.create_task(ages.run())
    try:
        async with asyncio.timeout(5):
            assert await shown.get() == ("store", Owed(messages=3, oldest_age_s=AN_HOUR))
            assert await shown.get() == ("nothing", Owed(messages=0, oldest_age_s=0.0))
    finally:
        task.cancel()


async def test_a_consumer_that_is_missing_has_no_known_age(ingest: Connection) -> None:
    missing = ConsumerSpec(
        stream="TELEMETRY", name="router2", filter_subject="telemetry.>", service="x", max_ack_pending=1
    )
    with pytest.raises(BusError):
        await owed_by(ingest, ManualClock(datetime.now(UTC)), missing)


async def test_while_a_consumer_is_missing_its_age_grows(bus: Bus, ingest: Connection) -> None:
    shown: list[Owed] = []
    clock = ManualClock(datetime.now(UTC))
    ages = OldestAges(ingest, {"store": [STORE]}, lambda _cause, owed: shown.append(owed), clock=clock)
    await ages.look()
    await api_request(bus.control, f"CONSUMER.DELETE.{STORE.stream}.{STORE.name}")

    await clock.advance(600)
    await ages.look()

    [before, after] = shown
    assert (before.messages, after.messages) == (3, 3)
    assert after.oldest_age_s == pytest.approx(before.oldest_age_s + 600)
