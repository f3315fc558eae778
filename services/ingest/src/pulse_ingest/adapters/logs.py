"""The logs of intake, on JetStream."""

import asyncio
import hashlib

from pulse_bus.errors import BusUnavailable, PublishRefused
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_contracts import headers, subjects
from pulse_contracts.envelope import Envelope
from pulse_contracts.records import QuarantineRecord
from pulse_ingest.domain.ports import Busy, Receipt
from pulse_runtime import failpoints
from pulse_runtime.events import PUBLISH_REFUSED
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import IngestMetrics

_log = get_logger(__name__)
_LATE_S = 0.1


class JetStreamTelemetryLog:
    """Commits envelopes to TELEMETRY."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._late: set[asyncio.Task[Receipt | Busy]] = set()

    async def commit(self, envelope: Envelope) -> Receipt | Busy:
        fields = {headers.TRACEPARENT: envelope.traceparent} if envelope.traceparent else {}
        message = Outgoing(
            subject=subjects.telemetry(envelope.tenant_id, envelope.device_id, envelope.type),
            data=envelope.encode(),
            message_id=envelope.message_id,
            headers=fields,
        )
        if failpoints.enabled("ingest.ack_before_commit"):
            self._late.add(asyncio.create_task(self._commit_late(message)))
            return Receipt(duplicate=False)
        return await self._commit(message)

    async def _commit_late(self, message: Outgoing) -> Receipt | Busy:
        """The planted bug that a ledger must find: the sender was acknowledged before this."""
        await asyncio.sleep(_LATE_S)
        return await self._commit(message)

    async def _commit(self, message: Outgoing) -> Receipt | Busy:
        failpoints.hit("ingest.before_commit")
        try:
            [committed] = await self._publisher.publish(message)
        except (PublishRefused, BusUnavailable) as exc:
            _log.warning(PUBLISH_REFUSED, stream="TELEMETRY", reason=str(exc))
            return Busy(reason="the telemetry log does not take messages just now")
        failpoints.hit("ingest.after_commit")
        return Receipt(duplicate=committed.duplicate)


class JetStreamQuarantineLog:
    """Commits quarantine records to QUARANTINE, as far as the tenant's budget there goes."""

    def __init__(self, publisher: Publisher, metrics: IngestMetrics) -> None:
        self._publisher = publisher
        self._metrics = metrics

    async def commit(self, record: QuarantineRecord) -> Receipt | Busy:
        self._metrics.quarantined_total.labels(reason=record.reason).inc()
        data = record.encode()
        message = Outgoing(
            subject=subjects.quarantine(record.tenant_id), data=data, message_id=hashlib.sha256(data).hexdigest()
        )
        failpoints.hit("ingest.before_quarantine")
        try:
            await self._publisher.publish(message)
        except PublishRefused as exc:
            if exc.is_full:
                # The one stated exception of promise 2: a subscriber cannot refuse, and the budget is spent.
                self._metrics.quarantine_overflow_total.inc()
                return Receipt(duplicate=False)
            return Busy(reason=str(exc))
        except BusUnavailable as exc:
            return Busy(reason=str(exc))
        failpoints.hit("ingest.after_quarantine")
        return Receipt(duplicate=False)
