"""The first span of a message's trace: its arrival at an edge, until it is answered or acknowledged."""

from collections.abc import Mapping
from typing import Final

from pulse_contracts.topics import DeviceTopic
from pulse_ingest.domain.admission import Refusal
from pulse_ingest.domain.intake import Accepted
from pulse_ingest.domain.ports import Busy
from pulse_runtime.clock import Clock
from pulse_runtime.spans import AttributeValue, Span, SpanKind, Tracer

HTTP_ROUTE: Final = "/ingest/v1/tenant/{tenant_id}/device/{device_id}/{type}"
BATCH_ROUTE: Final = "/ingest/v1/batch"
MQTT_TEMPLATE: Final = "tenant/{tenant_id}/device/{device_id}/{type}"


_MQTT_ATTRIBUTES: Final[Mapping[str, AttributeValue]] = {
    "messaging.system": "mqtt",
    "messaging.operation.type": "process",
    "messaging.operation.name": "process",
    "messaging.destination.template": MQTT_TEMPLATE,
}
_HTTP_ATTRIBUTES: Final[Mapping[str, AttributeValue]] = {
    "http.request.method": "POST",
    # A proxy in front may have spoken TLS; ingest itself never does.
    "url.scheme": "http",
}


class Arrival:
    """One message between its arrival and its answer."""

    __slots__ = ("_began", "_clock", "_context", "_kind", "_sender", "_tracer", "_where", "traceparent")

    def __init__(self, tracer: Tracer, clock: Clock, traceparent: str | None, where: str, kind: SpanKind) -> None:
        context, self._sender = tracer.accept(traceparent)
        self._context = context if context.sampled else None
        self.traceparent = context.header()
        """What the message carries on: the parent of all that follows."""
        if self._context:
            self._tracer = tracer
            self._clock = clock
            self._where = where
            self._kind = kind
            self._began = clock.now()

    def end(self, topic: DeviceTopic, outcome: Accepted | Refusal | Busy, *, status: int | None = None) -> None:
        """Record it, if its trace is recorded; *status* is that of the answer, if it came over HTTP."""
        if self._context is None:
            return
        error = None if isinstance(outcome, Accepted) else outcome.reason
        # By the conventions a 4xx is the client's error, not the server's.
        is_the_clients = self._kind is SpanKind.SERVER and isinstance(outcome, Refusal)
        self._tracer.record(
            Span(
                name=f"process {self._where}" if status is None else f"POST {self._where}",
                kind=self._kind,
                context=self._context,
                parent_id=self._sender,
                began=self._began,
                ended=self._clock.now(),
                attributes={
                    "pulse.tenant.id": topic.tenant,
                    "pulse.device.id": topic.device,
                    **({"pulse.message.id": outcome.message_id} if isinstance(outcome, Accepted) else {}),
                    **({"error.type": error} if error else {}),
                    **self._attributes(status),
                },
                error=None if is_the_clients else error,
            )
        )

    def _attributes(self, status: int | None) -> Mapping[str, AttributeValue]:
        if status is None:
            return _MQTT_ATTRIBUTES
        return {**_HTTP_ATTRIBUTES, "http.route": self._where, "http.response.status_code": status}


class Arrivals:
    """Begins the traces of ingest."""

    def __init__(self, tracer: Tracer, clock: Clock) -> None:
        self._tracer = tracer
        self._clock = clock

    def over_http(self, traceparent: str | None, route: str) -> Arrival:
        return Arrival(self._tracer, self._clock, traceparent, route, SpanKind.SERVER)

    def over_mqtt(self, traceparent: str | None) -> Arrival:
        return Arrival(self._tracer, self._clock, traceparent, MQTT_TEMPLATE, SpanKind.CONSUMER)
