"""The dead-letter writer: one transaction a tenant, in that tenant's context."""

from collections import defaultdict
from collections.abc import Sequence

from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_bus.writer import BatchWriter, Entry
from pulse_contracts.ids import TenantId
from pulse_contracts.records import DeadLetterRecord
from pulse_contracts.storing import StorageUnavailable
from pulse_delivery.adapters.remains import UNREADABLE, remains_of
from pulse_runtime import failpoints
from pulse_runtime.clock import Clock
from pulse_runtime.events import DLQ_WRITE_FAILED, DLQ_WRITTEN, MESSAGE_UNREADABLE
from pulse_runtime.logging import get_logger
from pulse_runtime.tracing import trace_id_of
from pulse_storage import dead_letters
from pulse_storage.pool import Pool

_log = get_logger(__name__)
_UNSTORED_PAUSE_S = 60.0


def dead_letter_writer(consumer: PullConsumer, pool: Pool, clock: Clock) -> BatchWriter[DeadLetterRecord]:
    """Return the writer. Of a record that it cannot store it stores the remains: all bytes, the reason *unreadable*.

    Given back instead, records would be unacknowledged for good, and 2,000 of them stop this writer for everybody.
    """

    async def store(entries: Sequence[Entry[DeadLetterRecord]]) -> None:
        by_tenant: defaultdict[TenantId, list[Entry[DeadLetterRecord]]] = defaultdict(list)
        for entry in entries:
            by_tenant[entry.record.envelope.tenant_id].append(entry)
        for tenant, owned in by_tenant.items():
            records, trace_id = [entry.record for entry in owned], trace_id_of(owned[0].message.traceparent)
            try:
                await dead_letters.store(pool, tenant, records)
            except StorageUnavailable as exc:
                _log.error(
                    DLQ_WRITE_FAILED,
                    tenant_id=tenant,
                    route_id=records[0].route_id,
                    rows=len(records),
                    trace_id=trace_id,
                    error=str(exc),
                )
                raise
            failpoints.hit("delivery.after_dead_letter_store")
            _log.info(DLQ_WRITTEN, tenant_id=tenant, rows=len(records), trace_id=trace_id)

    def remains(message: Incoming, error: str) -> DeadLetterRecord:
        _log.error(MESSAGE_UNREADABLE, subject=message.subject, stream_seq=message.stream_seq, error=error)
        parcel = remains_of(message.subject, message.data, message.headers, clock.now())
        return DeadLetterRecord(
            route_id=parcel.address.route,
            kind=parcel.address.kind,
            config={},
            reason=UNREADABLE,
            error=f"{UNREADABLE}: {error}",
            attempts=0,
            created_at=clock.now(),
            envelope=parcel.envelope,
        )

    async def keep(message: Incoming, error: str) -> None:
        _log.error(DLQ_WRITE_FAILED, subject=message.subject, stream_seq=message.stream_seq, error=error)
        await message.nak(_UNSTORED_PAUSE_S)

    return BatchWriter(
        consumer, decode=DeadLetterRecord.decode, store=store, stand_in=remains, last_resort=keep, clock=clock
    )
