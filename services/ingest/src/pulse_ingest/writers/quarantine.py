"""The writer of ``quarantine``."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_bus.writer import BatchWriter, Entry
from pulse_contracts.ids import TenantId
from pulse_contracts.records import QuarantineRecord, clip_error
from pulse_contracts.subjects import tenant_token
from pulse_contracts.tokens import InvalidToken, decode_token
from pulse_runtime.clock import Clock
from pulse_runtime.events import MESSAGE_UNREADABLE, RECORDS_STORED
from pulse_runtime.logging import get_logger
from pulse_storage import quarantine
from pulse_storage.pool import Pool

_log = get_logger(__name__)
_UNSTORED_PAUSE_S = 60.0


def quarantine_writer(consumer: PullConsumer, pool: Pool, clock: Clock) -> BatchWriter[QuarantineRecord]:
    """Return the writer. Of a record that it cannot store it stores the bytes, with the reason *unreadable*.

    Given back instead, records would be unacknowledged for good, and 2,000 of them stop this writer for everybody.
    """

    async def store(entries: Sequence[Entry[QuarantineRecord]]) -> None:
        await quarantine.store(pool, [(entry.message.stream_seq, entry.record) for entry in entries])
        lag_s = round(clock.now().timestamp() - entries[0].message.stored_at_s, 4)
        _log.info(RECORDS_STORED, table="quarantine", rows=len(entries), lag_s=lag_s)

    def remains(message: Incoming, error: str) -> QuarantineRecord:
        _log.error(MESSAGE_UNREADABLE, subject=message.subject, stream_seq=message.stream_seq, error=error)
        return QuarantineRecord(
            tenant_id=tenant_of(message.subject),
            topic=message.subject,
            reason="unreadable",
            error=clip_error(error),
            payload=message.data,
            received_at=datetime.fromtimestamp(message.stored_at_s, UTC).isoformat(),
        )

    async def keep(message: Incoming, error: str) -> None:
        _log.error("quarantine_write_failed", subject=message.subject, stream_seq=message.stream_seq, error=error)
        await message.nak(_UNSTORED_PAUSE_S)

    return BatchWriter(
        consumer, decode=QuarantineRecord.decode, store=store, stand_in=remains, last_resort=keep, clock=clock
    )


def tenant_of(subject: str) -> TenantId:
    """Return the tenant that one of our subjects names, ``unknown`` if it names none."""
    try:
        return TenantId(decode_token(tenant_token(subject)))
    except InvalidToken:
        return TenantId("unknown")
