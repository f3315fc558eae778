"""Routing: takes batches off TELEMETRY, publishes one message a match to DELIVERY, then acknowledges."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, cast

from pulse_bus.consumer import PullConsumer
from pulse_bus.errors import BusUnavailable, PublishRefused
from pulse_bus.incoming import Incoming
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_contracts import headers, subjects
from pulse_contracts.envelope import Envelope, InvalidEnvelope, decode_envelope
from pulse_contracts.routes import Route
from pulse_router.adapters.judgements import Judgements
from pulse_router.domain.table import RouteTable, Verdict
from pulse_runtime import failpoints
from pulse_runtime.clock import Clock
from pulse_runtime.events import (
    DELIVERY_QUEUE_FULL,
    MESSAGE_ROUTED,
    MESSAGES_ROUTED,
    PUBLISH_REFUSED,
    ROUTE_FANOUT_ERROR,
    ROUTE_MATCH_ERROR,
)
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import RouterMetrics
from pulse_runtime.tracing import trace_id_of

_log = get_logger(__name__)
_TAKE: Final = 500
_REFUSED_PAUSE_S: Final = 1.0
_TABLE_PAUSE_S: Final = 30.0
"""So long a message is left alone whose tenant's table failed: an edit of its routes, or a new version, mends it."""


class Routing:
    """Routes message after message; *table* gives the routes of the moment."""

    def __init__(
        self,
        consumer: PullConsumer,
        publisher: Publisher,
        table: Callable[[], RouteTable],
        *,
        judgements: Judgements,
        metrics: RouterMetrics,
        clock: Clock,
    ) -> None:
        self._consumer = consumer
        self._publisher = publisher
        self._table = table
        self._judgements = judgements
        self._metrics = metrics
        self._clock = clock
        self.trouble: str | None = None
        """Why nothing is routed just now, or None."""

    async def run(self) -> None:
        """Route until cancelled. A batch is settled before the next is taken: DELIVERY's refusal stops everything."""
        while True:
            messages = await self._consumer.take(_TAKE)
            started = self._clock.monotonic()
            matches = sum(await asyncio.gather(*(self._route(message) for message in messages)))
            self._observe(messages, matches, self._clock.monotonic() - started)

    def _observe(self, messages: Sequence[Incoming], matches: int, seconds: float) -> None:
        self._metrics.route_seconds.observe(seconds)
        first = messages[0]
        _log.info(
            MESSAGES_ROUTED,
            messages=len(messages),
            matches=matches,
            duration_s=round(seconds, 4),
            lag_s=round(self._clock.now().timestamp() - first.stored_at_s, 4),
            trace_id=trace_id_of(first.traceparent),
        )

    async def _route(self, message: Incoming) -> int:
        """Return how many routes matched, when the message is settled."""
        try:
            envelope = decode_envelope(message.data)
            payload = _payload_of(envelope)
        except InvalidEnvelope as exc:
            # Ingest's writer quarantines it; here it only must not be lost from sight.
            self._tell_fanout_error(message, str(exc))
            self._metrics.messages_total.labels(result="error").inc()
            await message.ack()
            return 0
        try:
            verdict = self._judge(envelope, payload)
        except Exception as exc:  # noqa: BLE001 - what one tenant's table meets must not end the routing of all
            self._tell_fanout_error(message, repr(exc))
            self._metrics.messages_total.labels(result="error").inc()
            await message.nak(_TABLE_PAUSE_S)
            return 0
        if verdict.table_error:
            self._tell_fanout_error(message, verdict.table_error)
        routed_at = self._clock.now()
        outgoing = [
            delivery_of(envelope, route, message.data, routed_at, message.traceparent) for route in verdict.matched
        ]
        if outgoing:
            await self._publish(outgoing)
        self._count(envelope, verdict)
        self._judgements.note(envelope, verdict.generation)
        await message.ack()
        return len(verdict.matched)

    def _judge(self, envelope: Envelope, payload: dict[str, Any]) -> Verdict:
        table = self._table()
        verdict = table.judge(envelope, payload)
        if failpoints.enabled("router.ignore_payload_filters"):
            found = table.indexes[envelope.tenant_id].lookup(envelope.topic)
            return replace(verdict, matched=tuple(compiled.route for compiled in found))
        return verdict

    def _tell_fanout_error(self, message: Incoming, error: str) -> None:
        _log.error(
            ROUTE_FANOUT_ERROR,
            tenant_id=subjects.tenant_token(message.subject),
            subject=message.subject,
            stream_seq=message.stream_seq,
            trace_id=trace_id_of(message.traceparent),
            error=error,
        )

    async def _publish(self, outgoing: list[Outgoing]) -> None:
        """Return when every match is durable in DELIVERY; a full one stops the router until there is room."""
        while True:
            try:
                failpoints.hit("router.before_publish")
                if (
                    failpoints.enabled("router.swallow_publish_failure")
                    and outgoing[0].message_id.partition(":")[0][-1] in "02468ace"
                ):
                    return
                await self._publisher.publish(*outgoing)
            except PublishRefused as exc:
                self._note_refusal(exc)
            except BusUnavailable as exc:
                self.trouble = str(exc)
            else:
                failpoints.hit("router.after_publish")
                self.trouble = None
                return
            await self._clock.sleep(_REFUSED_PAUSE_S)

    def _note_refusal(self, refused: PublishRefused) -> None:
        """Say once why DELIVERY refuses: a batch of messages is refused again every second."""
        if refused.reason == "backlog":
            # DELIVERY refused nothing: the others of this batch, with many matches, are being committed first.
            return
        if self.trouble != str(refused):
            event = DELIVERY_QUEUE_FULL if refused.is_full else PUBLISH_REFUSED
            _log.warning(event, stream=refused.stream, reason=refused.reason, error=str(refused))
        self.trouble = str(refused)

    def _count(self, envelope: Envelope, verdict: Verdict) -> None:
        self._metrics.messages_total.labels(result="matched" if verdict.matched else "unmatched").inc()
        self._metrics.matches_total.inc(len(verdict.matched))
        for fault in verdict.faults:
            self._metrics.match_errors_total.inc()
            _log.warning(
                ROUTE_MATCH_ERROR,
                route_id=fault.route_id,
                tenant_id=envelope.tenant_id,
                message_id=envelope.message_id,
                error=fault.error,
            )
        _log.debug(
            MESSAGE_ROUTED,
            message_id=envelope.message_id,
            tenant_id=envelope.tenant_id,
            matches=len(verdict.matched),
        )


def _payload_of(envelope: Envelope) -> dict[str, Any]:
    """Return the payload parsed; raises `InvalidEnvelope`."""
    try:
        payload = json.loads(envelope.payload)
    except ValueError as exc:
        raise InvalidEnvelope(f"payload: {exc}") from exc
    if not isinstance(payload, dict):
        raise InvalidEnvelope("payload: not an object")
    return cast("dict[str, Any]", payload)


def delivery_of(
    envelope: Envelope, route: Route, data: bytes, routed_at: datetime, traceparent: str | None = None
) -> Outgoing:
    """Return the message of DELIVERY for one match; *data* is the envelope as it came, and goes on as it is."""
    fields = {
        headers.ROUTE_REVISION: str(route.revision),
        headers.ROUTED_AT: str(int(routed_at.timestamp() * 1000)),
    }
    if traceparent:
        fields[headers.TRACEPARENT] = traceparent
    return Outgoing(
        subject=subjects.delivery(route.kind, route.tenant_id, route.route_id),
        data=data,
        message_id=f"{envelope.message_id}:{route.route_id}",
        headers=fields,
    )
