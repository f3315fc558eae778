"""The table ``delivery_log``: one row an attempt."""

from collections.abc import Sequence
from datetime import datetime

from pulse_contracts.records import AttemptRecord
from pulse_storage.errors import translated
from pulse_storage.pool import Pool
from pulse_storage.queries import sql


async def store(pool: Pool, records: Sequence[AttemptRecord]) -> None:
    """Store attempts of any tenants. Idempotent; raises like `telemetry.store`."""
    with translated():
        await pool.executemany(sql("delivery_log_store"), [_row(record) for record in records])


async def prune(pool: Pool, *, older_than_days: int) -> None:
    """Forget old attempts; raises like `telemetry.store`."""
    with translated():
        await pool.execute(sql("delivery_log_prune"), older_than_days)


def _row(record: AttemptRecord) -> tuple[object, ...]:
    return (
        record.tenant_id,
        record.message_id,
        record.route_id,
        record.attempt,
        record.revision,
        record.outcome,
        record.status,
        record.error,
        record.duration_ms,
        datetime.fromisoformat(record.at),
    )
