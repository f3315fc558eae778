import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from pulse_bus.api import api_request
from pulse_bus.errors import BusUnavailable, PublishRefused
from pulse_bus.inspection import unacknowledged
from pulse_bus.outgoing import Committed, Outgoing
from pulse_bus.publisher import Publisher
from pulse_contracts.topology import MAX_BATCH
from pulse_runtime.clock import SystemClock
from pulse_runtime.metrics import BusMetrics
from pulse_testkit.nats import TESTER, Bus
from pulse_testkit.proxy import TcpProxy

Start = Callable[..., Awaitable[Publisher]]
State = Callable[[str], Awaitable[dict[str, Any]]]

NEW = [Committed(duplicate=False)]
KNOWN = [Committed(duplicate=True)]


def message(message_id: str, *, tenant: str = "acme", size: int = 10) -> Outgoing:
    return Outgoing(subject=f"telemetry.{tenant}.d1.t", data=b"x" * size, message_id=message_id)


def sided(message_id: str, *, tenant: str) -> Outgoing:
    return Outgoing(subject=f"siding.webhook.{tenant}.r1", data=b"x", message_id=message_id)


async def limit(bus: Bus, stream: str, **limits: int) -> None:
    info = await api_request(bus.control, f"STREAM.INFO.{stream}")
    await api_request(bus.control, f"STREAM.UPDATE.{stream}", info["config"] | limits)


async def stored_ids(bus: Bus, stream: str) -> list[str]:
    tester = await bus.connect(TESTER)
    return [standing.headers["Nats-Msg-Id"] for standing in await unacknowledged(tester, stream, ">", None)]


async def test_messages_of_many_senders_go_in_one_batch(bus: Bus, publisher: Start) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")

    answers = await asyncio.gather(*(committer.publish(message(f"m{n}", tenant=f"t{n % 7}")) for n in range(300)))

    assert answers == [NEW] * 300
    tester = await bus.connect(TESTER)
    batches = {standing.headers["Nats-Batch-Id"] for standing in await unacknowledged(tester, "TELEMETRY", ">", None)}
    assert len(batches) == 1


async def test_a_few_messages_cost_no_batch(bus: Bus, publisher: Start) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")
    sent = [f"m{n}" for n in range(8)]

    answers = await asyncio.gather(*(committer.publish(message(message_id)) for message_id in sent))

    assert answers == [NEW] * len(sent)
    standing = await unacknowledged(await bus.connect(TESTER), "TELEMETRY", ">", None)
    assert [each.headers["Nats-Msg-Id"] for each in standing] == sent
    assert not [each for each in standing if "Nats-Batch-Id" in each.headers]


async def test_a_group_is_never_divided_over_batches(bus: Bus, publisher: Start) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")
    groups = [[message(f"g{group}-{n}") for n in range(400)] for group in range(4)]

    await asyncio.gather(*(committer.publish(*group) for group in groups))

    tester = await bus.connect(TESTER)
    batch_of: dict[str, set[str]] = {}
    for standing in await unacknowledged(tester, "TELEMETRY", ">", None):
        group = standing.headers["Nats-Msg-Id"].partition("-")[0]
        batch_of.setdefault(group, set()).add(standing.headers["Nats-Batch-Id"])
    assert {group: len(batches) for group, batches in batch_of.items()} == {f"g{n}": 1 for n in range(4)}


async def test_headers_travel_with_the_message(bus: Bus, publisher: Start) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")

    await committer.publish(
        Outgoing(subject="telemetry.acme.d1.t", data=b"{}", message_id="m1", headers={"traceparent": "00-1-2-01"})
    )

    [standing] = await unacknowledged(await bus.connect(TESTER), "TELEMETRY", ">", None)
    assert standing.headers["traceparent"] == "00-1-2-01"


async def test_a_duplicate_in_a_batch_costs_only_itself(bus: Bus, publisher: Start, stream_state: State) -> None:
    # Another replica stored it: this one's recent ids do not know.
    other = await publisher(await bus.connect("ingest"), "TELEMETRY")
    await other.publish(message("seen", tenant="acme"))
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")

    ids = ["a", "b", "seen", "c", "d"]
    answers = await asyncio.gather(
        *(committer.publish(message(name)) for name in ids),
        *(committer.publish(message(f"x{n}", tenant="other")) for n in range(5)),
    )

    assert answers == [NEW, NEW, KNOWN, NEW, NEW, *[NEW] * 5]
    assert (await stream_state("TELEMETRY"))["messages"] == 10


async def test_a_tenant_whose_messages_are_accepted_is_not_split_by_anothers_duplicate(
    bus: Bus, publisher: Start
) -> None:
    other = await publisher(await bus.connect("ingest"), "TELEMETRY")
    await other.publish(message("seen", tenant="noisy"))
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")

    await asyncio.gather(
        *(committer.publish(message(f"q{n}", tenant="quiet")) for n in range(20)),
        *(committer.publish(message(name, tenant="noisy")) for name in ("seen", "n1", "n2")),
    )

    tester = await bus.connect(TESTER)
    quiet = await unacknowledged(tester, "TELEMETRY", "telemetry.quiet.>", None)
    assert len({standing.headers["Nats-Batch-Id"] for standing in quiet}) == 1
    assert len(quiet) == 20


async def test_the_same_id_twice_at_once_is_stored_once(bus: Bus, publisher: Start, stream_state: State) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")

    answers = await asyncio.gather(
        committer.publish(message("m1")), committer.publish(message("m1"), message("m2"), message("m2"))
    )

    assert (await stream_state("TELEMETRY"))["messages"] == 2
    assert answers == [NEW, [*KNOWN, *NEW, *KNOWN]]


async def test_a_recent_id_is_answered_without_asking_the_server(bus: Bus, publisher: Start) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")
    await committer.publish(message("m1"))

    await api_request(bus.control, "STREAM.DELETE.TELEMETRY")

    assert await committer.publish(message("m1")) == KNOWN


async def test_nothing_to_publish_is_nothing_to_wait_for(bus: Bus, publisher: Start) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")

    assert await committer.publish() == []


async def test_a_full_stream_refuses_and_says_so(bus: Bus, publisher: Start, stream_state: State) -> None:
    await limit(bus, "TELEMETRY", max_bytes=3000)
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")

    answers = await asyncio.gather(
        *(committer.publish(message(f"m{n}", size=4000)) for n in range(9)), return_exceptions=True
    )

    assert {getattr(answer, "reason", None) for answer in answers} == {"stream_full"}
    assert (await stream_state("TELEMETRY"))["messages"] == 0


async def test_of_a_batch_larger_than_the_room_there_is_a_part_is_taken(
    bus: Bus, publisher: Start, stream_state: State
) -> None:
    await limit(bus, "TELEMETRY", max_bytes=40_000)
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")

    answers = await asyncio.gather(
        *(committer.publish(message(f"m{n}", size=2000)) for n in range(100)), return_exceptions=True
    )

    taken = [answer for answer in answers if answer == NEW]
    assert 10 <= len(taken) < 20
    assert (await stream_state("TELEMETRY"))["messages"] == len(taken)
    assert {answer.reason for answer in answers if isinstance(answer, PublishRefused)} == {"stream_full"}


async def test_a_stream_that_has_room_again_takes_what_it_refused(bus: Bus, publisher: Start) -> None:
    await limit(bus, "TELEMETRY", max_bytes=3000)
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")
    with pytest.raises(PublishRefused):
        await committer.publish(message("m1", size=5000))

    await limit(bus, "TELEMETRY", max_bytes=30_000)

    assert await committer.publish(message("m1", size=5000)) == NEW


async def test_a_full_subject_refuses_its_own_messages_only(bus: Bus, publisher: Start) -> None:
    await limit(bus, "SIDING", max_msgs_per_subject=2)
    committer = await publisher(await bus.connect("delivery"), "SIDING")

    noisy, quiet = await asyncio.gather(
        asyncio.gather(*(committer.publish(sided(f"n{n}", tenant="noisy")) for n in range(4)), return_exceptions=True),
        asyncio.gather(*(committer.publish(sided(f"q{n}", tenant="quiet")) for n in range(2))),
    )

    assert quiet == [NEW, NEW]
    assert [getattr(answer, "reason", "stored") for answer in noisy] == ["stored"] * 2 + ["subject_full"] * 2


@pytest.mark.parametrize("margin", [-10_000, 10, 150])
async def test_a_message_too_large_for_the_server_costs_only_itself(bus: Bus, publisher: Start, margin: int) -> None:
    connection = await bus.connect("ingest")
    committer = await publisher(connection, "TELEMETRY")

    large, small = await asyncio.gather(
        committer.publish(message("large", size=connection.max_payload - margin)),
        committer.publish(message("small")),
        return_exceptions=True,
    )

    assert (getattr(large, "reason", None), small) == ("too_large", NEW)
    assert connection.reconnects == 0


async def test_the_largest_message_that_is_let_through_is_stored(bus: Bus, publisher: Start) -> None:
    connection = await bus.connect("ingest")
    committer = await publisher(connection, "TELEMETRY")
    overhead = message("largest", size=0).size_bytes

    answers = await asyncio.gather(
        committer.publish(message("largest", size=connection.max_payload - overhead)),
        committer.publish(message("another")),
    )

    assert answers == [NEW, NEW]


async def test_places_of_abandoned_batches_do_not_delay_messages(bus: Bus, publisher: Start) -> None:
    connection = await bus.connect("ingest")
    for _ in range(50):
        start = {"Nats-Batch-Id": uuid4().hex, "Nats-Batch-Sequence": "1"}
        await connection.publish("telemetry.acme.d1.t", headers=start)
    committer = await publisher(connection, "TELEMETRY")

    async with asyncio.timeout(8):  # a place is free again after 10 s
        answers = await asyncio.gather(*(committer.publish(message(f"m{n}")) for n in range(20)))

    assert answers == [NEW] * 20


async def test_more_messages_than_one_batch_are_the_callers_mistake(bus: Bus, publisher: Start) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")

    with pytest.raises(ValueError, match="1001"):
        await committer.publish(*(message(f"m{n}") for n in range(1001)))


async def test_a_backlog_beyond_its_bound_is_refused_at_once(bus: Bus, publisher: Start) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY", max_pending=5)

    answers = await asyncio.gather(*(committer.publish(message(f"m{n}")) for n in range(7)), return_exceptions=True)

    assert [getattr(answer, "reason", None) for answer in answers] == [None] * 5 + ["backlog"] * 2


async def test_what_waits_for_its_commit_is_shown_until_it_is_answered(bus: Bus, publisher: Start) -> None:
    registry = CollectorRegistry()
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY", metrics=BusMetrics(registry))

    def shown() -> float | None:
        return registry.get_sample_value("pulse_bus_uncommitted_messages", {"stream": "TELEMETRY"})

    assert shown() == 0
    calls = [asyncio.create_task(committer.publish(message(f"m{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    assert shown() == 3
    await asyncio.gather(*calls)
    assert shown() == 0


async def test_a_missing_stream_is_unavailability_once_patience_ends(bus: Bus, publisher: Start) -> None:
    await api_request(bus.control, "STREAM.DELETE.TELEMETRY")
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY", give_up_s=0.3)

    with pytest.raises(BusUnavailable, match=r"within 0\.3 s: no stream listens on the subject"):
        await committer.publish(message("m1"), message("m2"))


async def test_a_caller_that_gives_up_takes_nobody_with_it(bus: Bus, publisher: Start) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY")
    impatient = asyncio.create_task(committer.publish(message("m1")))
    await asyncio.sleep(0)
    impatient.cancel()

    assert await committer.publish(message("m2")) == NEW


async def test_what_was_acknowledged_across_a_crash_of_the_server_is_stored_exactly_once(
    bus: Bus, publisher: Start
) -> None:
    committer = await publisher(await bus.connect("ingest"), "TELEMETRY", give_up_s=15)
    acknowledged: list[str] = []
    grew = asyncio.Event()

    async def send(sender: int) -> None:
        for n in range(60):
            name = f"s{sender}-{n}"
            try:
                await committer.publish(message(name, tenant=f"t{sender % 5}", size=200))
            except BusUnavailable:
                continue
            acknowledged.append(name)
            grew.set()

    async def crash_twice() -> None:
        for enough in (200, 900):
            while len(acknowledged) < enough:
                grew.clear()
                await grew.wait()
            bus.nats.kill()
            await bus.nats.until_ready()

    async with asyncio.TaskGroup() as group:
        for sender in range(40):
            group.create_task(send(sender))
        group.create_task(crash_twice())

    found = await stored_ids(bus, "TELEMETRY")
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    assert len(acknowledged) == 40 * 60


async def test_a_server_that_stays_away_is_unavailability(bus: Bus, publisher: Start) -> None:
    connection = await bus.connect("ingest")
    # Another one's patience: a commit may take longer than there is for the ones that fail.
    await (await publisher(connection, "TELEMETRY")).publish(message("before"))
    committer = await publisher(connection, "TELEMETRY", give_up_s=0.05)

    bus.nats.kill()
    answers = await asyncio.gather(*(committer.publish(message(f"m{n}")) for n in range(3)), return_exceptions=True)
    await bus.nats.until_ready()

    assert {type(answer) for answer in answers} == {BusUnavailable}


async def test_nobody_waits_for_a_silent_server_longer_than_its_patience(
    bus: Bus, publisher: Start, stream_state: State
) -> None:
    """Whether its own commit has begun or stands behind another, and a commit alone waits 5 s for its answer."""
    under_way = [message(f"m{n}") for n in range(MAX_BATCH)]
    async with TcpProxy(bus.nats.port) as network:
        committer = await publisher(await bus.connect("ingest", port=network.port), "TELEMETRY", give_up_s=1.5)
        await committer.publish(message("before"))
        network.blackhole()

        async with asyncio.timeout(4.5):
            answers = await asyncio.gather(
                committer.publish(*under_way), committer.publish(message("behind")), return_exceptions=True
            )
        network.heal()

        assert {type(answer) for answer in answers} == {BusUnavailable}
        # What was under way is stored all the same, and its ids are remembered; what stood behind was never sent.
        assert await committer.publish(*under_way) == KNOWN * MAX_BATCH
        assert (await stream_state("TELEMETRY"))["messages"] == 1 + MAX_BATCH
        assert await committer.publish(message("behind")) == NEW


async def test_a_publisher_that_stops_leaves_nobody_waiting(bus: Bus) -> None:
    committer = Publisher(
        await bus.connect("ingest"),
        "TELEMETRY",
        clock=SystemClock(),
        metrics=BusMetrics(CollectorRegistry()),
        linger_s=60,
    )
    run = asyncio.create_task(committer.run())
    waiting = asyncio.create_task(committer.publish(message("m1")))
    await asyncio.sleep(0)

    run.cancel()
    await asyncio.wait({run})

    with pytest.raises(BusUnavailable, match="stopped before the answer"):
        await waiting
    with pytest.raises(BusUnavailable, match="has stopped"):
        await committer.publish(message("m2"))
