"""The way out is lost for all webhooks at once: pulling stops, nothing is shunted wholesale, all resumes."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest
from support.pulse import Pulse
from support.receiver import Receiver
from support.tenant import Device, Route
from support.waiting import eventually

from pulse_testkit.way_out import WayOut

TENANTS, ROUTES_EACH = 4, 10
INTERVAL_S = 0.25
OUTAGE_S = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Devices whose every message goes to a route of their own, all of them behind one way out."""

    pulse: Pulse
    way_out: WayOut
    devices: list[Device]
    routes: list[Route]

    async def send_for(self, seconds: float) -> set[str]:
        """Send from all devices at a steady rate; returns the ids."""
        deadline = asyncio.get_running_loop().time() + seconds
        sent: set[str] = set()
        while asyncio.get_running_loop().time() < deadline:
            pause = asyncio.create_task(asyncio.sleep(INTERVAL_S))
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


@pytest.mark.timeout(120)
async def test_nothing_is_shunted_wholesale_while_nobody_can_be_reached(fleet: Fleet, receiver: Receiver) -> None:
    pulse = fleet.pulse
    sent = await fleet.send_for(2.0)
    await eventually(lambda: len(receiver.of("/hook")) == len(sent), what="delivery before the outage")

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

    async def keep_alive() -> set[str]:
        return {await device.accepted({"n": number}) for number in range(60) if not await asyncio.sleep(0.1)}

    await fleet.way_out.shut()
    alive, _ = await asyncio.gather(keep_alive(), fleet.send_for(4.0))

    await eventually(lambda: {r.message_id for r in receiver.of("/alive")} == alive, 5, what="the healthy route")
    assert len(pulse.log("delivery", "outage_began")) == before
    assert await fleet.shunted() > 0
    fleet.way_out.open()
