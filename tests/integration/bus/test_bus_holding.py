"""What a consumer holds stays its own while it says so, and is another's after a standstill."""

import pytest
from bus_pulling import Info, Publish, Pull, is_pending, messages, shorten_ack_wait, take, until

from pulse_contracts.topology import ACK_WAIT_S
from pulse_runtime.clock import SystemClock
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import Bus


async def test_a_consumer_that_rests_asks_for_nothing_and_takes_its_rest_for_no_standstill(
    bus: Bus, publisher: Publish, consumer: Pull, consumer_info: Info
) -> None:
    clock, ingest = ManualClock(), await bus.connect("ingest")
    store, task = await consumer(ingest, "TELEMETRY", "store", capacity=0, clock=clock)
    await (await publisher(ingest, "TELEMETRY")).publish(*messages(3))
    await clock.advance(ACK_WAIT_S + 1)
    assert (await consumer_info("TELEMETRY", "store"))["num_waiting"] == 0

    store.set_capacity(10)

    assert [message.deliveries for message in await take(store, 3)] == [1, 1, 1]
    assert not task.done()


async def test_what_is_held_while_nothing_more_is_asked_for_stays_ours(
    bus: Bus, publisher: Publish, consumer: Pull
) -> None:
    await shorten_ack_wait(bus, 3)
    ingest = await bus.connect("ingest")
    await (await publisher(ingest, "TELEMETRY")).publish(*messages(1))
    store, _ = await consumer(ingest, "TELEMETRY", "store", capacity=1, ack_wait_s=3)
    [held] = await take(store, 1)
    store.set_capacity(0)
    replica, _ = await consumer(await bus.connect("ingest"), "TELEMETRY", "store", capacity=1, ack_wait_s=3)

    with pytest.raises(TimeoutError):
        await take(replica, 1, timeout_s=8)

    assert not held.has_lapsed


async def test_messages_are_held_beyond_ack_wait_however_long_the_work_takes(
    bus: Bus, publisher: Publish, consumer: Pull, consumer_info: Info
) -> None:
    await shorten_ack_wait(bus, 2.4)  # the signals go out once a second
    ingest = await bus.connect("ingest")
    await (await publisher(ingest, "TELEMETRY")).publish(*messages(2))
    store, _ = await consumer(ingest, "TELEMETRY", "store", ack_wait_s=2.4)

    [message, _unread] = await take(store, 1), store.buffered
    await SystemClock().sleep(4)  # no clock of ours moves the server's
    await message[0].ack()

    info = await consumer_info("TELEMETRY", "store")
    assert (info["num_redelivered"], store.buffered) == (0, 1)


async def test_a_message_that_nobody_holds_goes_to_another_after_ack_wait(
    bus: Bus, publisher: Publish, consumer: Pull
) -> None:
    await shorten_ack_wait(bus, 0.5)
    ingest, replica = await bus.connect("ingest"), await bus.connect("ingest")
    await (await publisher(ingest, "TELEMETRY")).publish(*messages(1))
    dying, task = await consumer(ingest, "TELEMETRY", "store", ack_wait_s=0.5)
    await take(dying, 1)

    task.cancel()
    heir, _ = await consumer(replica, "TELEMETRY", "store")

    [again] = await take(heir, 1)
    assert again.deliveries == 2


async def test_a_process_that_stood_still_leaves_to_others_what_it_held(
    bus: Bus, publisher: Publish, consumer: Pull, consumer_info: Info
) -> None:
    ingest, clock = await bus.connect("ingest"), ManualClock()
    await (await publisher(ingest, "TELEMETRY")).publish(*messages(3))
    store, _ = await consumer(ingest, "TELEMETRY", "store", clock=clock)
    given_back, done = await take(store, 2)
    await store.arrival()

    await clock.advance(ACK_WAIT_S)

    assert store.take_now(1) == []
    assert given_back.has_lapsed
    await given_back.nak()
    await done.ack()
    await until(lambda: is_pending(consumer_info, 2))
    assert (await consumer_info("TELEMETRY", "store"))["num_redelivered"] == 0


async def test_what_arrives_as_a_process_wakes_may_be_as_old_as_its_sleep(
    bus: Bus, publisher: Publish, consumer: Pull
) -> None:
    ingest, clock = await bus.connect("ingest"), ManualClock()
    committer = await publisher(ingest, "TELEMETRY")
    store, _ = await consumer(ingest, "TELEMETRY", "store", clock=clock)
    await committer.publish(*messages(1))
    await take(store, 1)

    await clock.advance(ACK_WAIT_S)
    await committer.publish(*messages(1, prefix="late"))
    await store.arrival()
    assert store.take_now(1) == []

    await clock.advance(1)
    await committer.publish(*messages(1, prefix="later"))
    [fresh] = await take(store, 1)
    assert not fresh.has_lapsed
