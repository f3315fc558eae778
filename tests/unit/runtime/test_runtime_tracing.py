import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse_runtime.tracing import TraceContext

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("flags", "sampled", "random"), [("00", False, False), ("01", True, False), ("02", False, True), ("ff", True, True)]
)
def test_flags_are_bits(flags: str, sampled: bool, random: bool) -> None:  # noqa: FBT001 -- a table of flags
    expected = TraceContext(trace_id=TRACE, span_id=SPAN, sampled=sampled, random=random)
    assert expected == TraceContext.parse(f"00-{TRACE}-{SPAN}-{flags}")


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"0g-{TRACE}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE[:-1]}\u0660-{SPAN}-01",
    ],
)
def test_invalid_headers_are_refused(header: str) -> None:
    assert TraceContext.parse(header) is None


@pytest.mark.parametrize("rest", ["", "-what-the-future-holds"])
def test_later_versions_are_read_as_far_as_known(rest: str) -> None:
    assert TraceContext.parse(f"cc-{TRACE}-{SPAN}-01{rest}") == TraceContext(trace_id=TRACE, span_id=SPAN, sampled=True)


@given(st.text())
def test_no_text_makes_parsing_fail(text: str) -> None:
    TraceContext.parse(text)


def test_a_header_is_read_back_as_it_was() -> None:
    for sampled in (False, True):
        context = TraceContext.new(sampled=sampled)
        assert context == TraceContext.parse(context.header())
        assert context.sampled is sampled


def test_a_child_keeps_the_trace_and_has_its_own_span() -> None:
    parent = TraceContext.new(sampled=True)
    child = parent.child()
    assert (child.trace_id, child.sampled, child.random) == (parent.trace_id, True, True)
    assert child.span_id != parent.span_id


def test_a_device_brings_its_trace_but_not_its_sampling() -> None:
    context = TraceContext.from_outside(f"00-{TRACE}-{SPAN}-03")
    assert (context.trace_id, context.sampled, context.random) == (TRACE, False, True)
    assert context.span_id != SPAN, "whoever changes the flag is another span"


def test_a_trace_that_is_not_recorded_goes_on_as_it_came() -> None:
    header = f"00-{TRACE}-{SPAN}-02"
    assert TraceContext.from_outside(header).header() == header


@pytest.mark.parametrize("header", [None, "nonsense"])
def test_without_a_valid_header_a_trace_begins(header: str | None) -> None:
    context = TraceContext.from_outside(header)
    assert context == TraceContext.parse(context.header())
    assert not context.sampled
