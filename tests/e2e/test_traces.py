"""One trace from the device's request to the receiver, through a retry and a dead letter, the broker's hops inside."""

from collections.abc import AsyncGenerator

import pytest
from support.conventions import ARRIVAL, CONSUMER, CONVENTIONS, MQTT_ARRIVAL, STREAMS, unmet
from support.pulse import Pulse, running
from support.receiver import Receiver, always
from support.tenant import Tenant
from support.waiting import eventually

from pulse_bus.api import api_request
from pulse_bus.inspection import next_message
from pulse_testkit.otlp import CollectedSpan, OtlpCollector, open_collector

SENDER = "00f067aa0ba902b7"
STORED_AND_ROUTED = ("process TELEMETRY store", "process TELEMETRY router")
CLOCKS_NS = 5_000_000
"""The broker and the services take their times themselves, and OpenTelemetry's are cut to microseconds."""


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


def traceparent(trace_id: str) -> str:
    return f"00-{trace_id}-{SENDER}-00"


def path_of(spans: list[CollectedSpan], leaf: CollectedSpan) -> list[str]:
    """Return the names from the root to *leaf*."""
    by_id = {span.span_id: span for span in spans}
    names = [leaf.name]
    while parent := by_id.get(leaf.parent_id):
        names.insert(0, parent.name)
        leaf = parent
    return names


def steps_of(span: CollectedSpan) -> str:
    """Name a span apart from others of its name: by the consumer that processed, or the stream that a hop is of."""
    aside = span.attributes.get("messaging.consumer.group.name") or (
        span.attributes["messaging.destination.name"] if span.name == "nats-server" else ""
    )
    return f"{span.name} {aside}".rstrip()


async def trace_with(collector: OtlpCollector, trace_id: str, *steps: str) -> list[CollectedSpan]:
    """Return the spans of a trace once all these are among them, by `steps_of`, and each has its parent there.

    A process exports what it has done by now: a span may come long before the one that it hangs below.
    """

    def missing() -> set[str]:
        spans = collector.of_trace(trace_id)
        known = {span.span_id for span in spans} | {"", SENDER}
        orphans = {f"the parent of {steps_of(span)}" for span in spans if span.parent_id not in known}
        return orphans | (set(steps) - {steps_of(span) for span in spans})

    await eventually(missing, until=lambda left: not left, what=f"spans {steps}")
    return collector.of_trace(trace_id)


async def test_a_message_is_one_trace_from_accept_to_attempt(
    tenant: Tenant, receiver: Receiver, collector: OtlpCollector
) -> None:
    device = await tenant.device()
    await tenant.webhook(receiver.url("/hook"))
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"

    message_id = await device.accepted({"t": 1}, traceparent=traceparent(trace))
    spans = await trace_with(collector, trace, ARRIVAL, *STORED_AND_ROUTED, "process DELIVERY deliver-webhook", "POST")

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
    [stored] = [span for span in spans if steps_of(span) == "process TELEMETRY store"]
    assert path_of(spans, stored) == [ARRIVAL, "send TELEMETRY", "process TELEMETRY"]
    assert {span.service for span in spans} == {"pulse-ingest", "pulse-router", "pulse-delivery"}
    [request] = receiver.of("/hook")
    assert request.headers["traceparent"] == f"00-{trace}-{attempt.span_id}-01"
    assert attempt.attributes["http.response.status_code"] == 204


async def test_what_a_device_publishes_over_mqtt_begins_a_trace(
    tenant: Tenant, receiver: Receiver, collector: OtlpCollector
) -> None:
    device = await tenant.device()
    await tenant.webhook(receiver.url("/mqtt"))

    await device.publish({"t": 1})
    [request] = await eventually(lambda: receiver.of("/mqtt"), what="delivery")
    trace = request.headers["traceparent"].split("-")[1]
    spans = await trace_with(
        collector, trace, MQTT_ARRIVAL, "send TELEMETRY", "process DELIVERY deliver-webhook", "POST"
    )

    [arrival] = [span for span in spans if span.name == MQTT_ARRIVAL]
    assert (arrival.parent_id, arrival.kind, arrival.service) == ("", CONSUMER, "pulse-ingest")
    assert arrival.attributes["pulse.message.id"] == request.message_id
    [attempt] = [span for span in spans if span.name == "POST"]
    assert path_of(spans, attempt)[:2] == [MQTT_ARRIVAL, "send TELEMETRY"]


async def test_a_retry_and_a_dead_letter_stay_in_the_trace(
    traced: Pulse, tenant: Tenant, receiver: Receiver, collector: OtlpCollector
) -> None:
    device = await tenant.device()
    receiver.behaviour["/bad"] = always(500)
    await tenant.webhook(receiver.url("/bad"), policy={"max_attempts": 2})
    trace = "b" * 31 + "1"

    await device.accepted({"t": 1}, traceparent=traceparent(trace))
    spans = await trace_with(
        collector,
        trace,
        ARRIVAL,
        *STORED_AND_ROUTED,
        *(f"nats-server {stream}" for stream in STREAMS),
        "process DEADLETTER dead-letter-writer",
    )

    attempts = [span for span in spans if span.name == "POST"]
    assert [path_of(spans, attempt)[-4:] for attempt in attempts] == [
        ["process TELEMETRY", "send DELIVERY", "process DELIVERY", "POST"],
        ["process DELIVERY", "send SIDING", "process SIDING", "POST"],
    ]
    assert [attempt.attributes.get("http.request.resend_count") for attempt in attempts] == [None, 1]
    assert {attempt.error for attempt in attempts} == {"answered 500"}
    [buried] = [span for span in spans if span.name == "process DEADLETTER"]
    assert path_of(spans, buried)[-3:] == ["process SIDING", "send DEADLETTER", "process DEADLETTER"]
    # The broker's work hangs below the sending of each message, in every stream that the message went through.
    hops = [path_of(spans, span)[-2] for span in spans if span.name == "nats-server"]
    assert {f"send {stream}" for stream in STREAMS} == set(hops)
    assert all(
        path_of(spans, span)[-2] == f"send {span.attributes['messaging.destination.name']}"
        for span in spans
        if span.name == "nats-server"
    )
    # Nothing else went out with these, so there is nothing to link: a retry is a descendant of the first attempt.
    assert not any(span.links for span in spans)
    assert _out_of_time(spans) == []
    [written] = traced.log("delivery", "dlq_written", trace_id=trace)
    assert (written["tenant_id"], written["rows"]) == (tenant.tenant_id, 1)


def _out_of_time(spans: list[CollectedSpan]) -> list[str]:
    """Return the spans that end before they begin, or that are not where their parents allow."""
    by_id = {span.span_id: span for span in spans}
    wrong: list[str] = []
    for span in spans:
        parent = by_id.get(span.parent_id)
        begins_late_enough = parent is None or span.began_ns >= parent.began_ns - CLOCKS_NS
        # What comes of a message that was sent may come long after; all else is done for the parent's sake.
        may_outlive = parent is None or parent.name.startswith("send ")
        if span.ended_ns < span.began_ns or not begins_late_enough:
            wrong.append(span.name)
        elif parent and not may_outlive and span.ended_ns > parent.ended_ns + CLOCKS_NS:
            wrong.append(f"{span.name} after {parent.name}")
    return wrong


async def test_what_was_committed_together_is_linked(traced: Pulse, tenant: Tenant, collector: OtlpCollector) -> None:
    device = await tenant.device()
    lines = [
        {"tenant_id": tenant.tenant_id, "device_id": device.device_id, "type": "t", "payload": {"n": number}}
        for number in range(20)
    ]
    trace = "c" * 31 + "1"
    fields = {"authorization": f"Bearer {device.token}", "traceparent": traceparent(trace)}

    answer = await traced.http.post("/ingest/v1/batch", json=lines, headers=fields)
    assert answer.status_code == 202

    def sent() -> list[CollectedSpan]:
        return [span for span in collector.of_trace(trace) if span.name == "send TELEMETRY"]

    spans = await eventually(sent, until=lambda spans: len(spans) == 20, what="twenty spans")
    arrivals = await eventually(
        lambda: [span for span in collector.of_trace(trace) if span.name == "POST /ingest/v1/batch"],
        until=lambda spans: len(spans) == 20,
        what="twenty arrivals",
    )

    assert {span.parent_id for span in spans} == {span.span_id for span in arrivals}
    # Each batch has one leader, which has no link; the others link to it and to nothing else.
    leader_of = {span.span_id: span.links[0] if span.links else span.span_id for span in spans}
    assert all(len(span.links) <= 1 for span in spans)
    assert all(leader_of[leader] == leader for leader in leader_of.values())
    batches = {
        leader: [span for span in spans if leader_of[span.span_id] == leader] for leader in set(leader_of.values())
    }
    assert all(
        span.attributes["messaging.batch.message_count"] == len(batch) for batch in batches.values() for span in batch
    )
    assert len(batches) < 20


async def test_spans_follow_the_conventions_and_tell_no_secret(
    traced: Pulse, tenant: Tenant, receiver: Receiver, collector: OtlpCollector
) -> None:
    """A message over each way in and to each kind of destination, and one of each way to fail."""
    device = await tenant.device()
    receiver.behaviour["/canary-path?key=canary-query"] = always(400, x_canary="canary-answer")
    async with traced.bus() as bus:
        export = {"name": "EXPORT", "subjects": ["export.>"], "storage": "memory", "allow_direct": True}
        await api_request(bus, "STREAM.CREATE.EXPORT", export)
    bad = await tenant.webhook(receiver.url("/canary-path?key=canary-query"), name="bad")
    await tenant.export("copy", name="copy")
    await tenant.republish("tenant/{tenant_id}/again", name="again")
    receiver.behaviour["/busy"] = always(503)
    await tenant.webhook(receiver.url("/busy"), name="busy", topic_filter="+/+/+/+/retried", policy={"max_attempts": 2})
    trace = "e" * 31 + "1"

    refused = await device.post(b'{"canary-field": NaN}', traceparent=traceparent("f" * 31 + "1"))
    await device.accepted({"canary-field": "canary-value"}, traceparent=traceparent(trace))
    await device.publish({"canary-field": "canary-value"})
    await device.accepted({"canary-field": "canary-value"}, "retried")
    spans = await trace_with(
        collector,
        trace,
        ARRIVAL,
        *STORED_AND_ROUTED,
        "POST",
        "send nats",
        "send mqtt_republish",
        "process DEADLETTER dead-letter-writer",
    )
    [unaccepted] = await trace_with(collector, "f" * 31 + "1", ARRIVAL)
    await eventually(lambda: CONVENTIONS.keys() - {span.name for span in collector.spans}, until=lambda left: not left)

    assert {name: wrong for name in CONVENTIONS if (wrong := unmet(collector.spans, name))} == {}
    assert {span.name for span in spans} <= CONVENTIONS.keys()
    [given_up] = [span for span in spans if span.name == "POST"]
    assert (given_up.error, given_up.attributes["error.type"]) == ("answered 400", "status_400")
    assert (refused.status_code, unaccepted.error) == (400, None)
    assert unaccepted.attributes["error.type"] == refused.json()["error"]["reason"]
    async with traced.bus() as bus:
        copy = await next_message(bus, "EXPORT", "export.>", 1)
    [sent] = [span for span in spans if span.name == "send nats"]
    assert copy
    assert copy.headers["traceparent"] == f"00-{trace}-{sent.span_id}-01"

    told = repr(collector.spans)
    assert tenant.tenant_id in told
    assert [text for text in ("canary", device.token, bad.secret, tenant.key) if text in told] == []
