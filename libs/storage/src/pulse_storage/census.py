"""Reading one tenant's rows, for ledgers: what was stored, quarantined and dead-lettered."""

from collections.abc import Sequence
from dataclasses import dataclass

from pulse_contracts.ids import TenantId
from pulse_storage.pool import Pool, tenant_transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedRow:
    """One row of telemetry."""

    message_id: str
    topic: str
    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRow:
    """One row of quarantine."""

    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """One tenant's rows."""

    stored: Sequence[CountedRow]
    """More than one of a message would be a broken promise."""
    quarantined: Sequence[QuarantinedRow]
    dead_lettered: frozenset[tuple[str, str]]
    """Message id and route id."""


async def read(pool: Pool, tenant: TenantId) -> Census:
    """Read everything that the tenant's own context shows, in one snapshot a table."""
    async with tenant_transaction(pool, tenant) as connection:
        stored = await connection.fetch("SELECT message_id::text, topic, payload::text FROM telemetry")
        quarantined = await connection.fetch("SELECT reason, payload FROM quarantine")
        dead = await connection.fetch("SELECT message_id::text, route_id::text FROM dead_letter_messages")
    return Census(
        stored=[CountedRow(**row) for row in stored],
        quarantined=[QuarantinedRow(**row) for row in quarantined],
        dead_lettered=frozenset((row["message_id"], row["route_id"]) for row in dead),
    )
