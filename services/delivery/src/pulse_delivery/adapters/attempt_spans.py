"""The span of an attempt: the last one of a trace on our side, and the parent of the receiver's."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pulse_contracts.outcome import Delivered, Failed, Outcome, Rejected
from pulse_contracts.routes import Route
from pulse_delivery.domain.parcel import Parcel
from pulse_runtime.clock import Clock
from pulse_runtime.spans import AttributeValue, Span, SpanKind, Tracer

_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
_SYSTEMS: Final[Mapping[str, str]] = {"mqtt_republish": "mqtt", "nats": "nats"}
"""Kinds that are messaging: their attempts are spans of a producer."""


class AttemptSpan:
    """One attempt between its beginning and its outcome."""

    __slots__ = ("_began", "_clock", "_context", "_parcel", "_parent", "_tracer", "traceparent")

    def __init__(self, tracer: Tracer, clock: Clock, parcel: Parcel) -> None:
        self._parent = parent = tracer.parent(parcel.traceparent)
        self.traceparent = parcel.traceparent
        """What the receiver gets: the context of this span, or as it came, when there is none to be a child of."""
        if parent is None:
            return
        self._tracer = tracer
        self._clock = clock
        self._parcel = parcel
        self._context = parent.child()
        self._began = clock.now()
        self.traceparent = self._context.header()

    def end(self, outcome: Outcome, route: Route) -> None:
        """Record it, if its trace is recorded."""
        if self._parent is None:
            return
        kind = self._parcel.address.kind
        self._tracer.record(
            Span(
                # OpenTelemetry names the span of an HTTP client after its method.
                name="POST" if kind == "webhook" else f"send {kind}",
                kind=SpanKind.PRODUCER if kind in _SYSTEMS else SpanKind.CLIENT,
                context=self._context,
                parent_id=self._parent.span_id,
                began=self._began,
                ended=self._clock.now(),
                attributes={
                    **_ids(self._parcel),
                    **_of_webhook(self._parcel, outcome, route),
                    **_of_messaging(self._parcel, route),
                    **_error(outcome),
                },
                error=None if isinstance(outcome, Delivered) else outcome.error,
            )
        )


class AttemptSpans:
    """Begins the spans of attempts."""

    def __init__(self, tracer: Tracer, clock: Clock) -> None:
        self._tracer = tracer
        self._clock = clock

    def begin(self, parcel: Parcel) -> AttemptSpan:
        return AttemptSpan(self._tracer, self._clock, parcel)


def _ids(parcel: Parcel) -> dict[str, AttributeValue]:
    return {
        "pulse.tenant.id": parcel.address.tenant,
        "pulse.route.id": parcel.address.route,
        "pulse.route.revision": parcel.revision,
        "pulse.message.id": parcel.envelope.message_id,
        "pulse.attempt": parcel.attempts + 1,
    }


def _of_webhook(parcel: Parcel, outcome: Outcome, route: Route) -> dict[str, AttributeValue]:
    """Return what the conventions for HTTP clients ask for; of the URL only its origin: the rest is often secret."""
    if route.kind != "webhook":
        return {}
    url = urlsplit(str(route.config.get("url")))
    found: dict[str, AttributeValue] = {
        "http.request.method": "POST",
        "url.scheme": url.scheme,
        "server.address": url.hostname or "",
        "server.port": url.port or _PORTS.get(url.scheme, 0),
    }
    if outcome.status:
        found["http.response.status_code"] = outcome.status
    if parcel.attempts:
        found["http.request.resend_count"] = parcel.attempts
    return found


def _of_messaging(parcel: Parcel, route: Route) -> dict[str, AttributeValue]:
    """Return what the conventions for messaging ask for; the destination as the route words it, so few values."""
    system = _SYSTEMS.get(route.kind)
    if system is None:
        return {}
    return {
        "messaging.system": system,
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.template": str(route.config.get("topic") or route.config.get("subject")),
        "messaging.message.id": parcel.delivery_id,
    }


def _error(outcome: Outcome) -> dict[str, AttributeValue]:
    match outcome:
        case Delivered():
            return {}
        case Rejected(reason=reason):
            return {"error.type": reason}
        case Failed(status=status):
            return {"error.type": str(status) if status else "unreachable"}
