"""The table ``tenants``: the operator's own list."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from pulse_contracts.ids import TenantId
from pulse_storage.errors import translated, translated_transaction
from pulse_storage.pool import Pool
from pulse_storage.queries import sql


class TenantExists(Exception):
    """The tenant id is taken."""

    def __init__(self, tenant: TenantId) -> None:
        self.tenant = tenant
        super().__init__(f"tenant {tenant!r} exists already")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRow:
    """One tenant, as the operator sees it."""

    tenant_id: TenantId
    name: str
    created_at: datetime


async def create(pool: Pool, tenant: TenantId, *, name: str, key_sha256: bytes, key_bcrypt: str, actor: str) -> None:
    """Insert a tenant with the hashes of its ingest key; raises `TenantExists`."""
    async with translated_transaction(pool, tenant) as connection:
        try:
            await connection.execute(
                "INSERT INTO tenants (tenant_id, name, ingest_key_sha256, ingest_key_bcrypt) VALUES ($1, $2, $3, $4)",
                tenant,
                name,
                key_sha256,
                key_bcrypt,
            )
        except asyncpg.UniqueViolationError as exc:
            raise TenantExists(tenant) from exc
        await connection.execute(sql("admin_log_add"), tenant, actor, "tenant.create", tenant)


async def list_all(pool: Pool) -> list[TenantRow]:
    """Return every tenant by id."""
    with translated():
        rows = await pool.fetch("SELECT tenant_id, name, created_at FROM tenants ORDER BY tenant_id")
    return [TenantRow(**dict(row)) for row in rows]


async def login_hashes(pool: Pool) -> dict[TenantId, str]:
    """Return the bcrypt hash of each tenant's ingest key, for the embedded MQTT listener."""
    with translated():
        rows = await pool.fetch("SELECT tenant_id, ingest_key_bcrypt FROM tenants")
    return {TenantId(row["tenant_id"]): row["ingest_key_bcrypt"] for row in rows}
