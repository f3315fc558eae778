"""An OTLP collector that keeps what it gets: HTTP with protobuf, as the specification has it."""

import asyncio
import gzip
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedSpan:
    """One span as it was exported."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a root."""
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, Any]
    links: tuple[str, ...]
    """Span ids."""
    error: str | None


@dataclass(slots=True)
class OtlpCollector:
    """Everything that was exported to it."""

    port: int = 0
    spans: list[CollectedSpan] = field(default_factory=list[CollectedSpan])

    @property
    def endpoint(self) -> str:
        """For ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self.port}"

    def of_trace(self, trace_id: str) -> list[CollectedSpan]:
        """Return the spans of a trace, in the order of their beginning."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.began_ns)

    def take(self, body: bytes) -> None:
        """Read one export request."""
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            resource = {item.key: item.value.string_value for item in group.resource.attributes}
            for scope in group.scope_spans:
                self.spans += [_collected(span, resource.get("service.name", "")) for span in scope.spans]


@asynccontextmanager
async def open_collector() -> AsyncGenerator[OtlpCollector, None]:
    """Yield a collector that listens on a free port."""
    collector = OtlpCollector()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await _answer(collector, reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    collector.port = server.sockets[0].getsockname()[1]
    try:
        yield collector
    finally:
        server.close()


async def _answer(collector: OtlpCollector, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    if not first.startswith("POST /v1/traces "):
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
    else:
        collector.take(gzip.decompress(body) if fields.get("content-encoding") == "gzip" else body)
        answer = ExportTraceServiceResponse().SerializeToString()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n"
            + f"content-length: {len(answer)}\r\n\r\n".encode()
            + answer
        )
    await writer.drain()


def _collected(span: Any, service: str) -> CollectedSpan:
    return CollectedSpan(
        service=service,
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        attributes={item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes},
        links=tuple(link.span_id.hex() for link in span.links),
        error=span.status.message if span.status.code == _ERROR else None,
    )


_ERROR = 2
