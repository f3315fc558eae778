"""Fairness by volume: a tenant's burst delays another's messages by no more than it takes to move the burst aside.

`PULSE_TEST_BURST=100000` measures it at full size (`pytest -s`); a smaller burst shows the same here.
"""

import asyncio
import os
import time

import pytest
from support.pulse import Pulse
from support.receiver import Receiver, takes
from support.tenant import Device, Tenant
from support.waiting import eventually

from pulse_bus.api import api_request

pytestmark = pytest.mark.alone

BURST = int(os.environ.get("PULSE_TEST_BURST", "3000"))
PER_REQUEST = 500
INTERVAL_S = 0.1
SLACK_S = 0.5


@pytest.mark.timeout(60 + BURST / 50)
async def test_a_burst_delays_another_tenant_no_longer_than_it_takes_to_move_it_aside(
    pulse: Pulse, receiver: Receiver
) -> None:
    loud, calm = await pulse.tenant("loud"), await pulse.tenant("calm")
    receiver.behaviour["/loud"] = takes(0.1)
    loud_route = await loud.webhook(receiver.url("/loud"))
    await calm.webhook(receiver.url("/calm"))
    await loud.device()
    device = await calm.device()

    stop = asyncio.Event()
    pinging = asyncio.create_task(_ping(device, stop), name="test.calm")
    await eventually(lambda: len(receiver.of("/calm")) >= 10, what="the calm before")
    began = time.monotonic()
    await _burst(loud)
    sent_s = time.monotonic() - began
    await eventually(lambda: _on_the_fast_lane(pulse), 30 + BURST / 100, until=lambda left: left < 100)
    aside_s = time.monotonic() - began
    waiting = await loud_route.waiting()
    stop.set()
    sent = await pinging
    await eventually(lambda: len(receiver.of("/calm")) >= len(sent), what="the calm messages")

    took_s = sorted(request.at - sent[request.message_id] for request in receiver.of("/calm"))
    p50_ms, worst_ms = took_s[len(took_s) // 2] * 1000, took_s[-1] * 1000
    print(
        f"burst of {BURST}: sent in {sent_s:.1f} s, aside after {aside_s:.1f} s with {waiting} in the siding; "
        f"another tenant's {len(sent)} messages took {p50_ms:.0f} ms, at most {worst_ms:.0f} ms"
    )
    assert waiting > BURST / 4, "the burst was too much for its lane"
    assert took_s[-1] <= aside_s + SLACK_S


async def _burst(tenant: Tenant) -> None:
    for _ in range(BURST // PER_REQUEST):
        await tenant.batch(*(("d1", "data", {"n": number}) for number in range(PER_REQUEST)))


async def _ping(device: Device, stop: asyncio.Event) -> dict[str, float]:
    """Send steadily until stopped; returns when each message was sent."""
    sent: dict[str, float] = {}
    while not stop.is_set():
        at = time.monotonic()
        sent[await device.accepted({})] = at
        await asyncio.sleep(INTERVAL_S)
    return sent


async def _on_the_fast_lane(pulse: Pulse) -> int:
    """Messages that are not yet delivered nor moved aside, the router's included."""
    async with pulse.bus() as bus:
        router = await api_request(bus, "CONSUMER.INFO.TELEMETRY.router")
        lane = await api_request(bus, "CONSUMER.INFO.DELIVERY.deliver-webhook")
    return sum(info["num_pending"] + info["num_ack_pending"] for info in (router, lane))
