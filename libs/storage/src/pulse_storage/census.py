"""Counting one tenant's rows, for ledgers: what was stored, quarantined and dead-lettered."""

from dataclasses import dataclass

from pulse_contracts.ids import TenantId
from pulse_storage.pool import Pool, tenant_transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """One tenant's rows."""

    stored: dict[str, int]
    """Rows of telemetry by message id; more than one would be a broken promise."""
    quarantined: int
    dead_lettered: frozenset[tuple[str, str]]
    """Message id and route id."""


async def count(pool: Pool, tenant: TenantId) -> Census:
    """Count in the tenant's own context, in one snapshot a table."""
    async with tenant_transaction(pool, tenant) as connection:
        stored = await connection.fetch("SELECT message_id::text AS id, count(*) AS rows FROM telemetry GROUP BY 1")
        quarantined: int = await connection.fetchval("SELECT count(*) FROM quarantine")
        dead = await connection.fetch(
            "SELECT message_id::text AS id, route_id::text AS route FROM dead_letter_messages"
        )
    return Census(
        stored={row["id"]: row["rows"] for row in stored},
        quarantined=quarantined,
        dead_lettered=frozenset((row["id"], row["route"]) for row in dead),
    )
