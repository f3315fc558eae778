"""What becomes of messages that find no room: in the siding, among the dead letters, in both."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from delivery_yard import MIB, SHARE, Yard, delivery_of, open_yard
from prometheus_client import CollectorRegistry
from support.waiting import eventually

from pulse_bus.api import api_request
from pulse_bus.incoming import Incoming
from pulse_bus.inspection import Standing
from pulse_contracts import subjects
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.adapters.parcels import parcel_of
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.room import SidingRoom
from pulse_delivery.siding.stocktaking import Stocktaking
from pulse_runtime.metrics import DeliveryMetrics
from pulse_testkit.nats import Bus

ONE = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("r-1"))
OTHER = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("r-2"))


@pytest.fixture
async def yard(bus: Bus) -> AsyncGenerator[Yard]:
    async with open_yard(bus) as opened:
        yield opened


async def test_a_route_gets_its_part_and_the_rest_become_dead_letters_that_say_why(yard: Yard) -> None:
    await yard.shunt(await yard.arrive(ONE, 15))

    waiting, dead = await yard.waiting(), await yard.dead()
    assert len(waiting) == 10, "a fifth of 5 MiB, at a share of a half"
    assert {record.reason for record in dead} == {"siding_full"}
    assert dead[0].error.startswith("siding_full: the route's messages in the siding take 0.9")
    assert _ids(waiting) | {record.envelope.message_id for record in dead} == {f"m-{n}" for n in range(15)}
    assert yard.refused("route_bytes") == 5
    await eventually(yard.unsettled, until=lambda count: count == 0)


async def test_another_route_of_the_tenant_still_finds_room_and_another_tenant_more(yard: Yard) -> None:
    await yard.shunt(await yard.arrive(ONE, 15))
    await yard.shunt(await yard.arrive(OTHER, 3, first=100))
    stranger = RouteAddress(kind="webhook", tenant=TenantId("globex"), route=RouteId("r-9"))
    await yard.shunt(await yard.arrive(stranger, 6, first=200))

    assert _ids(await yard.waiting()) >= {"m-100", "m-101", "m-102", *(f"m-{200 + n}" for n in range(6))}


async def test_a_route_at_its_number_of_messages_makes_dead_letters(yard: Yard) -> None:
    await yard.limit("SIDING", max_msgs_per_subject=2)

    await yard.shunt(await yard.arrive(ONE, 3))

    [record] = await yard.dead()
    assert record.error == "siding_full: 2 messages of the route wait already"
    assert yard.refused("route_messages") == 1


async def test_the_servers_own_bound_is_the_last_resort(yard: Yard) -> None:
    messages = await yard.arrive(ONE, 2)
    info = await api_request(yard.bus.control, "STREAM.INFO.SIDING")
    await api_request(yard.bus.control, "STREAM.UPDATE.SIDING", {**info["config"], "max_bytes": 1000})

    await yard.shunt(messages[:1])
    assert yard.room.held_bytes(ONE.tenant) == 0
    assert not yard.troubles.is_troubled(ONE)
    await yard.stocktaking.count()
    await yard.shunt(messages[1:])

    first, second = await yard.dead()
    assert first.error == "siding_full: the server says: maximum bytes exceeded"
    assert second.error == "siding_full: the siding is full: 0.000954 MiB are free"
    assert yard.refused("siding") == 2


async def test_a_dead_letter_that_finds_no_room_waits_in_the_siding_and_not_on_the_fast_lane(yard: Yard) -> None:
    await yard.limit("DEADLETTER", max_bytes=1000)
    [message] = await yard.arrive(ONE, 1)

    await yard.settler.dead_letter(message, _tried(message), None, "status_404", "not found")

    [standing] = await yard.waiting()
    assert (standing.headers["Pulse-Cause"], standing.headers["Pulse-Attempts"]) == ("dead_letters_full", "1")
    assert await yard.dead() == []
    await eventually(yard.unsettled, until=lambda count: count == 0)


async def test_beyond_a_tenants_share_too_while_there_is_no_room_for_dead_letters(yard: Yard) -> None:
    await yard.limit("DEADLETTER", max_bytes=1000)

    await yard.shunt(await yard.arrive(ONE, 40))

    waiting = await yard.waiting()
    assert 20 < len(waiting) < 30, "half of 5 MiB: the siding is not one tenant's now either"
    assert await yard.dead() == []
    rest = 40 - len(waiting)
    await eventually(yard.unsettled, until=lambda count: count == rest, what="the return of the rest to DELIVERY")


async def test_a_head_moves_to_the_tail_although_its_tenant_has_no_room_left(yard: Yard) -> None:
    await yard.shunt(await yard.arrive(ONE, 15))
    before = await yard.waiting()
    head = await yard.head(ONE)

    assert await yard.settler.move_to_tail(head, _tried(head), "head_failed")

    ids = [json.loads(message.data)["message_id"] for message in await _after_removal(yard, len(before))]
    assert ids[-1] == "m-0"
    assert ids[0] == "m-1"
    assert len(await yard.dead()) == 5


async def test_a_head_that_the_server_has_no_room_to_move_stays_and_is_no_dead_letter(yard: Yard) -> None:
    await yard.limit("SIDING", max_msgs_per_subject=2)
    await yard.shunt(await yard.arrive(ONE, 2))
    head = await yard.head(ONE)

    assert not await yard.settler.move_to_tail(head, _tried(head), "head_failed")

    assert _ids(await yard.waiting()) == {"m-0", "m-1"}
    assert await yard.dead() == []


async def test_a_dead_letter_that_is_too_large_for_its_stream_is_cut_and_says_so(yard: Yard) -> None:
    body_bytes = yard.bus.control.max_payload - 1500
    await yard.publisher.publish(delivery_of(ONE, 1, body_bytes))
    [message] = await yard.take(1)

    async with asyncio.timeout(10):
        await yard.settler.dead_letter(message, parcel_of(message), None, "status_400", "x" * 1990)

    [record] = await yard.dead()
    kept = json.loads(record.envelope.payload)
    assert (record.envelope.message_id, record.reason) == ("m-1", "status_400")
    assert kept["cut_from_bytes"] > body_bytes
    assert kept["begins"].startswith('{"blob": "xxx')


async def test_what_stood_before_the_start_is_valued_by_samples(yard: Yard) -> None:
    small = RouteAddress(kind="webhook", tenant=TenantId("small"), route=RouteId("r-8"))
    await yard.shunt(await yard.arrive(ONE, 10))
    filler = [delivery_of(small, 300 + n, body_bytes=1) for n in range(50)]
    await yard.publisher.publish(*filler)
    await yard.shunt(await yard.take(50))
    true_bytes = dict.fromkeys((ONE.tenant, small.tenant), 0)
    for standing in await yard.waiting():
        true_bytes[subjects.parse_route_address(standing.subject).tenant] += standing.stored_bytes

    room = SidingRoom(SHARE)
    registry = CollectorRegistry()
    metrics = DeliveryMetrics(registry)
    stocktaking = Stocktaking(yard.siding, room, metrics=metrics, random=lambda: 0.1)
    await stocktaking.count()
    assert room.held_bytes(small.tenant) > 10 * true_bytes[small.tenant], "nothing is known yet but the mean of all"
    await stocktaking.sample()
    await stocktaking.count()

    for tenant, size_bytes in true_bytes.items():
        assert room.held_bytes(tenant) == pytest.approx(size_bytes, rel=0.02)
    used = sum(true_bytes.values())
    assert registry.get_sample_value("pulse_delivery_siding_bytes") == used
    assert registry.get_sample_value("pulse_delivery_siding_most_bytes") == 5 * MIB
    shares = [registry.get_sample_value("pulse_delivery_siding_share", {"rank": rank}) for rank in "123"]
    expected = [size_bytes / (5 * MIB) for size_bytes in true_bytes.values()]
    assert shares == pytest.approx([*expected, 0.0], rel=0.02)


async def _after_removal(yard: Yard, count: int) -> list[Standing]:
    """Wait until the acknowledged head has left."""
    async with asyncio.timeout(15):
        while len(standing := await yard.waiting()) != count:
            pass
    return standing


def _tried(message: Incoming) -> Parcel:
    return replace(parcel_of(message), attempts=1)


def _ids(standing: list[Standing]) -> set[str]:
    return {json.loads(message.data)["message_id"] for message in standing}
