"""The writer of the delivery log. ATTEMPT is a log with a bound: what cannot be stored is counted and let go."""

from collections.abc import Sequence
from typing import Final

from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_bus.writer import BatchWriter, Entry
from pulse_contracts.records import AttemptRecord
from pulse_runtime.clock import Clock
from pulse_runtime.events import ATTEMPT_RECORDS_LOST, RECORDS_STORED
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import DeliveryMetrics
from pulse_storage import delivery_log
from pulse_storage.pool import Pool

_log = get_logger(__name__)
_LINGER_S: Final = 0.5
"""Nobody waits for this log: it commits seldom, for the disk is everybody's."""


def delivery_log_writer(
    consumer: PullConsumer, pool: Pool, metrics: DeliveryMetrics, clock: Clock
) -> BatchWriter[AttemptRecord]:
    """Return the writer."""

    async def store(entries: Sequence[Entry[AttemptRecord]]) -> None:
        await delivery_log.store(pool, [entry.record for entry in entries])
        lag_s = round(clock.now().timestamp() - entries[0].message.stored_at_s, 4)
        _log.info(RECORDS_STORED, table="delivery_log", rows=len(entries), lag_s=lag_s)

    async def let_go(message: Incoming, error: str) -> None:
        metrics.attempt_records_lost_total.inc()
        _log.error(ATTEMPT_RECORDS_LOST, count=1, stream_seq=message.stream_seq, error=error)
        await message.ack()

    return BatchWriter(
        consumer, decode=AttemptRecord.decode, store=store, last_resort=let_go, clock=clock, linger_s=_LINGER_S
    )
