"""Slow is not sick: neither slow destinations nor a frozen process of ours send healthy routes to the siding."""

import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncGenerator

import pytest
from support.fleet import Fleet, make_fleet
from support.pulse import Pulse, running
from support.receiver import Receiver, takes
from support.waiting import eventually

pytestmark = pytest.mark.alone

TENANTS, ROUTES_EACH = 20, 10
ANSWERS_AFTER_S = 0.6
BUSY, AT_ONCE, EVERY_S = 5, 20, 1.0
"""Sent to the busy routes: 20 a second of the 26 that 16 attempts of 0.6 s each sustain, so that some wait."""
OTHERS_EVERY_S = 2.0
"""To all of them all the while: 26 a second to each of them would be 5,000, which no machine of two cores takes."""
SECONDS = 10.0
FROZEN_S = 3.0
NORMAL_WITHIN_S = 10.0


@pytest.fixture(scope="module")
async def pulse(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pulse]:
    async with running(tmp_path_factory.mktemp("pulse")) as stack:
        yield stack


@pytest.mark.timeout(180)
async def test_routes_that_answer_in_600_ms_at_a_rate_they_can_sustain_stay_out_of_trouble(
    pulse: Pulse, receiver: Receiver
) -> None:
    receiver.behaviour["/slow"] = takes(ANSWERS_AFTER_S)
    fleet = await make_fleet(pulse, receiver, "/slow", tenants=TENANTS, routes_each=ROUTES_EACH)
    await fleet.send_for(1.0)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.send_for(SECONDS, OTHERS_EVERY_S), name="test.others")
        await fleet.burst_for(SECONDS, AT_ONCE, every_s=EVERY_S, tenants=BUSY)
        rate = AT_ONCE * SECONDS / EVERY_S / (time.monotonic() - began)
    await _expect_all_delivered_once(fleet, receiver, "/slow")
    waited = sum(took_s > ANSWERS_AFTER_S / 2 for took_s in _latencies_s(fleet, receiver, "/slow").values())
    print(
        f"slow: {len(fleet.sent)} messages, {rate:.1f} a second to each of {BUSY} of {len(fleet.routes)} "
        f"routes, {receiver.most_concurrent} at once, {waited} waited first"
    )
    assert rate >= 0.8 * AT_ONCE / EVERY_S, "the devices kept their pace"
    assert receiver.most_concurrent > len(fleet.routes) / 4, "the destinations were slow"
    assert waited > BUSY, "some waited in their lanes"
    await _expect_no_trouble(pulse, fleet)


@pytest.mark.timeout(180)
async def test_a_process_that_was_frozen_finds_no_route_in_trouble(pulse: Pulse, receiver: Receiver) -> None:
    receiver.behaviour["/quick"] = takes(0.25)
    fleet = await make_fleet(pulse, receiver, "/quick", tenants=TENANTS, routes_each=ROUTES_EACH)
    await fleet.send_for(2.0)
    await _expect_all_delivered_once(fleet, receiver, "/quick")
    usual_s = statistics.quantiles(_latencies_s(fleet, receiver, "/quick").values(), n=100)[98]

    delivery = pulse.stack.pid("delivery")
    # More than a lane attempts at once: some wait behind attempts whose age is the process's own lag.
    await fleet.burst(24)
    await eventually(lambda: receiver.concurrent > 8 * TENANTS, what="the burst in flight")
    os.kill(delivery, signal.SIGSTOP)
    try:
        await fleet.send_for(FROZEN_S)
    finally:
        os.kill(delivery, signal.SIGCONT)
    woken = time.monotonic()
    await fleet.send_for(NORMAL_WITHIN_S + 2.0)
    await _expect_all_delivered_once(fleet, receiver, "/quick")

    late_s = 2 * usual_s + 0.2
    late = [request.at for request in receiver.of("/quick") if request.at - fleet.sent[request.message_id] > late_s]
    normal_after_s = max(late, default=woken) - woken
    print(f"frozen: p99 {usual_s * 1000:.0f} ms before; the last late message came {normal_after_s:.2f} s after waking")
    assert late, "the process was frozen"
    assert normal_after_s <= NORMAL_WITHIN_S
    await _expect_no_trouble(pulse, fleet)


async def _expect_all_delivered_once(fleet: Fleet, receiver: Receiver, path: str) -> None:
    await eventually(lambda: len(receiver.of(path)) >= len(fleet.sent), 30, what="delivery of all")
    assert sorted(request.message_id for request in receiver.of(path)) == sorted(fleet.sent)


async def _expect_no_trouble(pulse: Pulse, fleet: Fleet) -> None:
    assert await pulse.metric_sum("delivery", "pulse_delivery_shunts_total") == 0
    assert await pulse.metric("delivery", "pulse_delivery_troubled_routes") == 0
    assert await pulse.metric_sum("delivery", "pulse_delivery_dead_letters_total") == 0
    assert not pulse.log("delivery", "route_troubled")
    assert len(fleet.routes) == TENANTS * ROUTES_EACH


def _latencies_s(fleet: Fleet, receiver: Receiver, path: str) -> dict[str, float]:
    return {request.message_id: request.at - fleet.sent[request.message_id] for request in receiver.of(path)}
