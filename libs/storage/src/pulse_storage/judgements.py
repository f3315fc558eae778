"""The table ``judgements``: which generation of a tenant's routes judged which messages."""

from collections.abc import Sequence

from pulse_contracts.records import JudgementRecord
from pulse_storage.errors import translated
from pulse_storage.pool import Pool
from pulse_storage.queries import sql


async def store(pool: Pool, records: Sequence[JudgementRecord]) -> None:
    """Store judgements of any tenants. Idempotent; raises like `telemetry.store`."""
    with translated():
        await pool.executemany(sql("judgements_store"), [_row(record) for record in records])


async def prune(pool: Pool, *, older_than_days: int) -> None:
    """Forget old judgements; raises like `telemetry.store`."""
    with translated():
        await pool.execute(sql("judgements_prune"), older_than_days)


def _row(record: JudgementRecord) -> tuple[object, ...]:
    return (record.tenant_id, record.judged_at, record.judgement_id, record.generation, record.message_ids)
