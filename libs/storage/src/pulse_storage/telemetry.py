"""The table ``telemetry``: batches of envelopes, stored once."""

from collections.abc import Sequence

from pulse_contracts.envelope import Envelope
from pulse_storage.errors import translated
from pulse_storage.pool import Pool
from pulse_storage.queries import sql

_COLUMNS = ("tenant_id", "device_id", "time", "message_id", "type", "topic", "payload", "received_at", "supplied")


async def store(pool: Pool, envelopes: Sequence[Envelope]) -> int:
    """Store *envelopes* in one transaction and return how many rows are new.

    Idempotent. Raises `StorageUnavailable` or `DataRefused`; in both cases nothing of the batch is stored.
    """
    with translated():
        return await _store(pool, [_record(envelope) for envelope in envelopes])


def _record(envelope: Envelope) -> tuple[object, ...]:
    return (
        envelope.tenant_id,
        envelope.device_id,
        envelope.time,
        envelope.message_id,
        envelope.type,
        envelope.topic,
        envelope.payload.decode(),
        envelope.received_at,
        envelope.supplied_id,
    )


async def _store(pool: Pool, records: Sequence[tuple[object, ...]]) -> int:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(sql("telemetry_staging"))
        await connection.copy_records_to_table("incoming_telemetry", records=records, columns=_COLUMNS)
        result = await connection.execute(sql("telemetry_store"))
    return int(result.rpartition(" ")[2])


async def ensure_partitions(pool: Pool, *, days_ahead: int) -> int:
    """Make the daily partitions up to *days_ahead*; returns how many were missing."""
    with translated():
        return await pool.fetchval("SELECT ensure_telemetry_partitions($1)", days_ahead)


async def default_partition_rows(pool: Pool) -> int:
    """Return how many rows lie in the default partition, because their day has none; counted up to 100,000."""
    with translated():
        return await pool.fetchval("SELECT telemetry_default_rows()")


async def prune_message_ids(pool: Pool, *, older_than_days: int) -> None:
    """Forget supplied ids stored longer ago: a re-send after that is a new message."""
    with translated():
        await pool.execute(sql("message_ids_prune"), older_than_days)
