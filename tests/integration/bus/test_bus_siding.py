import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from pulse_bus.api import api_request
from pulse_bus.connection import Connection
from pulse_bus.consumer import PullConsumer
from pulse_bus.errors import ApiError
from pulse_bus.inspection import unacknowledged
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_bus.siding import Siding
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress, siding
from pulse_contracts.topology import MIB, SIDING
from pulse_contracts.turns import TurnState
from pulse_testkit.nats import Bus

Publish = Callable[..., Awaitable[Publisher]]
Pull = Callable[..., Awaitable[tuple[PullConsumer, asyncio.Task[None]]]]
Fill = Callable[[RouteAddress, int], Awaitable[None]]

ONE = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("route-1"))
OTHER = RouteAddress(kind="webhook", tenant=TenantId("globex"), route=RouteId("route-2"))


@pytest.fixture
async def delivery(bus: Bus) -> Connection:
    return await bus.connect("delivery")


@pytest.fixture
async def waiting_room(delivery: Connection) -> Siding:
    return Siding(delivery)


@pytest.fixture
async def fill(delivery: Connection, publisher: Publish) -> Fill:
    """Puts messages of a route into the siding."""
    committer = await publisher(delivery, "SIDING")

    async def put(address: RouteAddress, count: int) -> None:
        subject = siding(address.kind, address.tenant, address.route)
        await committer.publish(
            *(
                Outgoing(subject=subject, data=f"body {n}".encode(), message_id=f"{subject}:{n}", headers={"n": str(n)})
                for n in range(count)
            )
        )

    return put


async def opened(waiting_room: Siding, state: TurnState) -> str:
    turn = await waiting_room.open_turn(ONE, state)
    assert turn is not None
    return turn


async def test_what_waits_is_counted_by_route(waiting_room: Siding, fill: Fill) -> None:
    assert (await waiting_room.survey()).waiting == {}

    await fill(ONE, 3)
    await fill(OTHER, 2)

    assert (await waiting_room.survey()).waiting == {
        "siding.webhook.acme.route-1": 3,
        "siding.webhook.globex.route-2": 2,
    }
    assert await waiting_room.waiting_of(OTHER) == 2


async def test_the_survey_tells_how_much_room_there_is(bus: Bus, waiting_room: Siding, fill: Fill) -> None:
    empty = await waiting_room.survey()
    assert (empty.waiting, empty.used_bytes) == ({}, 0)
    assert (empty.most_bytes, empty.most_per_route) == (SIDING.max_bytes, SIDING.max_msgs_per_subject)

    await fill(ONE, 3)
    info = await api_request(bus.control, f"STREAM.INFO.{SIDING.name}")
    await api_request(bus.control, f"STREAM.UPDATE.{SIDING.name}", {**info["config"], "max_bytes": 8 * MIB})

    full = await waiting_room.survey()
    assert full.waiting == {"siding.webhook.acme.route-1": 3}
    assert (full.most_bytes, full.last_seq - full.first_seq) == (8 * MIB, 2)


@pytest.mark.parametrize("count", [1, 2, 500])
async def test_the_size_of_a_message_is_what_the_stream_counts(
    waiting_room: Siding, delivery: Connection, publisher: Publish, count: int
) -> None:
    committer = await publisher(delivery, "SIDING")
    subject = siding(ONE.kind, ONE.tenant, ONE.route)
    outgoing = [
        Outgoing(subject=subject, data=b"x" * n, message_id=f"m-{n}", headers={"Pulse-Cause": "behind", "n": str(n)})
        for n in range(count)
    ]
    await committer.publish(*outgoing)
    used = (await waiting_room.survey()).used_bytes

    standing = await unacknowledged(delivery, "SIDING", subject, None)
    assert sum(message.stored_bytes for message in standing) == used
    charged = sum(message.stored_bytes for message in outgoing)
    assert used <= charged <= used + 97 * count


async def test_a_turn_is_opened_once(bus: Bus, waiting_room: Siding) -> None:
    replica = Siding(await bus.connect("delivery"))

    first = await waiting_room.open_turn(ONE, TurnState(phase="half_open", in_flight=1))
    second = await replica.open_turn(ONE, TurnState(phase="open", in_flight=8))

    assert first is not None
    assert second is None
    info = await waiting_room.turn_info(ONE)
    assert info is not None
    assert (info["config"]["max_ack_pending"], info["config"]["metadata"]["state"]) == (1, "half_open")


async def test_a_stream_that_takes_no_more_consumers_is_no_place_now(bus: Bus, waiting_room: Siding) -> None:
    info = await api_request(bus.control, "STREAM.INFO.SIDING")
    await api_request(bus.control, "STREAM.DELETE.SIDING")
    await api_request(bus.control, "STREAM.CREATE.SIDING", {**info["config"], "max_consumers": 1})
    one = await waiting_room.open_turn(ONE, TurnState(phase="probing", in_flight=1))
    assert one
    assert await waiting_room.open_turn(OTHER, TurnState(phase="probing", in_flight=1)) is None
    await waiting_room.close_turn(one)
    assert await waiting_room.open_turn(OTHER, TurnState(phase="probing", in_flight=1))


async def test_a_turn_says_in_its_metadata_whose_it_is(waiting_room: Siding) -> None:
    await opened(waiting_room, TurnState(phase="half_open", in_flight=1))

    info = await waiting_room.turn_info(ONE)

    assert info is not None
    expected = {"service": "delivery", "tenant": "acme", "route": "route-1", "kind": "webhook", "state": "half_open"}
    assert expected.items() <= info["config"]["metadata"].items()


async def test_whoever_was_replaced_can_do_nothing_to_its_successors_turn(
    bus: Bus, waiting_room: Siding, fill: Fill, delivery: Connection, consumer: Pull
) -> None:
    await fill(ONE, 2)
    frozen, late = Siding(await bus.connect("delivery"), "frozen"), TurnState(phase="growing", in_flight=16)
    old = await opened(frozen, TurnState(phase="probing", in_flight=1))
    pull, _ = await consumer(delivery, "SIDING", old)
    [in_hand] = await asyncio.wait_for(pull.take(1), 5)
    await waiting_room.close_turn(old)
    await opened(waiting_room, TurnState(phase="probing", in_flight=1))

    await in_hand.ack()
    await frozen.close_turn(old)
    for change in (frozen.change_turn(ONE, old, late), frozen.pause(old, datetime.now(UTC) + timedelta(hours=1))):
        with pytest.raises(ApiError):
            await change

    [turn] = (await waiting_room.turns()).values()
    assert (turn.owner, turn.paused_until) == ("", None)
    info = await waiting_room.turn_info(ONE)
    assert info is not None
    assert info["config"]["max_ack_pending"] == 1
    assert await waiting_room.waiting_of(ONE) == 2


async def test_a_listing_tells_what_a_successor_has_to_know(waiting_room: Siding) -> None:
    since, until = datetime(2026, 1, 5, 12, tzinfo=UTC), datetime.now(UTC) + timedelta(minutes=5)
    state = TurnState(phase="probing", in_flight=1, failures=3, since=since.isoformat())
    turn = await opened(waiting_room, state)
    await waiting_room.pause(turn, until)

    [listing] = (await waiting_room.turns()).values()

    assert (listing.name, listing.failures, listing.since, listing.paused_until) == (turn, 3, since, until)


async def test_metadata_that_somebody_changed_by_hand_is_no_trouble(bus: Bus, waiting_room: Siding) -> None:
    turn = await opened(waiting_room, TurnState(phase="probing", in_flight=1, failures=3, since="yesterday"))
    info = await waiting_room.turn_info(ONE)
    assert info is not None
    config = info["config"]
    config["metadata"]["failures"] = "-many"
    request = {"stream_name": "SIDING", "config": config, "action": "update"}
    await api_request(bus.control, f"CONSUMER.CREATE.SIDING.{turn}.{config['filter_subject']}", request)

    [listing] = (await waiting_room.turns()).values()

    assert (listing.failures, listing.since) == (0, None)


async def test_a_turn_delivers_its_own_route_only(
    waiting_room: Siding, fill: Fill, delivery: Connection, consumer: Pull
) -> None:
    await fill(OTHER, 2)
    await fill(ONE, 2)
    turn = await opened(waiting_room, TurnState(phase="closed", in_flight=10))
    pull, _ = await consumer(delivery, "SIDING", turn)

    taken = await asyncio.wait_for(pull.take(2), 5)

    assert {message.subject for message in taken} == {"siding.webhook.acme.route-1"}


async def test_an_acknowledged_message_leaves_the_siding(
    waiting_room: Siding, fill: Fill, delivery: Connection, consumer: Pull
) -> None:
    await fill(ONE, 2)
    turn = await opened(waiting_room, TurnState(phase="closed", in_flight=10))
    pull, _ = await consumer(delivery, "SIDING", turn)

    [message] = await asyncio.wait_for(pull.take(1), 5)
    await message.ack()

    async with asyncio.timeout(5):
        while await waiting_room.waiting_of(ONE) != 1:
            pass


async def test_a_half_open_turn_lets_one_probe_through_until_it_is_changed(
    waiting_room: Siding, fill: Fill, delivery: Connection, consumer: Pull
) -> None:
    await fill(ONE, 5)
    turn = await opened(waiting_room, TurnState(phase="half_open", in_flight=1))
    pull, _ = await consumer(delivery, "SIDING", turn)
    probe = await asyncio.wait_for(pull.take(5), 5)
    info = await waiting_room.turn_info(ONE)
    assert info is not None
    assert (len(probe), info["num_ack_pending"]) == (1, 1)

    await waiting_room.change_turn(ONE, turn, TurnState(phase="growing", in_flight=4))

    rest = 0
    async with asyncio.timeout(5):
        while rest < 3:
            rest += len(await pull.take(5))
    assert rest == 3


async def test_a_given_back_probe_comes_again_before_its_followers(
    waiting_room: Siding, fill: Fill, delivery: Connection, consumer: Pull
) -> None:
    await fill(ONE, 3)
    turn = await opened(waiting_room, TurnState(phase="half_open", in_flight=1))
    pull, _ = await consumer(delivery, "SIDING", turn)
    [probe] = await asyncio.wait_for(pull.take(1), 5)

    await probe.nak()

    [again] = await asyncio.wait_for(pull.take(1), 5)
    assert again.data == b"body 0"


async def test_a_paused_turn_delivers_nothing_until_it_is_resumed(
    waiting_room: Siding, fill: Fill, delivery: Connection, consumer: Pull
) -> None:
    turn = await opened(waiting_room, TurnState(phase="open", in_flight=4))
    await waiting_room.pause(turn, datetime.now(UTC) + timedelta(minutes=5))
    await fill(ONE, 2)
    pull, _ = await consumer(delivery, "SIDING", turn)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pull.arrival(), 0.3)
    info = await waiting_room.turn_info(ONE)
    assert info is not None
    assert info["paused"] is True

    await waiting_room.pause(turn, datetime.now(UTC) - timedelta(seconds=1))
    await asyncio.wait_for(pull.arrival(), 5)


async def test_a_pause_ends_by_itself(waiting_room: Siding, fill: Fill, delivery: Connection, consumer: Pull) -> None:
    await fill(ONE, 1)
    turn = await opened(waiting_room, TurnState(phase="open", in_flight=1))
    await waiting_room.pause(turn, datetime.now(UTC) + timedelta(seconds=0.5))
    pull, _ = await consumer(delivery, "SIDING", turn)

    await asyncio.wait_for(pull.arrival(), 5)


async def test_a_change_of_a_paused_turn_leaves_its_pause(waiting_room: Siding) -> None:
    turn = await opened(waiting_room, TurnState(phase="open", in_flight=1))
    await waiting_room.pause(turn, datetime.now(UTC) + timedelta(minutes=5))

    await waiting_room.change_turn(ONE, turn, TurnState(phase="open", in_flight=2))

    info = await waiting_room.turn_info(ONE)
    assert info is not None
    assert info.get("paused") is True


async def test_closing_a_turn_leaves_its_messages(waiting_room: Siding, fill: Fill) -> None:
    await fill(ONE, 2)
    turn = await opened(waiting_room, TurnState(phase="half_open", in_flight=1))

    await waiting_room.close_turn(turn)
    await waiting_room.close_turn(turn)

    assert await waiting_room.turn_info(ONE) is None
    assert await waiting_room.waiting_of(ONE) == 2


async def test_a_message_is_read_without_taking_it_and_removed(waiting_room: Siding, fill: Fill) -> None:
    await fill(OTHER, 1)
    await fill(ONE, 2)
    first = await waiting_room.peek(ONE)
    assert first is not None
    second = await waiting_room.peek(ONE, first.stream_seq + 1)
    assert second is not None
    assert [(at.data, at.headers["n"]) for at in (first, second)] == [(b"body 0", "0"), (b"body 1", "1")]
    assert await waiting_room.peek(ONE, second.stream_seq + 1) is None

    for _ in range(2):
        await waiting_room.remove(first.stream_seq)

    assert (await waiting_room.survey()).waiting == {
        "siding.webhook.acme.route-1": 1,
        "siding.webhook.globex.route-2": 1,
    }
    assert await waiting_room.peek(ONE) == second


async def test_a_message_that_is_gone_is_removed_already(waiting_room: Siding, fill: Fill) -> None:
    await fill(ONE, 3)

    for stream_seq in (1, 1, 3, 3):
        await waiting_room.remove(stream_seq)

    assert await waiting_room.waiting_of(ONE) == 1
