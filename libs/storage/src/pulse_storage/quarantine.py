"""The table ``quarantine``: what devices sent but could not be accepted."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from pulse_contracts.records import QuarantineRecord
from pulse_storage.errors import translated
from pulse_storage.pool import Pool
from pulse_storage.queries import sql

_NAMESPACE = uuid.UUID("1f0e6e0a-5c11-4c8e-8e6a-0d0c6a7e5b52")


async def store(pool: Pool, records: Sequence[tuple[int, QuarantineRecord]]) -> None:
    """Store records, each with its sequence in the stream, so that a redelivery is no second row.

    Raises like `telemetry.store`.
    """
    with translated():
        await pool.executemany(sql("quarantine_store"), [_row(sequence, record) for sequence, record in records])


def _row(sequence: int, record: QuarantineRecord) -> tuple[object, ...]:
    return (
        record.tenant_id,
        uuid.uuid5(_NAMESPACE, f"{sequence}:{record.received_at}:{record.topic}"),
        record.topic.replace("\x00", "�"),
        record.reason,
        record.error,
        record.payload,
        datetime.fromisoformat(record.received_at),
    )
