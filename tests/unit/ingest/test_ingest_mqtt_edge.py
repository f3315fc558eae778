import asyncio
from dataclasses import dataclass

import pytest
import structlog
from ingest_builders import ACME, registry, settings
from ingest_fakes import DevicesInMemory, QuarantineInMemory, TelemetryInMemory
from prometheus_client import CollectorRegistry

from pulse_contracts.ids import DeviceId, supplied_message_id
from pulse_ingest.adapters.arrivals import Arrivals
from pulse_ingest.domain.intake import Intake
from pulse_ingest.mqtt.edge import MqttEdge
from pulse_ingest.mqtt.session import Arrival
from pulse_runtime.metrics import IngestMetrics
from pulse_runtime.spans import OFF
from pulse_testkit.clock import ManualClock

TOPIC = "tenant/acme/device/sensor-1/weather"


@dataclass(kw_only=True)
class Edge:
    """An edge between a broker that is not there and logs in memory."""

    clock: ManualClock
    telemetry: TelemetryInMemory
    quarantine: QuarantineInMemory
    devices: DevicesInMemory
    counters: CollectorRegistry
    edge: MqttEdge

    async def receive(self, arrival: Arrival) -> None:
        """Return when the session would acknowledge."""
        await self.edge._receive(arrival)  # pyright: ignore[reportPrivateUsage] - what the session calls

    def counted(self, result: str) -> float | None:
        labels = {"protocol": "mqtt", "result": result}
        return self.counters.get_sample_value("pulse_ingest_messages_total", labels)

    @property
    def reasons(self) -> list[str]:
        return [record.reason for record in self.quarantine.records]


@pytest.fixture(name="edge")
def _edge(manual_clock: ManualClock) -> Edge:
    telemetry, quarantine, counters = TelemetryInMemory(), QuarantineInMemory(), CollectorRegistry()
    devices = DevicesInMemory(registry())
    edge = MqttEdge(
        settings(),
        intake=Intake(telemetry, quarantine, manual_clock),
        authenticator=devices,
        metrics=IngestMetrics(counters),
        arrivals=Arrivals(OFF, manual_clock),
        clock=manual_clock,
    )
    return Edge(
        clock=manual_clock, telemetry=telemetry, quarantine=quarantine, devices=devices, counters=counters, edge=edge
    )


def arrival(
    topic: str = TOPIC, body: bytes = b'{"t":1}', *, retained: bool = False, properties: dict[str, str] | None = None
) -> Arrival:
    return Arrival(topic=topic, body=body, retained=retained, user_properties=properties or {})


async def test_a_message_is_acknowledged_once_it_is_committed(edge: Edge) -> None:
    edge.telemetry.closed = True
    receiving = asyncio.create_task(edge.receive(arrival()))
    await edge.clock.advance(60)
    assert not receiving.done()
    edge.telemetry.opened.set()
    await receiving
    assert [envelope.topic for envelope in edge.telemetry.committed] == [TOPIC]
    assert edge.counted("accepted") == 1


async def test_a_busy_log_is_tried_again_and_nothing_is_acknowledged_meanwhile(edge: Edge) -> None:
    edge.telemetry.refusals = 3
    receiving = asyncio.create_task(edge.receive(arrival()))
    await edge.clock.advance(1.4)
    assert not receiving.done()
    assert edge.telemetry.committed == []
    await edge.clock.advance(0.2)
    await receiving
    assert len(edge.telemetry.committed) == 1
    assert edge.quarantine.records == []


async def test_a_refusal_is_acknowledged_once_it_is_in_quarantine(edge: Edge) -> None:
    edge.quarantine.refusals = 1
    receiving = asyncio.create_task(edge.receive(arrival(body=b"not json")))
    await edge.clock.advance(0.4)
    assert not receiving.done()
    await edge.clock.advance(0.2)
    await receiving
    assert [(record.reason, record.topic, record.payload) for record in edge.quarantine.records] == [
        ("payload_not_json", TOPIC, b"not json")
    ]
    assert edge.telemetry.committed == []


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("tenant/acme/device/unknown/weather", "device_unknown"),
        ("tenant/acme/device/sensor-1/a//b", "topic_invalid"),
        ("tenant/acme/device/sen sor/weather", "topic_invalid"),
        ("tenant/acme/device/sensor-1/", "topic_invalid"),
    ],
)
async def test_what_a_known_tenants_broker_lets_through_goes_to_its_quarantine(
    edge: Edge, topic: str, reason: str
) -> None:
    await edge.receive(arrival(topic))
    assert [(ACME, reason)] == [(record.tenant_id, record.reason) for record in edge.quarantine.records]
    assert edge.counted("quarantined") == 1


@pytest.mark.parametrize("topic", ["tenant/nobody/device/d/t", "tenant/A B/device/d/t", "other/acme/device/d/t", "x"])
async def test_what_belongs_to_no_known_tenant_is_counted_only(edge: Edge, topic: str) -> None:
    await edge.receive(arrival(topic))
    assert (edge.telemetry.committed, edge.quarantine.records) == ([], [])
    assert edge.counted("rejected") == 1


async def test_while_nobody_can_say_whether_a_device_exists_the_brokers_word_is_taken(edge: Edge) -> None:
    edge.devices.away = 3
    await edge.receive(arrival("tenant/acme/device/unknown/weather"))
    assert edge.reasons == []
    assert len(edge.telemetry.committed) == 1


async def test_the_same_device_name_of_another_tenant_is_another_device(edge: Edge) -> None:
    await edge.receive(arrival("tenant/globex/device/sensor-2/weather"))
    assert edge.reasons == ["device_unknown"]


async def test_a_retained_message_was_received_when_it_was_published(edge: Edge) -> None:
    await edge.receive(arrival(retained=True))
    assert edge.telemetry.committed == []
    assert edge.counted("duplicate") == 1


async def test_a_repeated_message_is_counted_as_a_duplicate(edge: Edge) -> None:
    for _ in range(2):
        await edge.receive(arrival(properties={"message-id": "m-1"}))
    assert (edge.counted("accepted"), edge.counted("duplicate")) == (1, 1)


async def test_the_id_in_a_user_property_goes_before_the_payloads(edge: Edge) -> None:
    await edge.receive(arrival(body=b'{"message_id":"p"}', properties={"message-id": "h"}))
    expected = supplied_message_id(ACME, DeviceId("sensor-1"), "h")
    assert [expected] == [envelope.message_id for envelope in edge.telemetry.committed]


async def test_an_id_that_cannot_be_kept_goes_to_quarantine(edge: Edge) -> None:
    await edge.receive(arrival(properties={"message-id": "x" * 300}))
    assert edge.reasons == ["message_id_invalid"]


@pytest.mark.parametrize(
    ("topic", "event"),
    [
        (TOPIC, "message_quarantined"),
        ("tenant/acme/device/unknown/weather", "message_quarantined"),
        ("tenant/nobody/device/d/t", "message_rejected"),
    ],
)
async def test_the_line_of_what_is_not_accepted_names_its_trace(edge: Edge, topic: str, event: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with structlog.testing.capture_logs() as events:
        await edge.receive(arrival(topic, b"not json", properties={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}))
        await edge.receive(arrival(topic, b"not json", properties={"traceparent": "00-canary"}))
    told, of_no_trace = events
    assert (told["event"], told["trace_id"]) == (event, trace)
    assert len(of_no_trace["trace_id"]) == len(trace), "a trace of its own, nothing of what was sent"
    assert "canary" not in str(events)


async def test_a_devices_trace_is_taken_over_without_its_sampled_flag(edge: Edge) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    await edge.receive(arrival(properties={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}))
    [envelope] = edge.telemetry.committed
    assert envelope.traceparent is not None
    assert trace in envelope.traceparent
    assert not int(envelope.traceparent[-2:], 16) & 1
