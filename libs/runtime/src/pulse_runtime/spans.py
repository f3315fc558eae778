"""Spans, recorded after the fact: one call says what was done, for which trace, from when to when.

There is no current span: work on one message goes through queues and tasks shared with thousands of others, and its
trace context travels with the message. Nothing is recorded, and next to nothing done, for a trace that is not sampled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, Protocol

from pulse_runtime.tracing import TraceContext

AttributeValue = str | int | float | bool
_RATIO_BITS: Final = 56


class SpanKind(Enum):
    """As OpenTelemetry defines them."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One piece of work that is over."""

    name: str
    """Of low cardinality: ids are attributes."""
    kind: SpanKind
    context: TraceContext
    parent_id: str | None
    """Span id of the parent in the same trace, None for a root."""
    began: datetime
    ended: datetime
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])
    links: Sequence[TraceContext] = ()
    error: str | None = None
    """What went wrong, for the status: one line, no secret."""


class SpanSink(Protocol):
    """Takes finished spans. Must not block and must not raise: what cannot be kept is dropped."""

    def take(self, span: Span) -> None: ...


class Tracer:
    """Decides what is recorded, and records it."""

    def __init__(self, sink: SpanSink | None = None, *, ratio: float = 0.0) -> None:
        """Without a *sink* nothing is ever recorded; *ratio* of the accepted messages' traces are."""
        self._sink = sink
        self._bound = int(ratio * (1 << _RATIO_BITS)) if sink else 0

    @property
    def is_enabled(self) -> bool:
        return self._sink is not None

    def accept(self, traceparent: str | None) -> tuple[TraceContext, str | None]:
        """Return the context of a message that arrives from outside, and the span id of its sender if it named one.

        The device's trace goes on, its wish to be recorded does not: a sampled trace costs the broker work at each hop,
        so Pulse alone decides, by the trace id alone (as OpenTelemetry's TraceIdRatioBased does).
        """
        outside = TraceContext.from_outside(traceparent)
        if not self._bound or int(outside.trace_id[-14:], 16) >= self._bound:
            return outside, None
        sender = TraceContext.parse(traceparent) if traceparent else None
        return (outside.child().as_sampled(), sender.span_id) if sender else (outside.as_sampled(), None)

    def parent(self, traceparent: str | None) -> TraceContext | None:
        """Return the context to record spans under, None if nothing is to be recorded for this message."""
        # The cheapest test first: most traces are not sampled, and the flags are the last two characters.
        if self._sink is None or not traceparent or not int(traceparent[-1], 16) & 1:
            return None
        context = TraceContext.parse(traceparent)
        return context if context and context.sampled else None

    def record(self, span: Span) -> None:
        """Hand over a finished span of a sampled trace."""
        if self._sink is not None:
            self._sink.take(span)


OFF: Final = Tracer()
"""Records nothing."""
