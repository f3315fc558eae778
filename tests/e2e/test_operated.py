"""What an operator sees of services as they ship: logs at the default level, readiness, the watchdog; no tracing."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from support.pulse import SERVICE_NAMES, Pulse, running
from support.receiver import Receiver, always, hangs
from support.waiting import eventually

from pulse_bus.api import api_request
from pulse_bus.provision import provision
from pulse_contracts.kinds import installed_kinds
from pulse_runtime.health import DRAINING_REASON
from pulse_testkit.otlp import OtlpCollector, open_collector
from pulse_testkit.processes import frozen

TRACE, SENDER = "d" * 31 + "1", "00f067aa0ba902b7"
CONSUMERS = {
    "ingest": "QUARANTINE.quarantine-writer",
    "router": "ATTEMPT.judgement-writer",
    "delivery": "DEADLETTER.dead-letter-writer",
}
"""One of each service that it does not reap with; the reapers' have tests of their own."""
BATCHES = (("ingest", "messages_committed"), ("ingest", "telemetry_stored"), ("router", "messages_routed"))
BLOCKS = {"PULSE_FAILPOINTS": "delivery.before_dead_letter=block", "PULSE_BLOCKED_LOOP_DUMP_S": "0.5"}


@pytest.fixture(scope="module")
async def collector() -> AsyncGenerator[OtlpCollector]:
    async with open_collector() as opened:
        yield opened


@pytest.fixture(scope="module")
async def shipped(collector: OtlpCollector, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pulse]:
    """Services with their default settings, but that the first dead letter blocks delivery's loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        async with running(tmp_path_factory.mktemp("shipped"), only={"delivery": BLOCKS}) as stack:
            yield stack


async def test_wide_lines_name_the_trace_also_while_nothing_is_recorded(
    shipped: Pulse, collector: OtlpCollector, receiver: Receiver
) -> None:
    tenant = await shipped.tenant()
    device = await tenant.device()
    receiver.behaviour["/busy"] = always(503)
    await tenant.webhook(receiver.url("/hook"), name="well")
    await tenant.webhook(receiver.url("/busy"), name="busy")

    message_id = await device.accepted({"secret": "canary"}, traceparent=f"00-{TRACE}-{SENDER}-01")
    [request] = await eventually(lambda: receiver.of("/hook"), what="delivery")

    def lines() -> dict[str, list[dict[str, Any]]]:
        return {
            event: shipped.log(service, event, trace_id=TRACE)
            for service, event in (
                ("ingest", "messages_committed"),
                ("ingest", "telemetry_stored"),
                ("router", "messages_routed"),
                ("delivery", "route_delivered"),
                ("delivery", "route_attempt_failed"),
            )
        }

    said = await eventually(lines, until=lambda found: all(found.values()), what="a line of each batch and attempt")
    assert {line["level"] for found in said.values() for line in found} == {"info"}
    [committed], [stored], [routed] = said["messages_committed"], said["telemetry_stored"], said["messages_routed"]
    assert (committed["stream"], committed["messages"], committed["failed"]) == ("TELEMETRY", 1, 0)
    assert (stored["rows"], stored["duplicates"]) == (1, 0)
    assert (routed["messages"], routed["matches"]) == (1, 2)
    assert all(0 < line["duration_s"] < line["lag_s"] < 10 for line in (stored, routed))
    assert {line["message_id"] for line in said["route_delivered"] + said["route_attempt_failed"]} == {message_id}
    assert not any("canary" in shipped.log_text(service) for service in SERVICE_NAMES)

    for service, table in (("delivery", "delivery_log"), ("router", "judgements")):
        told = await eventually(lambda s=service, t=table: shipped.log(s, "records_stored", table=t), what=table)
        assert all(line["rows"] >= 1 and 0 < line["lag_s"] < 10 for line in told)

    assert request.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert request.headers["traceparent"].endswith("-00")
    assert collector.of_trace(TRACE) == []


async def test_a_batch_is_one_line_whatever_its_size(shipped: Pulse) -> None:
    tenant = await shipped.tenant()
    await tenant.device("d")
    before = {event: len(shipped.log(service, event)) for service, event in BATCHES}

    await tenant.batch(*(("d", "t", {"n": number}) for number in range(100)))

    def lines() -> dict[str, list[dict[str, Any]]]:
        return {event: shipped.log(service, event)[before[event] :] for service, event in BATCHES}

    def told(found: dict[str, list[dict[str, Any]]]) -> list[int]:
        return [sum(int(line.get("rows") or line["messages"]) for line in found[event]) for _, event in BATCHES]

    found = await eventually(lines, until=lambda found: told(found) == [100, 100, 100], what="a line of each batch")
    assert all(len(of_event) < 20 for of_event in found.values())


async def test_a_missing_consumer_is_a_reason_not_to_be_ready(shipped: Pulse) -> None:
    async def reasons() -> dict[str, Any]:
        answers = {name: await shipped.admin(name, "/ready") for name in CONSUMERS}
        return {
            name: answer.json()["reasons"]["consumers"]
            for name, answer in answers.items()
            if answer.status_code == 503 and "consumers" in answer.json()["reasons"]
        }

    async with shipped.bus() as bus:
        for consumer in CONSUMERS.values():
            await api_request(bus, f"CONSUMER.DELETE.{consumer}")
        found = await eventually(reasons, until=lambda found: found.keys() == CONSUMERS.keys(), what="three reasons")
        assert {name: reason.partition(":")[0] for name, reason in found.items()} == {
            name: consumer.partition(".")[2] for name, consumer in CONSUMERS.items()
        }
        await provision(bus, installed_kinds())
    await eventually(reasons, 15, until=lambda found: not found, what="readiness")


async def test_without_its_stream_the_router_is_not_ready_and_keeps_what_it_matched(
    shipped: Pulse, receiver: Receiver
) -> None:
    tenant = await shipped.tenant()
    device = await tenant.device()
    await tenant.webhook(receiver.url("/later"))
    async with shipped.bus() as bus:
        await api_request(bus, "STREAM.DELETE.DELIVERY")
        message_id = await device.accepted({"v": 1})
        await until_not_ready(shipped, "router", "delivery")
        await provision(bus, installed_kinds())
    await eventually(lambda: receiver.of("/later"), 30, what="delivery")
    assert [request.message_id for request in receiver.of("/later")] == [message_id]
    for name in ("router", "delivery"):
        await shipped.stack.until_ready(name)


async def test_a_blocked_loop_shows_its_stacks_and_does_not_answer(shipped: Pulse, receiver: Receiver) -> None:
    tenant = await shipped.tenant()
    device = await tenant.device()
    receiver.behaviour["/no"] = always(400)
    await tenant.webhook(receiver.url("/no"))
    unanswered = 0

    async def lag_s() -> float:
        nonlocal unanswered
        try:
            async with asyncio.timeout(0.5):
                return await shipped.metric("delivery", "pulse_event_loop_lag_seconds")
        except TimeoutError:
            unanswered += 1
            return 0.0

    await device.accepted({"v": 1})
    await eventually(lag_s, until=lambda lag: lag > 2, what="the lag")

    assert unanswered
    # The machine may hold up the loop for half a second as well.
    await eventually(
        lambda: any(event["blocked_s"] > 2 for event in shipped.log("delivery", "event_loop_blocked")),
        what="the event",
    )
    assert "in publish_dead_letter" in shipped.log_text("delivery")
    assert (await shipped.admin("delivery", "/health")).status_code == 200


async def test_ingest_and_router_that_drain_are_not_ready_but_alive(shipped: Pulse) -> None:
    """A broker that does not answer holds up their end, so that there is time to look."""
    # The restarts end after the freeze.
    async with asyncio.TaskGroup() as restarts, frozen(shipped.stack.pid("nats")):
        for name in ("ingest", "router"):
            restarts.create_task(shipped.stack.restart(name), name=f"test.restart[{name}]")
            answer = await until_not_ready(shipped, name, "draining")
            assert answer.json()["reasons"]["draining"] == DRAINING_REASON
            assert (await shipped.admin(name, "/health")).status_code == 200


async def until_not_ready(pulse: Pulse, service: str, reason: str) -> httpx.Response:
    """Return the first answer that gives this reason."""

    async def readiness() -> httpx.Response:
        return await pulse.admin(service, "/ready")

    answer = await eventually(readiness, until=lambda answer: reason in answer.json()["reasons"], what=reason)
    assert answer.status_code == 503
    return answer


async def test_a_service_that_drains_is_not_ready_but_alive(shipped: Pulse, receiver: Receiver) -> None:
    tenant = await shipped.tenant()
    device = await tenant.device()
    go_on = asyncio.Event()
    receiver.behaviour["/slow"] = hangs(until=go_on)
    await tenant.webhook(receiver.url("/slow"))
    await device.accepted({"v": 1})
    await eventually(lambda: receiver.tried("/slow"), what="an attempt in flight")

    os.kill(shipped.stack.pid("delivery"), signal.SIGTERM)

    answer = await until_not_ready(shipped, "delivery", "draining")
    assert answer.json()["reasons"]["draining"] == DRAINING_REASON
    assert (await shipped.admin("delivery", "/health")).status_code == 200
    go_on.set()
    await eventually(lambda: receiver.of("/slow"), what="the end of the attempt")
    await shipped.stack.until_ready("delivery")
