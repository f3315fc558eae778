"""W3C trace context (level 2): the part of a trace that travels with a message."""

import re
import secrets
from dataclasses import dataclass, replace
from typing import Final, Self

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_TRACE_ID: Final = slice(3, 35)
_SAMPLED: Final = 0x01
_RANDOM: Final = 0x02


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """One span of one trace, as named by a `traceparent` header."""

    trace_id: str
    """32 lower-case hex digits, not all zero; the same from accept to attempt."""
    span_id: str
    """16 lower-case hex digits, not all zero; the parent of whatever is started under this context."""
    sampled: bool
    """Whether the trace is recorded. The NATS server publishes its hops for such messages, so it costs the broker."""
    random: bool = False
    """Whether the trace id is known to be random (level 2); it belongs to the trace id and travels unchanged."""

    @classmethod
    def parse(cls, traceparent: str) -> Self | None:
        """The context in a header's value, or None if the value is not valid.

        Strict for version 00. Of a later version only the known fields are read, as the standard demands.
        """
        match = _TRACEPARENT.fullmatch(traceparent)
        if match is None:
            return None
        version, trace_id, span_id, flags, rest = match.groups()
        if version == "ff" or (version == "00" and rest is not None):
            return None
        if not trace_id.strip("0") or not span_id.strip("0"):
            return None
        bits = int(flags, 16)
        return cls(trace_id=trace_id, span_id=span_id, sampled=bool(bits & _SAMPLED), random=bool(bits & _RANDOM))

    @classmethod
    def new(cls, *, sampled: bool = False) -> Self:
        """A context that begins a trace."""
        return cls(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8), sampled=sampled, random=True)

    @classmethod
    def from_outside(cls, traceparent: str | None) -> Self:
        """The context for a message of a device: its trace goes on, its wish to be recorded does not.

        A sampled header makes the broker work for every hop, so sampling is decided by Pulse alone. Without a valid
        header a new trace begins. The span id stays unless the flag changes: then it must be a new one (W3C Trace
        Context, 3.4).
        """
        outside = None if traceparent is None else cls.parse(traceparent)
        if outside is None:
            return cls.new()
        return replace(outside.child(), sampled=False) if outside.sampled else outside

    def child(self) -> Self:
        """The context of a new span under this one."""
        # Not `replace`, which costs a microsecond more.
        return type(self)(
            trace_id=self.trace_id, span_id=secrets.token_hex(8), sampled=self.sampled, random=self.random
        )

    def as_sampled(self) -> Self:
        """The same span, recorded."""
        return replace(self, sampled=True)

    def header(self) -> str:
        """The value of the `traceparent` header."""
        flags = _SAMPLED * self.sampled | _RANDOM * self.random
        return f"00-{self.trace_id}-{self.span_id}-{flags:02x}"


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id in a header that Pulse wrote itself, for log lines: a slice, for it is asked for at each attempt."""
    return traceparent[_TRACE_ID] if traceparent else None
