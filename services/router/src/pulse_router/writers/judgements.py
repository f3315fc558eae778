"""The writer of ``judgements``. It is a log with a bound: what cannot be stored is counted and let go."""

from collections.abc import Sequence
from typing import Final

from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_bus.writer import BatchWriter, Entry
from pulse_contracts.records import JudgementRecord
from pulse_runtime.clock import Clock
from pulse_runtime.events import JUDGEMENT_RECORDS_LOST, RECORDS_STORED
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import RouterMetrics
from pulse_storage import judgements
from pulse_storage.pool import Pool

_log = get_logger(__name__)
_LINGER_S: Final = 0.5
"""Nobody waits for this log: it commits seldom, for the disk is everybody's."""


def judgement_writer(
    consumer: PullConsumer, pool: Pool, metrics: RouterMetrics, clock: Clock
) -> BatchWriter[JudgementRecord]:
    """Return the writer."""

    async def store(entries: Sequence[Entry[JudgementRecord]]) -> None:
        await judgements.store(pool, [entry.record for entry in entries])
        lag_s = round(clock.now().timestamp() - entries[0].message.stored_at_s, 4)
        _log.info(RECORDS_STORED, table="judgements", rows=len(entries), lag_s=lag_s)

    async def let_go(message: Incoming, error: str) -> None:
        metrics.judgement_records_lost_total.inc()
        _log.error(JUDGEMENT_RECORDS_LOST, count=1, stream_seq=message.stream_seq, error=error)
        await message.ack()

    return BatchWriter(
        consumer, decode=JudgementRecord.decode, store=store, last_resort=let_go, clock=clock, linger_s=_LINGER_S
    )
