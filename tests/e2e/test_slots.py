"""The slot budget when it is used up: who hangs fills it, and another tenant's destinations do not notice.

The blast radius of `bench` never comes near a budget of 4,096; here it is small, and more hangs than there are slots.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Sequence

import pytest
from support.pulse import Pulse, running
from support.receiver import Receiver, hangs
from support.tenant import Device
from support.waiting import eventually

from pulse_cli.ledger.invariants import healthy_bound_s
from pulse_control.route_input import RouteInput

pytestmark = pytest.mark.alone

SLOTS = 64
HANGING, EACH = 80, 4
"""So many routes of one tenant, and messages for each of them: five times what there are slots for."""
HEALTHY = 4
"""Tenants."""
MEASURED = 150
LONGEST_S = 2.0
GATE = 2.0
"""Times the goal, for a machine that others use."""


@pytest.fixture(scope="module")
async def pulse(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pulse]:
    only = {"delivery": {"DELIVERY_WORKER_COUNT": str(SLOTS)}}
    async with running(tmp_path_factory.mktemp("pulse"), only=only) as stack:
        yield stack


async def test_a_tenant_that_fills_the_slots_is_the_only_one_to_notice(pulse: Pulse, receiver: Receiver) -> None:
    devices = [await _healthy(pulse, receiver, f"healthy{number}") for number in range(HEALTHY)]
    hog = await pulse.tenant("hog")
    await pulse.devices(hog, "d1")
    let_go = asyncio.Event()
    receiver.behaviour["/hanging"] = hangs(let_go)
    await pulse.routes(*((hog, _hanging(receiver, number)) for number in range(HANGING)))
    await _measure(receiver, devices, 10)
    before = _p90_ms(await _measure(receiver, devices, MEASURED))

    await hog.batch(*(("d1", f"k{number}", {"v": 1}) for number in range(HANGING) for _ in range(EACH)))
    await eventually(lambda: _slots_in_use(pulse), until=lambda used: used >= SLOTS * 3 / 4, what="the slots in use")
    took_s = await _measure(receiver, devices, MEASURED)
    during = _p90_ms(took_s)
    used = await _slots_in_use(pulse)
    let_go.set()
    await eventually(
        lambda: len(receiver.of("/hanging")) >= HANGING * EACH, 60, what="the hanging tenant's messages, in the end"
    )

    bound_ms = GATE * healthy_bound_s(before / 1000) * 1000
    refused = await pulse.metric("delivery", 'pulse_delivery_shunts_total{reason="no_slot"}')
    print(
        f"p90 {before:.0f} -> {during:.0f} ms, bound {bound_ms:.0f}; {used:.0f} slots in use, {refused:.0f} found none"
    )
    assert refused > 0, "more hung than there were slots for"
    assert {entry["tenant_id"] for entry in pulse.log("delivery", "route_troubled")} == {hog.tenant_id}
    assert during <= bound_ms
    # Each is sent after the one before: one that waits for somebody's deadline of 20 s is one of many.
    assert max(took_s) < LONGEST_S


async def _healthy(pulse: Pulse, receiver: Receiver, name: str) -> Device:
    tenant = await pulse.tenant(name)
    await tenant.webhook(receiver.url("/healthy"))
    return await tenant.device()


def _hanging(receiver: Receiver, number: int) -> RouteInput:
    return RouteInput(
        name=f"k{number}",
        topic_filter=f"tenant/+/device/+/k{number}",
        kind="webhook",
        config={"url": receiver.url("/hanging")},
        policy={"deadline_s": 20},
    )


async def _slots_in_use(pulse: Pulse) -> float:
    return await pulse.metric("delivery", "pulse_delivery_slots_in_use")


async def _measure(receiver: Receiver, devices: Sequence[Device], count: int) -> list[float]:
    """Send so many messages, each when the one before has come; returns what they took, in seconds."""
    took_s: list[float] = []
    for number in range(count):
        at = time.monotonic()
        sent = await devices[number % len(devices)].accepted({})
        [arrived] = await eventually(lambda sent=sent: _arrivals(receiver, sent), what="a healthy message")
        took_s.append(arrived - at)
    return took_s


def _p90_ms(took_s: Sequence[float]) -> float:
    return statistics.quantiles(took_s, n=10)[-1] * 1000


def _arrivals(receiver: Receiver, message_id: str) -> list[float]:
    return [request.at for request in receiver.of("/healthy") if request.message_id == message_id]
