import asyncio
from collections.abc import Awaitable, Callable

from bus_pulling import Info, Publish, Pull, is_pending, messages, take, until

from pulse_bus.api import api_request
from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_bus.outgoing import Outgoing
from pulse_bus.provision import consumer_config
from pulse_contracts.topology import ACK_WAIT_S, STORE
from pulse_runtime.clock import SystemClock
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import Bus
from pulse_testkit.proxy import TcpProxy


async def test_messages_come_in_the_order_of_the_stream(bus: Bus, publisher: Publish, consumer: Pull) -> None:
    ingest = await bus.connect("ingest")
    await (await publisher(ingest, "TELEMETRY")).publish(*messages(500))
    store, _ = await consumer(ingest, "TELEMETRY", "store", capacity=50)

    taken: list[Incoming] = []
    while len(taken) < 500:
        for message in await take(store, 1):
            await message.ack()
            taken.append(message)

    assert [message.stream_seq for message in taken] == list(range(1, 501))
    assert taken[0].headers["Nats-Msg-Id"] == "m0"
    assert {message.deliveries for message in taken} == {1}


async def test_no_more_messages_wait_unread_than_the_capacity(
    bus: Bus, publisher: Publish, consumer: Pull, consumer_info: Info
) -> None:
    ingest = await bus.connect("ingest")
    store, _ = await consumer(ingest, "TELEMETRY", "store", capacity=10)

    await (await publisher(ingest, "TELEMETRY")).publish(*messages(100))
    await until(lambda: is_pending(consumer_info, 10))
    await until(_async(lambda: store.buffered == 10))
    await take(store, 4)
    assert (await consumer_info("TELEMETRY", "store"))["num_ack_pending"] == 10, "refills only at half"
    await take(store, 2)
    await until(lambda: is_pending(consumer_info, 16))


async def test_a_capacity_of_zero_stops_pulling(
    bus: Bus, publisher: Publish, consumer: Pull, consumer_info: Info
) -> None:
    ingest = await bus.connect("ingest")
    store, _ = await consumer(ingest, "TELEMETRY", "store", capacity=10)
    committer = await publisher(ingest, "TELEMETRY")
    await committer.publish(*messages(10))
    await take(store, 4)

    store.set_capacity(0)
    await take(store, 6)
    await committer.publish(*messages(20, prefix="n"))

    info = await consumer_info("TELEMETRY", "store")
    assert (info["num_ack_pending"], info["num_pending"], store.buffered) == (10, 20, 0)
    store.set_capacity(5)
    assert len(await take(store, 5)) == 5


async def test_an_ack_is_the_end_of_a_message(
    bus: Bus, publisher: Publish, consumer: Pull, consumer_info: Info
) -> None:
    ingest = await bus.connect("ingest")
    await (await publisher(ingest, "TELEMETRY")).publish(*messages(3))
    store, _ = await consumer(ingest, "TELEMETRY", "store")

    for message in await take(store, 3):
        await message.ack()

    await until(lambda: is_pending(consumer_info, 0))
    assert (await consumer_info("TELEMETRY", "store"))["ack_floor"]["stream_seq"] == 3


async def test_a_message_given_back_comes_again__async(bus: Bus, publisher: Publish, consumer: Pull) -> None:
    ingest = await bus.connect("ingest")
    await (await publisher(ingest, "TELEMETRY")).publish(*messages(1))
    store, _ = await consumer(ingest, "TELEMETRY", "store")
    [first] = await take(store, 1)

    await first.nak()

    [again] = await take(store, 1, timeout_s=ACK_WAIT_S / 2)
    assert (again.stream_seq, again.deliveries) == (1, 2)


async def test_a_message_given_back_with_a_delay_comes_after_it(bus: Bus, publisher: Publish, consumer: Pull) -> None:
    ingest = await bus.connect("ingest")
    await (await publisher(ingest, "TELEMETRY")).publish(*messages(1))
    store, _ = await consumer(ingest, "TELEMETRY", "store")
    [first] = await take(store, 1)
    clock = SystemClock()
    started = clock.monotonic()

    await first.nak(0.3)

    await take(store, 1, timeout_s=3)
    assert clock.monotonic() - started >= 0.28


async def test_a_consumer_that_stops_gives_back_at_once_what_nobody_took(
    bus: Bus, publisher: Publish, consumer: Pull
) -> None:
    ingest, replica = await bus.connect("ingest"), await bus.connect("ingest")
    committer = await publisher(ingest, "TELEMETRY")
    await committer.publish(*messages(50))
    stopping, task = await consumer(ingest, "TELEMETRY", "store", capacity=100)
    [taken] = await take(stopping, 1)
    await asyncio.wait_for(stopping.arrival(), 5)

    task.cancel()
    await asyncio.wait({task})
    await committer.publish(*messages(10, prefix="later"))
    heir, _ = await consumer(replica, "TELEMETRY", "store", capacity=100)

    again = await take(heir, 59, timeout_s=5)
    assert {message.stream_seq for message in again} == set(range(1, 61)) - {taken.stream_seq}


async def test_pulling_goes_on_after_a_restart_of_the_server(bus: Bus, publisher: Publish, consumer: Pull) -> None:
    ingest = await bus.connect("ingest")
    committer = await publisher(ingest, "TELEMETRY", give_up_s=20)
    store, _ = await consumer(ingest, "TELEMETRY", "store")
    await committer.publish(*messages(1))
    for message in await take(store, 1):
        await message.ack()

    bus.nats.kill()
    await committer.publish(*messages(20, prefix="after"))

    seen: set[int] = set()
    while len(seen) < 20:
        for message in await take(store, 1):
            await message.ack()
            seen.add(message.stream_seq)
        seen.discard(1)  # an ack is not durable at once
    assert seen == set(range(2, 22))


async def test_pulling_goes_on_after_a_cut_of_the_network(bus: Bus, publisher: Publish, consumer: Pull) -> None:
    async with TcpProxy(bus.nats.port) as proxy:
        ingest = await bus.connect("ingest", port=proxy.port)
        store, _ = await consumer(ingest, "TELEMETRY", "store")
        committer = await publisher(await bus.connect("ingest"), "TELEMETRY")
        await committer.publish(*messages(1))
        await take(store, 1)

        proxy.cut()
        await committer.publish(*messages(5, prefix="after"))
        proxy.heal()

        assert len(await take(store, 5)) == 5


async def test_a_deleted_consumer_is_trouble_until_it_is_there_again(
    bus: Bus, publisher: Publish, consumer: Pull
) -> None:
    ingest = await bus.connect("ingest")
    store, _ = await consumer(ingest, "TELEMETRY", "store")
    committer = await publisher(ingest, "TELEMETRY")
    await committer.publish(*messages(1))
    await take(store, 1)
    assert store.trouble is None

    await api_request(bus.control, "CONSUMER.DELETE.TELEMETRY.store")
    await until(lambda: _has_trouble(store))
    body = {"stream_name": "TELEMETRY", "config": consumer_config(STORE), "action": "create"}
    await api_request(bus.control, "CONSUMER.CREATE.TELEMETRY.store.telemetry.>", body)

    await take(store, 1)
    assert store.trouble is None


async def test_two_replicas_share_the_messages(bus: Bus, publisher: Publish, consumer: Pull) -> None:
    one, _ = await consumer(await bus.connect("ingest"), "TELEMETRY", "store", capacity=20)
    other, _ = await consumer(await bus.connect("ingest"), "TELEMETRY", "store", capacity=20)
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")

    await committer.publish(*messages(40))
    first, second = await asyncio.gather(take(one, 20), take(other, 20))

    assert {message.stream_seq for message in (*first, *second)} == set(range(1, 41))


async def _has_trouble(consumer: PullConsumer) -> bool:
    await asyncio.sleep(0.02)
    return consumer.trouble is not None


async def test_a_consumer_that_is_cancelled_as_it_wakes_ends(bus: Bus, consumer: Pull) -> None:
    store, task = await consumer(await bus.connect("ingest"), "TELEMETRY", "store", capacity=5)
    await bus.control.request("$JS.API.INFO", timeout_s=5)  # by now it waits

    store.set_capacity(6)
    task.cancel()

    await asyncio.wait({task}, timeout=10)
    assert task.done()


async def test_nothing_that_arrives_while_a_consumer_stops_waits_for_ack_wait(
    bus: Bus, publisher: Publish, consumer: Pull
) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY", linger_s=0)
    stopping, task = await consumer(await bus.connect("ingest"), "TELEMETRY", "store", capacity=10_000)

    async def publish() -> None:
        for n in range(60):
            await committer.publish(*messages(10, prefix=f"{n}-"))

    async with asyncio.TaskGroup() as group:
        group.create_task(publish())
        taken = len(await take(stopping, 100))
        task.cancel()
        await asyncio.wait({task})
    heir, _ = await consumer(await bus.connect("ingest"), "TELEMETRY", "store", capacity=1000)

    assert len(await take(heir, 600 - taken, timeout_s=5)) == 600 - taken


def _async(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        await asyncio.sleep(0)
        return condition()

    return look


async def test_bodies_beyond_the_bytes_that_may_wait_unread_stay_in_the_stream(
    bus: Bus, publisher: Publish, consumer: Pull
) -> None:
    ingest = await bus.connect("ingest")
    committer = await publisher(ingest, "TELEMETRY")
    body = b"x" * 300_000
    for number in range(20):
        await committer.publish(Outgoing(subject="telemetry.acme.d1.t", data=body, message_id=f"m{number}"))
    store, _ = await consumer(ingest, "TELEMETRY", "store", capacity=0)
    most_bytes = 2 * ingest.max_payload

    store.set_capacity(100, most_bytes)
    taken: list[Incoming] = []
    async with asyncio.timeout(10):
        while len(taken) < 20:
            await store.arrival()
            assert store.promised[1] <= most_bytes
            assert store.buffered * len(body) <= most_bytes
            [message] = store.take_now(1)
            await message.ack()
            taken.append(message)
    assert [message.stream_seq for message in taken] == list(range(1, 21))


async def test_no_room_for_the_largest_message_stops_the_pulling(bus: Bus, publisher: Publish, consumer: Pull) -> None:
    ingest = await bus.connect("ingest")
    store, _ = await consumer(ingest, "TELEMETRY", "store", capacity=0)
    store.set_capacity(100, ingest.max_payload - 1)
    await (await publisher(ingest, "TELEMETRY")).publish(*messages(5))
    assert store.promised == (0, 0)
    store.set_capacity(3, ingest.max_payload)
    await take(store, 3)
    assert store.promised[0] <= 3


async def test_what_the_server_refuses_is_not_asked_for_again__async(bus: Bus, consumer: Pull) -> None:
    ingest, clock = await bus.connect("ingest"), ManualClock()
    body = {"stream_name": "TELEMETRY", "config": {**consumer_config(STORE), "max_batch": 1}, "action": "update"}
    await api_request(bus.control, "CONSUMER.CREATE.TELEMETRY.store.telemetry.>", body)

    store, _ = await consumer(ingest, "TELEMETRY", "store", clock=clock)
    await until(_async(lambda: store.promised != (0, 0)))
    await until(_async(lambda: store.promised == (0, 0)))
    promised: list[tuple[int, int]] = []
    for _ in range(50):
        await api_request(ingest, "STREAM.INFO.TELEMETRY")
        promised.append(store.promised)
    assert set(promised) == {(0, 0)}, "it was asked again at once"
    await clock.advance(0.5)
    await until(_async(lambda: store.promised != (0, 0)))
