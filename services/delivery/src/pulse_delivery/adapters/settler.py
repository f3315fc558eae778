"""Carries out dispositions. Effects always come before acks; an effect that cannot be had now is tried again."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from pulse_bus.errors import BusUnavailable, PublishRefused
from pulse_bus.incoming import Incoming
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_contracts import headers, subjects
from pulse_contracts.envelope import format_time
from pulse_contracts.ids import RouteId
from pulse_contracts.kinds import KindDescriptor
from pulse_contracts.outcome import Delivered, Failed, Outcome, Rejected
from pulse_contracts.records import AttemptRecord, DeadLetterRecord
from pulse_contracts.routes import Route
from pulse_delivery.adapters.patience import publish_patiently
from pulse_delivery.adapters.remains import UNREADABLE, remains_of
from pulse_delivery.adapters.shunts import Shunts
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.result import Result
from pulse_delivery.domain.room import Claim
from pulse_runtime import failpoints
from pulse_runtime.clock import Clock
from pulse_runtime.events import (
    ATTEMPT_RECORDS_LOST,
    DLQ_WRITE_FAILED,
    MESSAGE_UNREADABLE,
    ROUTE_ATTEMPT_FAILED,
    ROUTE_DELIVERED,
    ROUTE_DELIVERY_FAILED_DLQ,
)
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import DeliveryMetrics
from pulse_runtime.tracing import trace_id_of

_log = get_logger(__name__)
_FULL_PAUSE_S: Final = 30.0


class Settler:
    """Publishes what an outcome asks for, then acknowledges the message."""

    def __init__(
        self,
        *,
        shunts: Shunts,
        dead_letters: Publisher,
        attempts: Publisher,
        descriptors: dict[str, KindDescriptor],
        secret_fields: Callable[[RouteId], Iterable[str]],
        metrics: DeliveryMetrics,
        clock: Clock,
    ) -> None:
        self._shunts = shunts
        self._dead_letters = dead_letters
        self._attempts = attempts
        self._descriptors = descriptors
        self._secret_fields = secret_fields
        self._metrics = metrics
        self._clock = clock

    async def record(self, parcel: Parcel, route: Route, result: Result) -> None:
        """Put the attempt on record, in the log stream and as one wide line; *parcel* is as it is after it.

        A gap in the log is counted, not raised.
        """
        outcome = result.outcome
        record = AttemptRecord(
            message_id=parcel.envelope.message_id,
            tenant_id=parcel.address.tenant,
            route_id=parcel.address.route,
            revision=route.revision,
            attempt=parcel.attempts,
            outcome=_name(outcome),
            status=outcome.status,
            error=None if isinstance(outcome, Delivered) else outcome.error,
            duration_ms=round(result.took_s * 1000, 3),
            at=format_time(result.began),
        )
        self._observe(parcel, route, record)
        message_id = f"{parcel.delivery_id}:{record.at}"
        subject = subjects.attempt(parcel.address.tenant, parcel.address.route)
        try:
            await self._attempts.publish(
                Outgoing(subject=subject, data=record.encode(), message_id=message_id, headers=_trace(parcel))
            )
        except (PublishRefused, BusUnavailable) as exc:
            self._metrics.attempt_records_lost_total.inc()
            _log.warning(ATTEMPT_RECORDS_LOST, count=1, error=str(exc))

    async def shunt(self, message: Incoming, parcel: Parcel, route: Route | None, reason: str) -> None:
        """Move the message to the siding, behind the others of its route, then acknowledge.

        The route is troubled from the moment this is called. Without room there it becomes a dead letter.
        """
        if message.has_lapsed:
            # Another process has it, and may have delivered it.
            message.abandon()
            return
        no_room = await self._shunts.put(message, parcel, reason)
        if no_room is None:
            await message.ack()
            return
        self._metrics.siding_full_total.labels(bound=no_room.bound).inc()
        await self.dead_letter(message, parcel, route, "siding_full", no_room.error)

    async def move_to_tail(self, message: Incoming, parcel: Parcel, reason: str) -> bool:
        """Move the head of a siding to its tail, then acknowledge; False if the server has no room for both.

        Then the message is still the caller's to settle: a move is no reason for a dead letter.
        """
        if message.has_lapsed:
            message.abandon()
            return True
        if await self._shunts.put(message, parcel, reason, Claim.MOVE):
            return False
        await message.ack()
        return True

    async def dead_letter(
        self, message: Incoming, parcel: Parcel, route: Route | None, reason: str, error: str
    ) -> None:
        """Publish a dead letter, then acknowledge.

        With no room for it the message waits in its route's siding, and is judged again there. In DELIVERY, held or
        given back, it would count against what may be pulled for everybody: that comes last.
        """
        if message.has_lapsed:
            # Another process has it, and may have delivered it.
            message.abandon()
            return
        if await self.publish_dead_letter(parcel, route, reason, error) or await self._waits_in_siding(message, parcel):
            await message.ack()
        else:
            await message.nak(_FULL_PAUSE_S)

    async def bury_of_deleted(self, message: Incoming, parcel: Parcel, route: Route) -> None:
        """Make a dead letter of a message whose route was deleted, then acknowledge."""
        await self.dead_letter(message, parcel, route, "route_deleted", "the route was deleted")

    async def bury_unreadable(self, message: Incoming, error: str) -> None:
        """Make a dead letter of a message that nobody here can read, all its bytes in it, then acknowledge.

        Given back instead, it would be in the way for good: of its route in the siding, of the reaper in DELIVERY.
        """
        parcel = remains_of(message.subject, message.data, message.headers, self._clock.now())
        note_unreadable(message.subject, message.stream_seq, error)
        await self.dead_letter(message, parcel, None, UNREADABLE, error)

    async def _waits_in_siding(self, message: Incoming, parcel: Parcel) -> bool:
        address = parcel.address
        if message.subject == subjects.siding(address.kind, address.tenant, address.route):
            return False
        return not await self._shunts.put(message, parcel, "dead_letters_full", Claim.OVERDRAFT)

    async def publish_dead_letter(self, parcel: Parcel, route: Route | None, reason: str, error: str) -> bool:
        """Return True when the dead letter is durable in its stream, False when there is no room for it there."""
        address = parcel.address
        descriptor = self._descriptors.get(address.kind)
        secret = self._secret_fields(address.route)
        config = descriptor.masked(route.config, secret) if descriptor and route else {}
        record = DeadLetterRecord(
            route_id=address.route,
            kind=address.kind,
            config=config,
            reason=reason,
            error=f"{reason}: {error}",
            attempts=parcel.attempts,
            created_at=self._clock.now(),
            envelope=parcel.envelope,
        )
        failpoints.hit("delivery.before_dead_letter")
        drops = failpoints.enabled("delivery.drop_dead_letter")
        if not drops and (refused := await self._commit(parcel, record)):
            _log.error(
                DLQ_WRITE_FAILED,
                route_id=address.route,
                message_id=parcel.envelope.message_id,
                trace_id=trace_id_of(parcel.traceparent),
                error=str(refused),
            )
            return False
        failpoints.hit("delivery.after_dead_letter")
        self._metrics.dead_letters_total.labels(reason=reason).inc()
        _log.info(
            ROUTE_DELIVERY_FAILED_DLQ,
            route_id=address.route,
            tenant_id=address.tenant,
            message_id=parcel.envelope.message_id,
            trace_id=trace_id_of(parcel.traceparent),
            destination=destination_of(route),
            error=error,
            reason=reason,
        )
        return True

    async def _commit(self, parcel: Parcel, record: DeadLetterRecord) -> PublishRefused | None:
        outgoing = Outgoing(
            subject=subjects.dead_letter(parcel.address.tenant, parcel.address.route),
            data=record.encode(),
            message_id=f"{parcel.delivery_id}:dlq",
            headers=_trace(parcel),
        )
        refused = await publish_patiently(self._dead_letters, outgoing, self._clock)
        if refused and refused.is_final:
            # No waiting makes it smaller, and where it stands it is in the way.
            outgoing = replace(outgoing, data=record.cut().encode())
            return await publish_patiently(self._dead_letters, outgoing, self._clock)
        return refused

    def _observe(self, parcel: Parcel, route: Route, record: AttemptRecord) -> None:
        kind = parcel.address.kind
        self._metrics.attempts_total.labels(kind=kind, outcome=record.outcome).inc()
        self._metrics.attempt_seconds.labels(kind=kind).observe(record.duration_ms / 1000)
        fields = {
            "route_id": record.route_id,
            "tenant_id": record.tenant_id,
            "message_id": record.message_id,
            "trace_id": trace_id_of(parcel.traceparent),
            "destination": destination_of(route),
            "attempt": record.attempt,
            "status": record.status,
            "duration_ms": record.duration_ms,
        }
        if record.outcome == "delivered":
            age = (self._clock.now() - parcel.envelope.received_at).total_seconds()
            self._metrics.end_to_end_seconds.labels(kind=kind).observe(max(age, 0.0))
            _log.info(ROUTE_DELIVERED, **fields)
        else:
            _log.info(ROUTE_ATTEMPT_FAILED, **fields, error=record.error)


def note_unreadable(subject: str, stream_seq: int, error: str) -> None:
    """Name an unreadable message in the log."""
    _log.error(MESSAGE_UNREADABLE, subject=subject, stream_seq=stream_seq, error=error)


def destination_of(route: Route | None) -> str:
    """Name a destination for the log: of a URL only the origin, for path and query are often secret."""
    if route is None:
        return "unknown"
    if isinstance(url := route.config.get("url"), str):
        return "/".join(url.split("/", 3)[:3])
    return str(route.config.get("topic") or route.config.get("subject") or route.kind)


def _trace(parcel: Parcel) -> dict[str, str]:
    return {headers.TRACEPARENT: parcel.traceparent} if parcel.traceparent else {}


def _name(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case Failed():
            return "failed"
        case Rejected():
            return "rejected"
