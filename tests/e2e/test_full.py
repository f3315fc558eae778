"""Full means refuse, never drop, and nobody else notices."""

import asyncio
import time
from collections.abc import AsyncGenerator
from statistics import median

import pytest
from support.pulse import Pulse, running
from support.receiver import Receiver, open_receiver
from support.tenant import Device, Tenant
from support.waiting import eventually

from pulse_bus.api import api_request

KIB = 1024
SIDING_KIB = 1024
IN_A_ROW = 25
BLOB = "x" * (4 * KIB)


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
    await greedy.webhook(dead.url("/greedy"))
    modest_route = await modest.webhook(dead.url("/modest"))
    await calm.webhook(receiver.url("/calm"))
    devices = {tenant: await tenant.device() for tenant in (greedy, modest, calm)}
    before_s = await _latencies_s(devices[calm], receiver, 30)

    sent: set[str] = set()

    async def flood() -> None:
        for _ in range(16):
            sent.update(await greedy.batch(*(("d1", "data", {"blob": BLOB}) for _ in range(25))))

    flooding = asyncio.create_task(flood(), name="test.flood")
    during_s = await _latencies_s(devices[calm], receiver, 30)
    await flooding
    rows = await eventually(
        lambda: greedy.dead_letters(most=1000), 20, until=lambda rows: len(rows) > 100, what="dead letters"
    )
    assert {row.reason for row in rows} == {"siding_full"}
    assert all(
        "share of what is free" in row.error_message or "are left of its tenant" in row.error_message for row in rows
    )

    # Who comes later still finds room, and its messages wait.
    late = set(await modest.batch(*(("d1", "data", {"blob": BLOB}) for _ in range(20))))
    await eventually(
        modest_route.waiting, until=lambda waiting: waiting == len(late), what="the siding of another tenant"
    )
    assert not await modest.dead_letters()
    assert not await calm.dead_letters()
    print(f"calm: median {median(before_s) * 1000:.0f} ms, {median(during_s) * 1000:.0f} ms beside who fills its share")
    assert median(during_s) <= 3 * median(before_s) + 0.1

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
    assert delivered, "its share was delivered in the end"
    await limit(pulse, "SIDING", 2048 * KIB * KIB)


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
    await eventually(lambda: pulse.log("router", "delivery_queue_full"), what="the router's stop")
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
    assert await _kept_by_broker(pulse) == 0
    assert not await tenant.dead_letters()
    await eventually(lambda: _is_accepted(device), 20, what="the end of the refusals")


async def _fill(device: Device) -> tuple[set[str], dict[str, str]]:
    """Send until only refusals come, also after what was on its way has found its place; returns what was accepted."""
    accepted: set[str] = set()
    refusals: list[dict[str, str]] = []

    async def post() -> int:
        answer = await device.post({"blob": BLOB})
        if answer.status_code == 202:
            accepted.add(answer.json()["message_id"])
            refusals.clear()
        else:
            assert answer.status_code == 503, answer.text
            refusals.append(dict(answer.headers))
        return len(refusals)

    await eventually(post, 60, until=lambda count: count == IN_A_ROW, what="nothing but refusals")
    return accepted, refusals[-1]


async def _kept_by_broker(pulse: Pulse) -> int:
    """How many MQTT messages wait for an acknowledgement of ingest."""
    async with pulse.bus() as bus:
        info = await api_request(bus, "STREAM.INFO.$MQTT_msgs")
    return info["state"]["messages"]


async def _fates(tenant: Tenant, receiver: Receiver) -> tuple[set[str], set[str]]:
    """Return which messages are dead letters and which were delivered."""
    rows = await tenant.dead_letters(most=1000)
    return {row.message_id for row in rows}, {request.message_id for request in receiver.of("/greedy")}


async def _is_accepted(device: Device) -> bool:
    return (await device.post({"n": 1})).status_code == 202


async def _latencies_s(device: Device, receiver: Receiver, count: int) -> list[float]:
    """Send one message after the other, each when the one before has arrived."""
    found: list[float] = []
    for number in range(count):
        at = time.monotonic()
        message = await device.accepted({"n": number})
        await eventually(lambda m=message: any(r.message_id == m for r in receiver.of("/calm")), what="a calm message")
        found.append(next(r.at for r in receiver.of("/calm") if r.message_id == message) - at)
    return found
