import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_bus.writer import BatchWriter, Entry
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import Bus

Publish = Callable[..., Awaitable[Publisher]]
Pull = Callable[..., Awaitable[tuple[PullConsumer, asyncio.Task[None]]]]

_LINGER_S = 0.1


class Table:
    """Keeps how many records each transaction had."""

    def __init__(self) -> None:
        self.transactions: list[int] = []
        self.committed = asyncio.Event()

    async def store(self, entries: Sequence[Entry[bytes]]) -> None:
        self.transactions.append(len(entries))
        self.committed.set()


async def test_what_comes_within_the_linger_shares_a_transaction(bus: Bus, publisher: Publish, consumer: Pull) -> None:
    ingest = await bus.connect("ingest")
    committer, clock, table = await publisher(ingest, "TELEMETRY"), ManualClock(), Table()
    pulling, _ = await consumer(ingest, "TELEMETRY", "store")
    async with asyncio.timeout(10), writing(pulling, table, clock):
        await committer.publish(*messages("a", 3))
        await clock.until_sleeping()
        await committer.publish(*messages("b", 4))
        await unread(pulling, 7)
        assert table.transactions == []

        await clock.advance(_LINGER_S)
        await table.committed.wait()

    assert table.transactions == [7]


async def test_a_full_batch_is_not_kept_waiting(bus: Bus, publisher: Publish, consumer: Pull) -> None:
    ingest = await bus.connect("ingest")
    committer, table = await publisher(ingest, "TELEMETRY"), Table()
    await committer.publish(*messages("a", 1000))
    pulling, _ = await consumer(ingest, "TELEMETRY", "store", capacity=2000)
    async with asyncio.timeout(10):
        await unread(pulling, 1000)
        async with writing(pulling, table, ManualClock()):
            await table.committed.wait()

    assert table.transactions == [1000]


def messages(prefix: str, count: int) -> list[Outgoing]:
    return [Outgoing(subject="telemetry.acme.d1.t", data=b"x", message_id=f"{prefix}{n}") for n in range(count)]


async def unread(pulling: PullConsumer, count: int) -> None:
    while pulling.buffered < count:  # noqa: ASYNC110 - a consumer tells of the first arrival only
        await asyncio.sleep(0)


@asynccontextmanager
async def writing(pulling: PullConsumer, table: Table, clock: ManualClock) -> AsyncGenerator[None]:
    async def refuse(message: Incoming, error: str) -> None:
        raise AssertionError(f"{message.subject}: {error}")

    writer = BatchWriter[bytes](
        pulling, decode=bytes, store=table.store, last_resort=refuse, clock=clock, linger_s=_LINGER_S
    )
    task = asyncio.create_task(writer.run(), name="test[writer]")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
