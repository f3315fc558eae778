"""What the router does while DELIVERY does not take its matches, and with what it cannot judge."""

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from pulse_bus.api import api_request
from pulse_bus.consumer import PullConsumer
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_contracts import subjects
from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId
from pulse_contracts.routes import Route
from pulse_matching.index import TopicIndex
from pulse_router.adapters.judgements import Judgements
from pulse_router.adapters.routing import Routing
from pulse_router.domain.table import CompiledRoute, build_table
from pulse_runtime.clock import Clock, SystemClock
from pulse_runtime.metrics import BusMetrics, RouterMetrics
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import Bus

ACME, OTHER = TenantId("acme"), TenantId("other")
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
MIB = 1024 * 1024


async def test_a_full_delivery_stream_is_told_once_and_waited_for(bus: Bus, manual_clock: ManualClock) -> None:
    await _limit_delivery(bus, 1000)
    # Before the router runs, so that it takes all three at once.
    await _send(bus, 3, size_bytes=2000)
    async with _routing(bus, manual_clock, routes=1) as routing:
        with structlog.testing.capture_logs() as events:
            for _ in range(3):
                await manual_clock.until_sleeping(3)
                await manual_clock.advance(1.0)
        assert _warnings(events) == ["delivery_queue_full"]
        assert routing.trouble == "DELIVERY refused: maximum bytes exceeded"
        assert await _ack_pending(bus) == 3

        await _limit_delivery(bus, MIB)
        await _until_routed(bus, manual_clock, 3)
        assert routing.trouble is None


async def test_matches_that_wait_for_their_turn_to_be_committed_are_no_trouble(
    bus: Bus, manual_clock: ManualClock
) -> None:
    async with _routing(bus, manual_clock, routes=20, max_pending=20) as routing:
        with structlog.testing.capture_logs() as events:
            await _send(bus, 5, size_bytes=10)
            await _until_routed(bus, manual_clock, 100)
        assert _warnings(events) == []
        assert routing.trouble is None


async def test_what_cannot_be_judged_is_told_with_its_tenant_and_the_rest_goes_on(
    bus: Bus, manual_clock: ManualClock
) -> None:
    async with _routing(bus, manual_clock, routes=1):
        with structlog.testing.capture_logs() as events:
            ingest = await bus.connect("ingest")
            await ingest.publish("telemetry.acme.d.data", b"not an envelope")
            await _send(bus, 1, size_bytes=10)
            await _until_routed(bus, manual_clock, 1)
    [told] = [event for event in events if event["event"] == "route_fanout_error"]
    assert (told["tenant_id"], told["stream_seq"]) == ("acme", 1)
    assert told["error"]


async def test_a_route_that_cannot_judge_a_message_is_told_and_the_others_get_it(
    bus: Bus, manual_clock: ManualClock
) -> None:
    failing = replace(_route("failing"), expression="1 / (size(payload.blob) - 10) > 0")
    async with _routing(bus, manual_clock, routes=1, more=[failing]):
        with structlog.testing.capture_logs() as events:
            await _send(bus, 1, size_bytes=10)
            await _until_routed(bus, manual_clock, 1)
    [told] = [event for event in events if event["event"] == "route_match_error"]
    assert (told["route_id"], told["tenant_id"], told["message_id"]) == ("failing", "acme", "m-0")
    assert told["error"]


class BrokenIndex(TopicIndex[CompiledRoute]):
    """A table with a bug."""

    def __init__(self) -> None:
        super().__init__(())

    def lookup(self, topic: str) -> list[CompiledRoute]:
        raise KeyError(topic)


async def test_a_tenants_table_that_fails_is_gone_through_route_by_route_and_holds_nobody_up(
    bus: Bus, manual_clock: ManualClock
) -> None:
    await _limit_unacknowledged(bus, 5)
    theirs = [
        replace(_route("all"), tenant_id=OTHER),
        replace(_route("none"), tenant_id=OTHER, topic_filter="elsewhere/#"),
    ]
    async with _routing(bus, manual_clock, routes=1, more=theirs, broken=OTHER):
        with structlog.testing.capture_logs() as events:
            await _send(bus, 6, size_bytes=10, tenant=OTHER)
            await _send(bus, 3, size_bytes=10)
            await _until_routed(bus, manual_clock, 9)
    told = [event for event in events if event["event"] == "route_fanout_error"]
    assert [(event["tenant_id"], event["stream_seq"]) for event in told] == [(OTHER, number + 1) for number in range(6)]
    assert all("KeyError" in event["error"] for event in told)


@asynccontextmanager
async def _routing(
    bus: Bus,
    clock: Clock,
    *,
    routes: int,
    more: Sequence[Route] = (),
    broken: TenantId | None = None,
    max_pending: int = 20_000,
) -> AsyncGenerator[Routing]:
    """Run the router's loop as the router: time passes by hand for its pauses, not for the wire."""
    router = await bus.connect("router")
    registry, real = CollectorRegistry(), SystemClock()
    consumer = PullConsumer(router, "TELEMETRY", "router", clock=real, capacity=100)
    publisher = Publisher(
        router, "DELIVERY", clock=real, metrics=BusMetrics(registry), linger_s=0.05, max_pending=max_pending
    )
    table = build_table([*(_route(f"r-{n}") for n in range(routes)), *more])
    if broken:
        table = replace(table, indexes={**table.indexes, broken: BrokenIndex()})
    metrics = RouterMetrics(registry)
    judgements = Judgements(publisher, metrics=metrics, clock=clock)
    routing = Routing(consumer, publisher, lambda: table, judgements=judgements, metrics=metrics, clock=clock)
    async with _running(consumer.run()), _running(publisher.run()), _running(routing.run()):
        yield routing


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    task = asyncio.create_task(work, name="test[running]")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _warnings(events: list[Any]) -> list[str]:
    return [event["event"] for event in events if event["log_level"] == "warning"]


async def _send(bus: Bus, count: int, *, size_bytes: int, tenant: TenantId = ACME) -> None:
    ingest = await bus.connect("ingest")
    publisher = Publisher(ingest, "TELEMETRY", clock=SystemClock(), metrics=BusMetrics(CollectorRegistry()))
    async with _running(publisher.run()):
        await publisher.publish(*(_message(n, size_bytes, tenant) for n in range(count)))


async def _until_routed(bus: Bus, clock: ManualClock, matches: int) -> None:
    """Wait until all matches stand in DELIVERY and the router has acknowledged what it took."""
    async with asyncio.timeout(10):
        while (await _state(bus))["messages"] < matches or await _ack_pending(bus):
            await clock.advance(1.0)


async def _ack_pending(bus: Bus) -> int:
    return (await api_request(bus.control, "CONSUMER.INFO.TELEMETRY.router"))["num_ack_pending"]


async def _state(bus: Bus) -> dict[str, Any]:
    return (await api_request(bus.control, "STREAM.INFO.DELIVERY"))["state"]


async def _limit_unacknowledged(bus: Bus, most: int) -> None:
    info = await api_request(bus.control, "CONSUMER.INFO.TELEMETRY.router")
    config = {**info["config"], "max_ack_pending": most}
    body = {"stream_name": "TELEMETRY", "config": config, "action": "update"}
    await api_request(bus.control, f"CONSUMER.CREATE.TELEMETRY.router.{config['filter_subject']}", body)


async def _limit_delivery(bus: Bus, max_bytes: int) -> None:
    info = await api_request(bus.control, "STREAM.INFO.DELIVERY")
    await api_request(bus.control, "STREAM.UPDATE.DELIVERY", {**info["config"], "max_bytes": max_bytes})


def _message(number: int, size_bytes: int, tenant: TenantId) -> Outgoing:
    device = DeviceId("d")
    sent = Envelope(
        message_id=MessageId(f"m-{number}" if tenant == ACME else f"{tenant}-{number}"),
        tenant_id=tenant,
        device_id=device,
        type="data",
        topic=f"tenant/{tenant}/device/d/data",
        time=NOW,
        received_at=NOW,
        supplied_id=False,
        traceparent=None,
        payload=json.dumps({"blob": "x" * size_bytes}).encode(),
    )
    return Outgoing(subject=subjects.telemetry(tenant, device, "data"), data=sent.encode(), message_id=sent.message_id)


def _route(route_id: str) -> Route:
    return Route(
        route_id=RouteId(route_id),
        tenant_id=ACME,
        name=route_id,
        revision=1,
        topic_filter="#",
        payload_filter=None,
        expression=None,
        kind="webhook",
        config={},
    )
