from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from pulse_runtime.spans import OFF, Span, SpanKind, Tracer
from pulse_runtime.tracing import TraceContext

pytestmark = pytest.mark.alone

TRACE, SENDER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
UNSAMPLED, SAMPLED = f"00-{TRACE}-{SENDER}-00", f"00-{TRACE}-{SENDER}-01"
NOW = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(slots=True)
class ListedSpans:
    spans: list[Span] = field(default_factory=list[Span])

    def take(self, span: Span) -> None:
        self.spans.append(span)


def test_a_tracer_that_is_off_samples_nothing() -> None:
    context, sender = OFF.accept(SAMPLED)
    assert (context.trace_id, context.sampled, sender) == (TRACE, False, None)
    assert OFF.parent(SAMPLED) is None


@pytest.mark.parametrize("header", [UNSAMPLED, SAMPLED])
def test_the_devices_trace_goes_on_under_a_span_of_ours(header: str) -> None:
    context, sender = Tracer(ListedSpans(), ratio=1.0).accept(header)
    assert (context.trace_id, context.sampled, sender) == (TRACE, True, SENDER)
    assert context.span_id != SENDER


@pytest.mark.parametrize("header", [None, "", "nonsense", f"00-{'0' * 32}-{SENDER}-01"])
def test_without_a_trace_of_the_device_one_begins(header: str | None) -> None:
    context, sender = Tracer(ListedSpans(), ratio=1.0).accept(header)
    assert (context.sampled, sender) == (True, None)


def test_the_devices_wish_to_be_recorded_is_not_obeyed() -> None:
    assert not Tracer(ListedSpans(), ratio=0.0).accept(SAMPLED)[0].sampled


def test_the_trace_id_alone_decides_and_the_ratio_is_kept() -> None:
    tracer = Tracer(ListedSpans(), ratio=0.25)
    contexts = [tracer.accept(None)[0] for _ in range(4000)]
    assert 0.2 < sum(context.sampled for context in contexts) / len(contexts) < 0.3
    assert all(tracer.accept(context.header())[0].sampled is context.sampled for context in contexts)


@pytest.mark.parametrize("header", [None, "", UNSAMPLED, f"00-{TRACE}-{SENDER}-02"])
def test_nothing_is_recorded_under_a_trace_that_is_not_sampled(header: str | None) -> None:
    assert Tracer(ListedSpans(), ratio=1.0).parent(header) is None


def test_a_sampled_trace_is_recorded() -> None:
    sink = ListedSpans()
    tracer = Tracer(sink, ratio=1.0)
    assert tracer.parent(SAMPLED) == TraceContext.parse(SAMPLED)

    context = TraceContext.new(sampled=True)
    span = Span(name="n", kind=SpanKind.INTERNAL, context=context, parent_id=None, began=NOW, ended=NOW)
    tracer.record(span)
    assert sink.spans == [span]
