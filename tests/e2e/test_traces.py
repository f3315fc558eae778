"""One trace from the device's request to the receiver, through a retry and a dead letter, the broker's hops inside."""

from collections.abc import AsyncGenerator

import pytest
from support.pulse import Pulse, running
from support.receiver import Receiver, always
from support.tenant import Tenant
from support.waiting import eventually

from pulse_testkit.otlp import CollectedSpan, OtlpCollector, open_collector

TRACE, SENDER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ARRIVAL = "POST /ingest/v1/tenant/{tenant_id}/device/{device_id}/{type}"


@pytest.fixture(scope="module")
async def collector() -> AsyncGenerator[OtlpCollector]:
    async with open_collector() as opened:
        yield opened


@pytest.fixture(scope="module")
async def traced(collector: OtlpCollector, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pulse]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        async with running(tmp_path_factory.mktemp("traced"), PULSE_TRACE_RATIO="1") as stack:
            yield stack


@pytest.fixture
async def tenant(traced: Pulse) -> Tenant:
    return await traced.tenant()


def path_of(spans: list[CollectedSpan], leaf: CollectedSpan) -> list[str]:
    """Return the names from the root to *leaf*."""
    by_id = {span.span_id: span for span in spans}
    names = [leaf.name]
    while (leaf := by_id.get(leaf.parent_id, leaf)).name != names[0]:
        names.insert(0, leaf.name)
    return names


async def trace_with(collector: OtlpCollector, trace_id: str, *names: str) -> list[CollectedSpan]:
    """Return the spans of a trace once spans of all these names are among them."""

    def found() -> set[str]:
        return {span.name for span in collector.of_trace(trace_id)}

    await eventually(found, until=lambda seen: set(names) <= seen, what=f"spans {names}")
    return collector.of_trace(trace_id)


async def test_a_message_is_one_trace_from_accept_to_attempt(
    tenant: Tenant, receiver: Receiver, collector: OtlpCollector
) -> None:
    device = await tenant.device()
    await tenant.webhook(receiver.url("/hook"))

    message_id = await device.accepted({"t": 1}, traceparent=f"00-{TRACE}-{SENDER}-00")
    spans = await trace_with(collector, TRACE, "POST", "process DELIVERY", "nats-server")

    [arrival] = [span for span in spans if span.name == ARRIVAL]
    assert arrival.parent_id == SENDER
    assert arrival.attributes["pulse.message.id"] == message_id
    [attempt] = [span for span in spans if span.name == "POST"]
    assert path_of(spans, attempt) == [
        ARRIVAL,
        "send TELEMETRY",
        "process TELEMETRY",
        "send DELIVERY",
        "process DELIVERY",
        "POST",
    ]
    processed = [span for span in spans if span.name == "process TELEMETRY"]
    assert {span.attributes["messaging.consumer.group.name"] for span in processed} == {"store", "router"}
    assert {span.service for span in spans} == {"pulse-ingest", "pulse-router", "pulse-delivery"}
    [request] = receiver.of("/hook")
    assert request.headers["traceparent"] == f"00-{TRACE}-{attempt.span_id}-01"
    assert attempt.attributes["http.response.status_code"] == 204


async def test_the_brokers_hops_are_part_of_it(tenant: Tenant, receiver: Receiver, collector: OtlpCollector) -> None:
    device = await tenant.device()
    await tenant.webhook(receiver.url("/hook"))
    trace = "a" * 31 + "1"

    await device.accepted({"t": 1}, traceparent=f"00-{trace}-{SENDER}-00")
    spans = await trace_with(collector, trace, "POST", "nats-server")

    by_id = {span.span_id: span for span in spans}
    hops = [span for span in spans if span.name == "nats-server"]
    parents = {(by_id[hop.parent_id].name, hop.attributes["messaging.destination.name"]) for hop in hops}
    assert ("send TELEMETRY", "TELEMETRY") in parents
    await eventually(
        lambda: {
            hop.attributes["messaging.destination.name"]
            for hop in collector.of_trace(trace)
            if hop.name == "nats-server"
        },
        until=lambda streams: {"TELEMETRY", "DELIVERY"} <= streams,
        what="the hops of both streams",
    )


async def test_a_retry_and_a_dead_letter_stay_in_the_trace(
    tenant: Tenant, receiver: Receiver, collector: OtlpCollector
) -> None:
    device = await tenant.device()
    receiver.behaviour["/bad"] = always(500)
    await tenant.webhook(receiver.url("/bad"), policy={"max_attempts": 2})
    trace = "b" * 31 + "1"

    await device.accepted({"t": 1}, traceparent=f"00-{trace}-{SENDER}-00")
    spans = await trace_with(collector, trace, "process DEADLETTER")

    attempts = [span for span in spans if span.name == "POST"]
    assert [path_of(spans, attempt)[-4:] for attempt in attempts] == [
        ["process TELEMETRY", "send DELIVERY", "process DELIVERY", "POST"],
        ["process DELIVERY", "send SIDING", "process SIDING", "POST"],
    ]
    assert [attempt.attributes.get("http.request.resend_count") for attempt in attempts] == [None, 1]
    assert {attempt.error for attempt in attempts} == {"answered 500"}
    [buried] = [span for span in spans if span.name == "process DEADLETTER"]
    assert path_of(spans, buried)[-3:] == ["process SIDING", "send DEADLETTER", "process DEADLETTER"]


async def test_what_was_committed_together_is_linked(traced: Pulse, tenant: Tenant, collector: OtlpCollector) -> None:
    device = await tenant.device()
    lines = [
        {"tenant_id": tenant.tenant_id, "device_id": device.device_id, "type": "t", "payload": {"n": number}}
        for number in range(5)
    ]
    trace = "c" * 31 + "1"
    fields = {"authorization": f"Bearer {device.token}", "traceparent": f"00-{trace}-{SENDER}-00"}

    answer = await traced.http.post("/ingest/v1/batch", json=lines, headers=fields)
    assert answer.status_code == 202
    await eventually(
        lambda: [span for span in collector.of_trace(trace) if span.name == "send TELEMETRY"],
        until=lambda sent: len(sent) == 5,
        what="five spans",
    )

    sent = [span for span in collector.of_trace(trace) if span.name == "send TELEMETRY"]
    ids = {span.span_id for span in sent}
    assert {link for span in sent for link in span.links} & ids
    assert max(span.attributes["messaging.batch.message_count"] for span in sent) > 1
    assert {span.parent_id for span in sent} == {
        span.span_id for span in collector.of_trace(trace) if span.name == "POST /ingest/v1/batch"
    }
