"""The span of an attempt: the last one of a trace on our side, and the parent of the receiver's."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pulse_contracts.outcome import Delivered, Failed, Outcome, Rejected
from pulse_contracts.routes import Route
from pulse_delivery.domain.parcel import Parcel
from pulse_runtime.clock import Clock
from pulse_runtime.spans import AttributeValue, Span, SpanKind, Tracer
from pulse_runtime.tracing import TraceContext

_NAMES: Final[Mapping[str, str]] = {"webhook": "POST"}
"""OpenTelemetry names the span of an HTTP client after its method."""


class AttemptSpan:
    """One attempt between its beginning and its outcome."""

    def __init__(self, tracer: Tracer, clock: Clock, parcel: Parcel) -> None:
        self._tracer = tracer
        self._clock = clock
        self._parcel = parcel
        parent = TraceContext.parse(parcel.traceparent or "")
        self._parent = parent
        self._context = parent.child() if parent else None
        self._began = clock.now() if tracer.parent(parcel.traceparent) else None

    @property
    def traceparent(self) -> str | None:
        """What the receiver gets."""
        return self._context.header() if self._context else None

    def end(self, outcome: Outcome, route: Route) -> None:
        """Record it, if its trace is recorded."""
        if self._began is None or self._context is None or self._parent is None:
            return
        kind = self._parcel.address.kind
        self._tracer.record(
            Span(
                name=_NAMES.get(kind, f"send {kind}"),
                kind=SpanKind.CLIENT,
                context=self._context,
                parent_id=self._parent.span_id,
                began=self._began,
                ended=self._clock.now(),
                attributes={**_ids(self._parcel), **_of_webhook(self._parcel, outcome, route), **_error(outcome)},
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
    found: dict[str, AttributeValue] = {"http.request.method": "POST", "server.address": url.hostname or ""}
    if url.port:
        found["server.port"] = url.port
    if outcome.status:
        found["http.response.status_code"] = outcome.status
    if parcel.attempts:
        found["http.request.resend_count"] = parcel.attempts
    return found


def _error(outcome: Outcome) -> dict[str, AttributeValue]:
    match outcome:
        case Delivered():
            return {}
        case Rejected(reason=reason):
            return {"error.type": reason}
        case Failed(status=status):
            return {"error.type": str(status) if status else "unreachable"}
