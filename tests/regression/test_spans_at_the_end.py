"""A collector that takes connections and never answers held a process at its end for 10 s, not the three promised.

Seen: the SDK waits for the request that is under way, and asyncio for the thread that waits.
"""

import socket
import time
from datetime import UTC, datetime

import pytest

from pulse_runtime.span_export import OtlpSink
from pulse_runtime.spans import Span, SpanKind
from pulse_runtime.tracing import TraceContext

NOW = datetime(2026, 1, 5, tzinfo=UTC)
SPAN = Span(
    name="send TELEMETRY",
    kind=SpanKind.PRODUCER,
    context=TraceContext(trace_id="ab" * 16, span_id="cd" * 8, sampled=True),
    parent_id=None,
    began=NOW,
    ended=NOW,
    attributes={},
)


def test_a_silent_collector_does_not_hold_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "6")
        sink = OtlpSink("ingest", "0", "i")
        sink.take(SPAN)
        began = time.monotonic()
        sink.close(0.1)
        assert time.monotonic() - began < 3
