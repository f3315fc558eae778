"""The table ``dead_letter_messages``: what will not be delivered, with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pulse_contracts.ids import TenantId
from pulse_contracts.records import DeadLetterRecord, clip_error
from pulse_storage.errors import translated, translated_transaction
from pulse_storage.pool import Pool, tenant_transaction
from pulse_storage.queries import sql


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterRow:
    """One dead letter, as an operator sees it."""

    message_id: str
    route_id: str
    device_id: str
    original_topic: str
    destination_type: str
    destination_config: dict[str, Any]
    reason: str
    error_message: str
    attempts: int
    status: str
    created_at: datetime
    replayed_at: datetime | None
    payload: dict[str, Any]


async def store(pool: Pool, tenant: TenantId, records: Sequence[DeadLetterRecord]) -> None:
    """Store one tenant's dead letters in that tenant's context. Idempotent; raises like `telemetry.store`."""
    with translated():
        await _store(pool, tenant, [_row(record) for record in records])


def _row(record: DeadLetterRecord) -> tuple[object, ...]:
    return (
        record.envelope.tenant_id,
        record.envelope.message_id,
        record.route_id,
        record.envelope.device_id,
        record.envelope.topic,
        record.envelope.payload.decode(),
        record.kind,
        dict(record.config),
        record.reason,
        clip_error(record.error),
        record.attempts,
        record.created_at,
    )


async def _store(pool: Pool, tenant: TenantId, rows: Sequence[tuple[object, ...]]) -> None:
    async with tenant_transaction(pool, tenant) as connection:
        await connection.executemany(sql("dead_letter_store"), rows)


async def find(pool: Pool, tenant: TenantId, *, message_id: str | None = None, most: int = 100) -> list[DeadLetterRow]:
    """Return one tenant's dead letters, newest first."""
    async with translated_transaction(pool, tenant) as connection:
        rows = await connection.fetch(sql("dead_letter_list"), message_id, most)
    return [DeadLetterRow(**dict(row)) for row in rows]
