"""What an operator of the predecessor finds again: names, figures, settings, behaviour at a stop."""

import asyncio
import re
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import pytest
from support.pulse import SERVICE_NAMES, Pulse, running
from support.receiver import Receiver, always, hangs, open_receiver
from support.tenant import Device, Tenant
from support.waiting import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
async def pulse(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pulse]:
    quick_stats = {"ingest": {"LOG_STATS_EVERY_SECONDS": "0.5"}}
    async with running(tmp_path_factory.mktemp("pulse"), only=quick_stats, PULSE_LOG_LEVEL="debug") as stack:
        yield stack


@pytest.fixture
async def tenant(pulse: Pulse) -> Tenant:
    return await pulse.tenant()


@pytest.fixture
async def device(tenant: Tenant) -> Device:
    return await tenant.device()


async def test_every_service_answers_metrics_health_and_ready(pulse: Pulse) -> None:
    for name in SERVICE_NAMES:
        metrics = await pulse.admin(name, "/metrics")
        assert metrics.status_code == 200
        assert metrics.headers["content-type"].startswith("text/plain")
        assert "process_resident_memory_bytes" in metrics.text
        health, ready = await pulse.admin(name, "/health"), await pulse.admin(name, "/ready")
        assert (health.status_code, ready.status_code) == (200, 200)
        assert ready.json()["ready"] is True


async def test_queue_depth_counts_what_is_not_delivered(
    pulse: Pulse, tenant: Tenant, device: Device, receiver: Receiver
) -> None:
    let_go = asyncio.Event()
    receiver.behaviour["/slow"] = hangs(let_go)
    await tenant.webhook(receiver.url("/slow"), policy={"deadline_s": 30})
    for n in range(7):
        await device.accepted({"n": n})

    async def depth_is(number: int) -> bool:
        health = (await pulse.admin("ingest", "/health")).json()
        gauge = await pulse.metric("ingest", "pulse_ingest_delivery_queue_depth")
        return health["delivery_queue_depth"] == gauge == number

    await eventually(lambda: depth_is(7))
    await eventually(lambda: pulse.log("ingest", "stats_reported", delivery_queue_depth=7))
    let_go.set()
    await eventually(lambda: depth_is(0), 20)
    await eventually(lambda: pulse.log("ingest", "stats_reported", delivery_queue_depth=0))


async def test_delivered_and_failed_events_have_their_fields(
    pulse: Pulse, tenant: Tenant, device: Device, receiver: Receiver
) -> None:
    receiver.behaviour["/final"] = always(410)
    good = await tenant.webhook(receiver.url("/good"), name="good")
    bad = await tenant.webhook(receiver.url("/final"), name="bad")
    message_id = await device.accepted({"v": 1})
    [delivered] = await eventually(lambda: pulse.log("delivery", "route_delivered", message_id=message_id))
    # A path may hold a secret, so only the origin is sure to be named.
    assert (delivered["route_id"], delivered["destination"].startswith(receiver.url(""))) == (good.route_id, True)
    [failed] = await eventually(lambda: pulse.log("delivery", "route_delivery_failed_dlq", message_id=message_id))
    assert (failed["route_id"], failed["destination"].startswith(receiver.url(""))) == (bad.route_id, True)
    assert "410" in failed["error"]


async def test_trace_of_the_device_reaches_the_webhook(tenant: Tenant, device: Device, receiver: Receiver) -> None:
    await tenant.webhook(receiver.url("/traced"))
    span = "00f067aa0ba902b7"
    await device.accepted({"v": 1}, traceparent=f"00-{TRACE}-{span}-01")
    [request] = await eventually(lambda: receiver.of("/traced"))
    found = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-00", request.headers["traceparent"])
    assert found, request.headers["traceparent"]
    assert found[1] not in {span, "0" * 16}


async def test_every_message_has_a_trace(tenant: Tenant, device: Device, receiver: Receiver) -> None:
    await tenant.webhook(receiver.url("/untraced"))
    await device.publish({"v": 1})
    await device.accepted({"v": 2}, traceparent="nonsense")
    await eventually(lambda: len(receiver.of("/untraced")) == 2)
    traces = {request.headers["traceparent"].split("-")[1] for request in receiver.of("/untraced")}
    assert len(traces) == 2


async def test_worker_count_bounds_the_attempts_in_flight(pulse: Pulse) -> None:
    few = await _most_concurrent(pulse, 2)
    assert pulse.log("delivery", "delivery_worker_count_small", slots=2)
    many = await _most_concurrent(pulse, 16)
    assert not pulse.log("delivery", "delivery_worker_count_small", slots=4096)
    assert (few, many) == (2, 16)


async def _most_concurrent(pulse: Pulse, workers: int) -> int:
    """Send to twenty tenants at once under a slot budget; returns how many requests ran side by side at most.

    Those that come are answered once as many as there may be are there, so that it is no question of pace.
    """
    await pulse.restart("delivery", DELIVERY_WORKER_COUNT=str(workers))
    assert await pulse.metric("delivery", "pulse_delivery_slots") == workers
    async with open_receiver() as receiver:
        all_there = asyncio.Event()
        receiver.behaviour["/all"] = hangs(all_there)
        tenants = [await pulse.tenant() for _ in range(20)]
        for tenant in tenants:
            await tenant.webhook(receiver.url("/all"))
        devices = [await tenant.device() for tenant in tenants]
        await asyncio.gather(*(device.accepted({"v": 1}) for device in devices))
        await eventually(lambda: receiver.concurrent >= workers, 8, what=f"{workers} attempts side by side")
        all_there.set()
        await eventually(lambda: len(receiver.accepted) >= len(tenants), 30)
        return receiver.most_concurrent


async def test_stop_waits_for_attempts_in_flight(
    pulse: Pulse, tenant: Tenant, device: Device, receiver: Receiver
) -> None:
    let_go = asyncio.Event()
    receiver.behaviour["/drain"] = hangs(let_go)
    await tenant.webhook(receiver.url("/drain"))
    sent = {await device.accepted({"n": n}) for n in range(5)}
    await eventually(lambda: len(receiver.tried("/drain")) >= 4)
    before, stops = len(pulse.log("delivery", "delivery_workers_stopped")), len(_stops(pulse))

    stopping = asyncio.create_task(pulse.restart("delivery"), name="test.stop")
    await eventually(lambda: len(_stops(pulse)) > stops, what="the beginning of the stop")
    in_flight = len(receiver.tried("/drain"))
    let_go.set()
    await stopping

    stopped = pulse.log("delivery", "delivery_workers_stopped")
    assert len(stopped) == before + 1
    await eventually(lambda: {request.message_id for request in receiver.of("/drain")} == sent, 20)
    assert len(receiver.of("/drain")) == len(sent), "what was in flight was finished, not repeated"
    assert in_flight >= 4


async def test_stop_ends_within_its_bound_and_loses_nothing(
    pulse: Pulse, tenant: Tenant, device: Device, receiver: Receiver
) -> None:
    never = asyncio.Event()
    receiver.behaviour["/hang"] = hangs(never)
    await tenant.webhook(receiver.url("/hang"), policy={"deadline_s": 60})
    sent = {await device.accepted({"n": n}) for n in range(5)}
    await eventually(lambda: len(receiver.tried("/hang")) >= 4)

    before, stops = len(pulse.log("delivery", "delivery_workers_stopped")), len(_stops(pulse))
    stopping = asyncio.create_task(pulse.restart("delivery"), name="test.stop")
    stopped = await eventually(
        lambda: pulse.log("delivery", "delivery_workers_stopped")[before:], 30, what="the end of the stop"
    )
    assert stopped[0]["left_in_streams"]
    took_s = _at(stopped[0]) - _at(_stops(pulse)[stops])
    receiver.behaviour.pop("/hang")
    await stopping
    assert 9 <= took_s <= 14, "by its own clock"
    await eventually(lambda: {request.message_id for request in receiver.of("/hang")} == sent, 30)
    assert (await pulse.admin("delivery", "/ready")).status_code == 200


def _stops(pulse: Pulse) -> list[dict[str, Any]]:
    """Every beginning of a stop of delivery so far."""
    return pulse.log("delivery", "service_stopping")


def _at(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()
