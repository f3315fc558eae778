"""The writer of ``quarantine``."""

from collections.abc import Sequence

from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_bus.writer import BatchWriter, Entry
from pulse_contracts.records import QuarantineRecord
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger
from pulse_storage import quarantine
from pulse_storage.pool import Pool

_log = get_logger(__name__)
_UNSTORED_PAUSE_S = 60.0


def quarantine_writer(consumer: PullConsumer, pool: Pool, clock: Clock) -> BatchWriter[QuarantineRecord]:
    """Return the writer. What it cannot store stays in the stream, is offered again, and is named in the log."""

    async def store(entries: Sequence[Entry[QuarantineRecord]]) -> None:
        await quarantine.store(pool, [(entry.message.stream_seq, entry.record) for entry in entries])

    async def keep(message: Incoming, error: str) -> None:
        _log.error("quarantine_write_failed", subject=message.subject, stream_seq=message.stream_seq, error=error)
        await message.nak(_UNSTORED_PAUSE_S)

    return BatchWriter(consumer, decode=QuarantineRecord.decode, store=store, last_resort=keep, clock=clock)
