"""What the broker did with a message, as spans of the message's own trace.

With `msg_trace` on the account, nats-server publishes one event a server for each message whose ``traceparent`` is
sampled (ADR-41 of NATS): where it came in, which stream stored it, to whom it went. This bridge turns each event into
a span under the one that the message carried.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final

from nats.aio.msg import Msg

from pulse_bus.connection import Connection
from pulse_contracts import headers
from pulse_runtime.logging import get_logger
from pulse_runtime.spans import AttributeValue, Span, SpanKind, Tracer

_log = get_logger(__name__)
SUBJECT: Final = "hops"
"""Where the account's `msg_trace` publishes."""
_QUEUE: Final = "hops"
_INGRESS, _STORED, _EGRESS = "in", "js", "eg"


async def bridge_hops(connection: Connection) -> None:
    """Record the events from now on; of several processes that do so each event goes to one."""
    await connection.subscribe(SUBJECT, lambda message: record_hops(connection.tracer, message), queue=_QUEUE)


def record_hops(tracer: Tracer, message: Msg) -> None:
    """Record one event as a span."""
    try:
        event: dict[str, Any] = json.loads(message.data)
        span = span_of(event, tracer)
    except (ValueError, KeyError, TypeError, IndexError) as exc:
        _log.debug("hops_unreadable", error=str(exc))
        return
    if span:
        tracer.record(span)


def span_of(event: dict[str, Any], tracer: Tracer) -> Span | None:
    """Return the span of one server's work, None if its trace is not recorded here; raises for what is no event."""
    parent = tracer.parent(event["request"]["header"][headers.TRACEPARENT][0])
    if parent is None:
        return None
    hops: list[dict[str, Any]] = event["events"]
    times = [_moment(hop["ts"]) for hop in hops]
    stored = _first(hops, _STORED)
    arrived = _first(hops, _INGRESS)
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "nats",
        "messaging.destination.name": str(stored.get("stream") or arrived.get("subj", "")),
        "messaging.message.body.size": int(event["request"].get("msgsize", 0)),
        "nats.server.name": str(event["server"]["name"]),
        "nats.subject": str(arrived.get("subj", "")),
        "nats.egress": sum(hop["type"] == _EGRESS for hop in hops),
    }
    errors = [str(hop["error"]) for hop in hops if hop.get("error")]
    return Span(
        name="nats-server",
        kind=SpanKind.INTERNAL,
        context=parent.child(),
        parent_id=parent.span_id,
        began=min(times),
        ended=max(times),
        attributes=attributes,
        error=errors[0] if errors else None,
    )


def _first(hops: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next((hop for hop in hops if hop["type"] == kind), dict[str, Any]())


def _moment(text: str) -> datetime:
    """Read RFC 3339 with nanoseconds."""
    return datetime.fromisoformat(text).astimezone(UTC)
