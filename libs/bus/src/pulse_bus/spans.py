"""The spans of the bus, in one place: one a message sent and one a message processed (OpenTelemetry, messaging).

A message carries its trace in the ``traceparent`` header. What is sent gets a span of its own and carries that one;
what arrives gets one that lasts until it is settled, and its `Incoming.traceparent` is the parent of whatever is done
for it. So a trace runs through all services from accept to attempt, whatever batches and queues its message shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from pulse_bus.errors import BusError, PublishRefused
from pulse_bus.outgoing import Outgoing
from pulse_contracts import headers
from pulse_runtime.clock import Clock
from pulse_runtime.spans import AttributeValue, Span, SpanKind, Tracer
from pulse_runtime.tracing import TraceContext

_SYSTEM: Final = "nats"


@dataclass(slots=True, kw_only=True)
class Processing:
    """A sampled message between arrival and settlement."""

    context: TraceContext
    parent_id: str
    began: datetime
    stream: str
    consumer: str
    message_id: str
    deliveries: int
    tracer: Tracer
    clock: Clock

    def end(self, settlement: str) -> None:
        """Record it; *settlement* is what the message was settled with."""
        self.tracer.record(
            Span(
                name=f"process {self.stream}",
                kind=SpanKind.CONSUMER,
                context=self.context,
                parent_id=self.parent_id,
                began=self.began,
                ended=self.clock.now(),
                attributes={
                    **_messaging("process", self.stream, self.message_id),
                    "messaging.consumer.group.name": self.consumer,
                    "messaging.nats.deliveries": self.deliveries,
                    "messaging.nats.settlement": settlement,
                },
            )
        )


def begin_processing(
    tracer: Tracer, clock: Clock, *, stream: str, consumer: str, fields: dict[str, str], deliveries: int
) -> Processing | None:
    """Return the processing of a message that has just arrived, None if its trace is not recorded."""
    parent = tracer.parent(fields.get(headers.TRACEPARENT))
    if parent is None:
        return None
    return Processing(
        context=parent.child(),
        parent_id=parent.span_id,
        began=clock.now(),
        stream=stream,
        consumer=consumer,
        message_id=fields.get(headers.MSG_ID, ""),
        deliveries=deliveries,
        tracer=tracer,
        clock=clock,
    )


class Sending:
    """Messages on their way into a stream, those of them whose traces are recorded."""

    def __init__(self, tracer: Tracer, clock: Clock, stream: str, messages: Sequence[Outgoing]) -> None:
        self._tracer = tracer
        self._clock = clock
        self._stream = stream
        self._began = clock.now()
        self._spans: list[tuple[TraceContext, str, Outgoing]] = []
        self.messages: Sequence[Outgoing] = [self._with_own_span(message) for message in messages]
        """What to send: each sampled message carries the context of its own span."""
        self.leader: TraceContext | None = None
        """The first span of the batch they go out in."""
        self.batch_size = len(messages)

    @property
    def first(self) -> TraceContext | None:
        return self._spans[0][0] if self._spans else None

    @staticmethod
    def join(sendings: "Sequence[Sending]") -> None:
        """Say that all these go out in one batch: their spans will be linked to the first of them."""
        leader = next((sending.first for sending in sendings if sending.first), None)
        size = sum(len(sending.messages) for sending in sendings)
        for sending in sendings:
            sending.leader, sending.batch_size = leader, size

    def end(self, error: BusError | None = None) -> None:
        """Record the spans; *error* is why the messages are not committed."""
        ended = self._clock.now()
        for context, parent_id, message in self._spans:
            attributes: dict[str, AttributeValue] = _messaging("send", self._stream, message.message_id)
            self._tracer.record(
                Span(
                    name=f"send {self._stream}",
                    kind=SpanKind.PRODUCER,
                    context=context,
                    parent_id=parent_id,
                    began=self._began,
                    ended=ended,
                    attributes={**attributes, "messaging.batch.message_count": self.batch_size, **_error(error)},
                    links=() if self.leader is None or context is self.leader else (self.leader,),
                    error=str(error) if error else None,
                )
            )

    def _with_own_span(self, message: Outgoing) -> Outgoing:
        parent = self._tracer.parent(message.headers.get(headers.TRACEPARENT))
        if parent is None:
            return message
        context = parent.child()
        self._spans.append((context, parent.span_id, message))
        return replace(message, headers={**message.headers, headers.TRACEPARENT: context.header()})


def _error(error: BusError | None) -> dict[str, AttributeValue]:
    match error:
        case None:
            return {}
        case PublishRefused(reason=reason):
            return {"error.type": reason}
        case _:
            return {"error.type": "unavailable"}


def _messaging(operation: str, stream: str, message_id: str) -> dict[str, AttributeValue]:
    return {
        "messaging.system": _SYSTEM,
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.destination.name": stream,
        "messaging.message.id": message_id,
    }
