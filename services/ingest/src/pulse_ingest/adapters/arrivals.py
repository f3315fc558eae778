"""The first span of a message's trace: its arrival at an edge, until it is answered or acknowledged."""

from collections.abc import Mapping
from typing import Final

from pulse_contracts.ids import MessageId
from pulse_contracts.topics import DeviceTopic
from pulse_ingest.domain.admission import Refusal
from pulse_ingest.domain.intake import Accepted
from pulse_ingest.domain.ports import Busy
from pulse_runtime.clock import Clock
from pulse_runtime.spans import AttributeValue, Span, SpanKind, Tracer

HTTP_ROUTE: Final = "/ingest/v1/tenant/{tenant_id}/device/{device_id}/{type}"
BATCH_ROUTE: Final = "/ingest/v1/batch"
MQTT_TEMPLATE: Final = "tenant/{tenant_id}/device/{device_id}/{type}"


MQTT_ATTRIBUTES: Final[Mapping[str, AttributeValue]] = {
    "messaging.system": "mqtt",
    "messaging.operation.type": "process",
    "messaging.operation.name": "process",
    "messaging.destination.template": MQTT_TEMPLATE,
}


def http_attributes(route: str, status: int) -> dict[str, AttributeValue]:
    """Return what OpenTelemetry's conventions for HTTP servers ask for."""
    return {"http.request.method": "POST", "http.route": route, "http.response.status_code": status}


class Arrival:
    """One message between its arrival and its answer."""

    def __init__(self, tracer: Tracer, clock: Clock, traceparent: str | None, name: str, kind: SpanKind) -> None:
        self._tracer = tracer
        self._clock = clock
        self._name = name
        self._kind = kind
        self._context, self._sender = tracer.accept(traceparent)
        self._began = clock.now() if self._context.sampled else None
        self.traceparent = self._context.header()
        """What the message carries on: the parent of all that follows."""

    def end(
        self, topic: DeviceTopic, outcome: Accepted | Refusal | Busy, attributes: Mapping[str, AttributeValue]
    ) -> None:
        """Record it, if its trace is recorded."""
        if self._began is None:
            return
        error = None if isinstance(outcome, Accepted) else outcome.reason
        message_id = outcome.message_id if isinstance(outcome, Accepted) else MessageId("")
        self._tracer.record(
            Span(
                name=self._name,
                kind=self._kind,
                context=self._context,
                parent_id=self._sender,
                began=self._began,
                ended=self._clock.now(),
                attributes={
                    "pulse.tenant.id": topic.tenant,
                    "pulse.device.id": topic.device,
                    "pulse.message.id": message_id,
                    **({"error.type": error} if error else {}),
                    **attributes,
                },
                error=error,
            )
        )


class Arrivals:
    """Begins the traces of ingest."""

    def __init__(self, tracer: Tracer, clock: Clock) -> None:
        self._tracer = tracer
        self._clock = clock

    def over_http(self, traceparent: str | None, route: str) -> Arrival:
        return Arrival(self._tracer, self._clock, traceparent, f"POST {route}", SpanKind.SERVER)

    def over_mqtt(self, traceparent: str | None) -> Arrival:
        return Arrival(self._tracer, self._clock, traceparent, f"process {MQTT_TEMPLATE}", SpanKind.CONSUMER)
