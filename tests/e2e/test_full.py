"""Full means refuse, never drop, and nobody else notices."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from statistics import median

import pytest
from support.pulse import Pulse, running
from support.receiver import Receiver, open_receiver
from support.tenant import Device, Tenant
from support.waiting import eventually

from pulse_bus.api import api_request
from pulse_bus.inspection import Standing, unacknowledged
from pulse_storage.dead_letters import DeadLetterRow

KIB = 1024
SIDING_KIB = 1024
IN_A_ROW = 25
BLOB = "x" * (4 * KIB)
PER_BATCH = 24
MEASURED = 10
MOST_DEAD = 10_000
GREEDY = ("k0", "k1", "k2")
"""The types of messages that a tenant has a route for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """How long one message took: until ingest answered, and until it was delivered."""

    answered_s: float
    delivered_s: float


@pytest.fixture(scope="module")
async def pulse(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pulse]:
    async with running(tmp_path_factory.mktemp("pulse"), PULSE_LOG_LEVEL="debug") as stack:
        yield stack


async def limit(pulse: Pulse, stream: str, max_bytes: int) -> None:
    """Edit a stream as an operator may."""
    async with pulse.bus() as bus:
        info = await api_request(bus, f"STREAM.INFO.{stream}")
        await api_request(bus, f"STREAM.UPDATE.{stream}", {**info["config"], "max_bytes": max_bytes})


@pytest.fixture
async def dead() -> AsyncGenerator[Receiver]:
    """A receiver that refuses to be connected to, until somebody opens it."""
    async with open_receiver() as opened:
        await opened.close()
        yield opened


@pytest.mark.timeout(180)
async def test_a_tenant_that_fills_its_share_of_the_siding_is_the_only_one_to_notice(
    pulse: Pulse, receiver: Receiver, dead: Receiver
) -> None:
    await limit(pulse, "SIDING", SIDING_KIB * KIB)
    greedy, modest, calm = [await pulse.tenant(name) for name in ("greedy", "modest", "calm")]
    for kind in GREEDY:
        await greedy.webhook(dead.url("/greedy"), name=kind, topic_filter=f"tenant/+/device/+/{kind}")
    modest_route = await modest.webhook(dead.url("/modest"))
    await calm.webhook(receiver.url("/calm"))
    devices = {tenant: await tenant.device() for tenant in (greedy, modest, calm)}
    before = [await _timed(devices[calm], receiver) for _ in range(20)]

    sent: set[str] = set()
    measured = asyncio.Event()
    flooding = asyncio.create_task(_flood(greedy, sent, measured), name="test.flood")
    await eventually(lambda: _refused(pulse), what="a tenant whose share is full")
    during: list[Took] = []
    while not flooding.done():
        during.append(await _timed(devices[calm], receiver))
        if len(during) >= MEASURED:
            measured.set()
    await flooding
    waiting, dead_letters = await eventually(
        lambda: _settled(greedy),
        20,
        until=lambda found: found[0] + len(found[1]) == len(sent),
        what="one place for each message",
    )
    assert {row.reason for row in dead_letters} == {"siding_full"}
    assert all(
        "share of what is free" in row.error_message or "are left of its tenant" in row.error_message
        for row in dead_letters
    )
    _expect_its_share(await _held_bytes(pulse, greedy))

    # Who comes later still finds room, and its messages wait.
    late = set(await modest.batch(*(("d1", "data", {"blob": BLOB}) for _ in range(20))))
    await eventually(
        modest_route.waiting, until=lambda waiting: waiting == len(late), what="the siding of another tenant"
    )
    assert not await modest.dead_letters()
    assert not await calm.dead_letters()
    _expect_not_to_notice(before, during)

    await dead.open()
    await eventually(
        lambda: {r.message_id for r in dead.of("/modest")} == late, 30, what="the modest tenant's messages"
    )
    buried, delivered = await eventually(
        lambda: _fates(greedy, dead),
        30,
        until=lambda fates: fates[0] | fates[1] == sent,
        what="a fate for each message",
    )
    assert not buried & delivered
    assert len(delivered) == waiting, "its share was delivered in the end"
    await limit(pulse, "SIDING", 2048 * KIB * KIB)


async def _flood(greedy: Tenant, sent: set[str], measured: asyncio.Event) -> None:
    """Send twice what all of the siding takes, and more until the neighbour is measured, at a pace that lets it be."""
    while len(sent) < 2 * SIDING_KIB // 4 or not measured.is_set():
        pause = asyncio.create_task(asyncio.sleep(0.15))
        items = (("d1", GREEDY[number % len(GREEDY)], {"blob": BLOB}) for number in range(PER_BATCH))
        sent.update(await greedy.batch(*items))
        await pause


async def _refused(pulse: Pulse) -> float:
    return await pulse.metric_sum("delivery", "pulse_delivery_siding_full_total")


async def _settled(tenant: Tenant) -> tuple[int, list[DeadLetterRow]]:
    """Return how many messages of a tenant stand in the siding, and its dead letters."""
    standing = await _standing(tenant.pulse, tenant)
    return len(standing), await tenant.dead_letters(most=MOST_DEAD)


async def _standing(pulse: Pulse, tenant: Tenant) -> list[Standing]:
    async with pulse.bus() as bus:
        return await unacknowledged(bus, "SIDING", f"siding.*.{tenant.tenant_id}.*", None)


async def _held_bytes(pulse: Pulse, tenant: Tenant) -> Counter[str]:
    """Return what each of its routes takes in the siding."""
    held: Counter[str] = Counter()
    for message in await _standing(pulse, tenant):
        held[message.subject] += message.stored_bytes
    return held


def _expect_its_share(held_bytes: Counter[str]) -> None:
    """Alone, a tenant gets up to half of what it leaves free, so a third; each route what the others leave of that."""
    most = SIDING_KIB * KIB / 3
    print(f"held by each route: {sorted(held_bytes.values())} bytes, at most {most:.0f} together")
    assert 0.6 * most <= held_bytes.total() <= most
    assert len(held_bytes) == len(GREEDY)
    assert min(held_bytes.values()) >= 0.1 * most


def _expect_not_to_notice(before: list[Took], during: list[Took]) -> None:
    assert len(during) >= MEASURED, "the neighbour was measured while the siding was full for the other"
    for what, name in (("ingest", "answered_s"), ("delivery", "delivered_s")):
        calm, beside = (median(getattr(took, name) for took in each) for each in (before, during))
        print(f"{what}: median {calm * 1000:.0f} ms, {beside * 1000:.0f} ms beside who fills its share")
        assert beside <= 3 * calm + 0.1


@pytest.mark.timeout(240)
async def test_with_delivery_down_everything_waits_is_refused_in_time_and_drains_afterwards(
    pulse: Pulse, receiver: Receiver
) -> None:
    tenant = await pulse.tenant()
    await tenant.webhook(receiver.url("/hook"))
    device = await tenant.device()
    mqtt_device = await tenant.device("m1")
    await limit(pulse, "DELIVERY", 256 * KIB)
    await limit(pulse, "TELEMETRY", 512 * KIB)
    await pulse.stack.stop("delivery")

    accepted, refused = await _fill(device)
    assert refused["retry-after"].isdigit()
    unready = await pulse.admin("router", "/ready")
    assert (unready.status_code, list(unready.json()["reasons"])) == (503, ["delivery"])
    await mqtt_device.publish({"blob": BLOB})
    # Its broker has it, and keeps it: ingest acknowledges nothing that it cannot commit.
    assert await eventually(lambda: _kept_by_broker(pulse), what="the message at the broker") == 1
    assert (await device.post({"blob": BLOB})).status_code == 503
    assert await _kept_by_broker(pulse) == 1

    await pulse.stack.restart("delivery")
    await eventually(
        lambda: len({r.message_id for r in receiver.of("/hook")}) >= len(accepted) + 1, 60, what="the drain"
    )
    delivered = [request.message_id for request in receiver.of("/hook")]
    assert accepted <= set(delivered)
    assert len(delivered) == len(set(delivered)) == len(accepted) + 1
    # A webhook may be there before the broker has heard that ingest committed the message.
    await eventually(lambda: _kept_by_broker(pulse), until=lambda kept: kept == 0, what="ingest's acknowledgement")
    assert not await tenant.dead_letters()
    await eventually(lambda: _is_accepted(device), 20, what="the end of the refusals")
    assert (await pulse.admin("router", "/ready")).status_code == 200


async def _fill(device: Device) -> tuple[set[str], dict[str, str]]:
    """Send until only refusals come, also after what was on its way has found its place; returns what was accepted.

    They count from the router's stop on: before it, the next message that the router passes on makes room for another.
    """
    accepted: set[str] = set()
    refusals: list[dict[str, str]] = []

    async def post() -> int:
        router_stands = bool(device.tenant.pulse.log("router", "delivery_queue_full"))
        answer = await device.post({"blob": BLOB})
        if answer.status_code == 202:
            accepted.add(answer.json()["message_id"])
            refusals.clear()
        else:
            assert answer.status_code == 503, answer.text
            refusals.append(dict(answer.headers))
        if not router_stands:
            refusals.clear()
        return len(refusals)

    await eventually(post, 60, until=lambda count: count >= IN_A_ROW, what="nothing but refusals")
    return accepted, refusals[-1]


async def _kept_by_broker(pulse: Pulse) -> int:
    """How many MQTT messages wait for an acknowledgement of ingest."""
    async with pulse.bus() as bus:
        info = await api_request(bus, "STREAM.INFO.$MQTT_msgs")
    return info["state"]["messages"]


async def _fates(tenant: Tenant, receiver: Receiver) -> tuple[set[str], set[str]]:
    """Return which messages are dead letters and which were delivered."""
    rows = await tenant.dead_letters(most=MOST_DEAD)
    return {row.message_id for row in rows}, {request.message_id for request in receiver.of("/greedy")}


async def _is_accepted(device: Device) -> bool:
    return (await device.post({"n": 1})).status_code == 202


async def _timed(device: Device, receiver: Receiver) -> Took:
    """Send one message and wait for its arrival."""
    at = time.monotonic()
    message = await device.accepted({"n": 1})
    answered_s = time.monotonic() - at
    await eventually(lambda: any(r.message_id == message for r in receiver.of("/calm")), what="a calm message")
    arrived = next(r.at for r in receiver.of("/calm") if r.message_id == message)
    return Took(answered_s=answered_s, delivered_s=arrived - at)
