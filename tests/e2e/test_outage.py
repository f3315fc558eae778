"""The way out is lost for all webhooks at once: pulling stops, nothing is shunted wholesale, all resumes."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from support.pulse import Pulse
from support.receiver import Receiver
from support.tenant import Device, Route
from support.waiting import eventually

from pulse_bus.api import api_request
from pulse_testkit.way_out import WayOut

pytestmark = pytest.mark.alone

TENANTS, ROUTES_EACH = 4, 10
INTERVAL_S = 0.25
OUTAGE_S = 8.0
QUIET_S = 0.5
"""Where nobody answers for so long, it may be an outage (ADR 0023)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Devices whose every message goes to a route of their own, all of them behind one way out."""

    pulse: Pulse
    way_out: WayOut
    devices: list[Device]
    routes: list[Route]

    async def send_for(self, seconds: float, every_s: float = INTERVAL_S) -> set[str]:
        """Send from all devices at a steady rate; returns the ids."""
        deadline = asyncio.get_running_loop().time() + seconds
        sent: set[str] = set()
        while asyncio.get_running_loop().time() < deadline:
            pause = asyncio.create_task(asyncio.sleep(every_s))
            sent.update(await asyncio.gather(*(device.accepted({}, device.device_id) for device in self.devices)))
            await pause
        return sent

    async def shunted(self) -> float:
        text = (await self.pulse.admin("delivery", "/metrics")).text
        by_reason = [line for line in text.splitlines() if line.startswith("pulse_delivery_shunts_total{")]
        print(*by_reason, sep="\n")
        return sum(float(line.rsplit(" ", 1)[1]) for line in by_reason)


@pytest.fixture
async def fleet(pulse: Pulse, receiver: Receiver) -> AsyncGenerator[Fleet]:
    async with WayOut(receiver.port) as way_out:
        devices: list[Device] = []
        routes: list[Route] = []
        for number in range(TENANTS):
            tenant = await pulse.tenant()
            names = [f"d{number}-{index}" for index in range(ROUTES_EACH)]
            devices += await pulse.devices(tenant, *names)
            for name in names:
                url = f"http://127.0.0.1:{way_out.port}/hook"
                routes.append(await tenant.webhook(url, name=name, topic_filter=f"tenant/+/device/+/{name}"))
        yield Fleet(pulse=pulse, way_out=way_out, devices=devices, routes=routes)


async def unsettled(pulse: Pulse) -> int:
    """Return how many messages of the fast lane are not acknowledged."""
    async with pulse.bus() as bus:
        info = await api_request(bus, "CONSUMER.INFO.DELIVERY.deliver-webhook")
    return info["num_pending"] + info["num_ack_pending"]


@pytest.mark.timeout(120)
async def test_nothing_is_shunted_wholesale_while_nobody_can_be_reached(fleet: Fleet, receiver: Receiver) -> None:
    pulse = fleet.pulse
    sent = await fleet.send_for(2.0)
    await eventually(lambda: len(receiver.of("/hook")) == len(sent), what="delivery before the outage")
    # An answer that is cut off on its way back is asked for again, which would be a delivery too many.
    await eventually(lambda: unsettled(pulse), until=lambda left: left == 0, what="the end of every attempt")

    await fleet.way_out.shut()
    sent |= await fleet.send_for(OUTAGE_S)
    assert pulse.log("delivery", "outage_began", kind="webhook")
    assert await fleet.shunted() <= len(fleet.routes) * 0.1

    fleet.way_out.open()
    sent |= await fleet.send_for(1.0)

    await eventually(lambda: pulse.log("delivery", "outage_ended", kind="webhook"), 20, what="the end of the outage")
    await eventually(lambda: {r.message_id for r in receiver.of("/hook")} == sent, 20, what="delivery of all")
    assert await fleet.shunted() <= len(fleet.routes) * 0.1
    assert len(receiver.of("/hook")) == len(sent)


@pytest.mark.timeout(120)
async def test_one_answer_proves_the_way_out(fleet: Fleet, receiver: Receiver) -> None:
    """However many endpoints are dead, one that answers keeps its messages coming at once."""
    pulse = fleet.pulse
    tenant = await pulse.tenant()
    device = await tenant.device()
    await tenant.webhook(receiver.url("/alive"))
    before = len(pulse.log("delivery", "outage_began"))

    async def keep_alive(offset_s: float) -> set[str]:
        await asyncio.sleep(offset_s)
        return {await device.accepted({"n": number}) for number in range(60) if not await asyncio.sleep(0.1)}

    await fleet.way_out.shut()
    # Two senders, and a message a second for each dead endpoint: the answers must come closer than half a second.
    *alive, _ = await asyncio.gather(keep_alive(0.0), keep_alive(0.05), fleet.send_for(4.0, every_s=1.0))

    await eventually(lambda: {r.message_id for r in receiver.of("/alive")} == set[str]().union(*alive))
    times = sorted(request.at for request in receiver.of("/alive"))
    quiet_s = max(later - earlier for earlier, later in pairwise(times))
    print(f"nobody answered for {quiet_s:.2f} s at most")
    if quiet_s < QUIET_S / 2:
        assert len(pulse.log("delivery", "outage_began")) == before
    assert await fleet.shunted() > 0
    fleet.way_out.open()
