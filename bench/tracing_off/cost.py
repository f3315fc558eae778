"""What tracing costs a message while it is off: the real calls of all three services, less carrying the context.

`uv run just bench tracing-off` prints it; tests/unit/bench holds it to twice the goal.
"""

import time
import timeit
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from pulse_bus.spans import begin_processing
from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId
from pulse_contracts.outcome import Delivered
from pulse_contracts.routes import Route, RoutePolicy
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.topics import parse_device_topic
from pulse_delivery.adapters.attempt_spans import AttemptSpans
from pulse_delivery.domain.parcel import Parcel
from pulse_ingest.adapters.arrivals import HTTP_ROUTE, Arrivals
from pulse_ingest.domain.intake import Accepted
from pulse_runtime.clock import SystemClock
from pulse_runtime.spans import OFF
from pulse_runtime.tracing import TraceContext

GOAL_US: Final = 3.0
_A_SLICE: Final = 100
_TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
_FIELDS: Final = {"traceparent": _TRACEPARENT}
_CONSUMERS: Final = (("TELEMETRY", "store"), ("TELEMETRY", "router"), ("DELIVERY", "deliver-webhook"))
_SENDINGS: Final = 3
"""TELEMETRY, DELIVERY, ATTEMPT: so often a publisher asks whether there is anything to record."""
_NOW: Final = datetime(2026, 1, 5, tzinfo=UTC)
_CLOCK: Final = SystemClock()
_ARRIVALS: Final = Arrivals(OFF, _CLOCK)
_ATTEMPTS: Final = AttemptSpans(OFF, _CLOCK)
_TOPIC: Final = parse_device_topic("tenant/acme/device/d/weather")
_ACCEPTED: Final = Accepted(message_id=MessageId("m-1"), duplicate=False)
_ROUTE: Final = Route(
    route_id=RouteId("r-1"),
    tenant_id=TenantId("acme"),
    name="r",
    revision=1,
    topic_filter="#",
    payload_filter=None,
    expression=None,
    kind="webhook",
    config={"url": "https://example.com/hook"},
    policy=RoutePolicy(),
)
_PARCEL: Final = Parcel(
    address=RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("r-1")),
    revision=1,
    routed_at=_NOW,
    attempts=0,
    answered=0,
    envelope=Envelope(
        message_id=MessageId("m-1"),
        tenant_id=TenantId("acme"),
        device_id=DeviceId("d"),
        type="weather",
        topic="tenant/acme/device/d/weather",
        time=_NOW,
        received_at=_NOW,
        supplied_id=False,
        traceparent=_TRACEPARENT,
        payload=b"{}",
    ),
    traceparent=_TRACEPARENT,
)


def one_message() -> None:
    """Do for one message, from its arrival to its delivery, what the services do for its trace."""
    arrival = _ARRIVALS.over_http(_TRACEPARENT, HTTP_ROUTE)
    arrival.end(_TOPIC, _ACCEPTED, status=202)
    for stream, consumer in _CONSUMERS:
        begin_processing(OFF, _CLOCK, stream=stream, consumer=consumer, fields=_FIELDS, deliveries=1)
    for _ in range(_SENDINGS):
        _ = OFF.is_enabled
    attempt = _ATTEMPTS.begin(_PARCEL)
    _ = attempt.traceparent
    attempt.end(Delivered(), _ROUTE)


def context_alone() -> None:
    """Take the context over at the edge, as it must be in any case; from there on it is a header like others."""
    TraceContext.from_outside(_TRACEPARENT).header()


def cost_us(slices: int = 300) -> float:
    """Return the difference a message, in microseconds: of many short slices of each the least disturbed one."""
    return min(_cpu_us(one_message) for _ in range(slices)) - min(_cpu_us(context_alone) for _ in range(slices))


def _cpu_us(work: Callable[[], None]) -> float:
    # CPU, not the clock on the wall, and short: on a busy machine the median of long runs was twice the least.
    return timeit.timeit(work, timer=time.process_time, number=_A_SLICE) / _A_SLICE * 1e6
