"""Exports spans over OTLP (HTTP, protobuf), in a thread of the SDK; imported only when tracing is on.

Where to and how is set by OpenTelemetry's own variables: ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_RESOURCE_ATTRIBUTES``…
"""

import threading
from datetime import datetime
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from pulse_runtime.spans import Span, SpanKind
from pulse_runtime.tracing import TraceContext

_KINDS: Final = {
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
    SpanKind.SERVER: trace.SpanKind.SERVER,
    SpanKind.CLIENT: trace.SpanKind.CLIENT,
    SpanKind.PRODUCER: trace.SpanKind.PRODUCER,
    SpanKind.CONSUMER: trace.SpanKind.CONSUMER,
}
_FLUSH_S: Final = 3.0


class OtlpSink:
    """Queues spans for the SDK's batch processor, which drops what its queue cannot hold."""

    def __init__(self, service: str, version: str, instance: str) -> None:
        self._resource = Resource.create(
            {"service.name": f"pulse-{service}", "service.version": version, "service.instance.id": instance}
        )
        self._scope = InstrumentationScope("pulse", version)
        self._processor = BatchSpanProcessor(OTLPSpanExporter())

    def take(self, span: Span) -> None:
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_context(span.context),
                parent=_context(span.context, span.parent_id) if span.parent_id else None,
                resource=self._resource,
                attributes=span.attributes,
                links=[trace.Link(_context(link)) for link in span.links],
                kind=_KINDS[span.kind],
                status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
                start_time=_nanoseconds(span.began),
                end_time=_nanoseconds(span.ended),
                instrumentation_scope=self._scope,
            )
        )

    def close(self, within_s: float = _FLUSH_S) -> None:
        """Send what waits, within three seconds; blocks so long."""
        # The SDK waits for a request under way, whatever it is told; only a daemon does not hold the process meanwhile.
        closing = threading.Thread(target=self._processor.shutdown, name="spans.close", daemon=True)
        closing.start()
        closing.join(within_s)


def _context(context: TraceContext, span_id: str | None = None) -> SpanContext:
    return SpanContext(
        trace_id=int(context.trace_id, 16),
        span_id=int(span_id or context.span_id, 16),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT),
    )


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000
