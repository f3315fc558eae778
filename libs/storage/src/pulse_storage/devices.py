"""The table ``devices``: who may send, known by hashes of their tokens only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from pulse_contracts.ids import DeviceId, TenantId
from pulse_storage.errors import translated, translated_transaction
from pulse_storage.pool import Connection, Pool
from pulse_storage.queries import sql

CHANNEL = "pulse_devices"


class DeviceExists(Exception):
    """The device id is taken within the tenant."""

    def __init__(self, device: str) -> None:
        self.device = device
        super().__init__(f"device {device!r} exists already")


class DeviceRevoked(Exception):
    """The device was revoked, and a new token alone does not let it in again."""

    def __init__(self, device: str) -> None:
        self.device = device
        super().__init__(f"device {device!r} was revoked")


class UnknownTenant(Exception):
    """There is no such tenant."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        super().__init__(f"there is no tenant {tenant!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHashes:
    """What is kept of a device's token: a digest for HTTP, a bcrypt hash for MQTT brokers."""

    device_id: DeviceId
    sha256: bytes
    bcrypt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A digest and whom it lets in: a device, or with no device the tenant's ingest key."""

    sha256: bytes
    tenant_id: TenantId
    device_id: DeviceId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One device, as the operator sees it."""

    tenant_id: TenantId
    device_id: DeviceId
    created_at: datetime
    revoked_at: datetime | None


async def create(pool: Pool, tenant: TenantId, devices: Sequence[TokenHashes], actor: str) -> None:
    """Insert devices, all or none; raises `DeviceExists` or `UnknownTenant`."""
    async with translated_transaction(pool, tenant) as connection:
        for device in devices:
            try:
                await connection.execute(
                    "INSERT INTO devices (tenant_id, device_id, token_sha256, token_bcrypt) VALUES ($1, $2, $3, $4)",
                    tenant,
                    device.device_id,
                    device.sha256,
                    device.bcrypt,
                )
            except asyncpg.UniqueViolationError as exc:
                raise DeviceExists(device.device_id) from exc
            except asyncpg.ForeignKeyViolationError as exc:
                raise UnknownTenant(tenant) from exc
            await connection.execute(sql("admin_log_add"), tenant, actor, "device.create", device.device_id)


async def rotate(pool: Pool, tenant: TenantId, device: TokenHashes, actor: str, *, reinstate: bool = False) -> bool:
    """Replace a device's token; False if there is no such device.

    Raises `DeviceRevoked`, unless a revoked one is to be reinstated.
    """
    async with translated_transaction(pool, tenant) as connection:
        revoked: bool | None = await connection.fetchval(
            sql("device_rotate"), tenant, device.device_id, device.sha256, device.bcrypt, reinstate
        )
        if revoked is None:
            return False
        if revoked and not reinstate:
            raise DeviceRevoked(device.device_id)
        action = "device.reinstate" if revoked else "device.rotate"
        await connection.execute(sql("admin_log_add"), tenant, actor, action, device.device_id)
    return True


async def revoke(pool: Pool, tenant: TenantId, device: DeviceId, actor: str) -> bool:
    """Refuse a device from now on; False if there is no such device."""
    async with translated_transaction(pool, tenant) as connection:
        result = await connection.execute(
            "UPDATE devices SET revoked_at = now() WHERE tenant_id = $1 AND device_id = $2", tenant, device
        )
        if result != "UPDATE 1":
            return False
        await connection.execute(sql("admin_log_add"), tenant, actor, "device.revoke", device)
    return True


async def list_of_tenant(pool: Pool, tenant: TenantId) -> list[DeviceRow]:
    """Return one tenant's devices by id."""
    async with translated_transaction(pool, tenant) as connection:
        rows = await connection.fetch(
            "SELECT tenant_id, device_id, created_at, revoked_at FROM devices ORDER BY device_id"
        )
    return [DeviceRow(**dict(row)) for row in rows]


async def login_hashes(pool: Pool, tenant: TenantId) -> dict[DeviceId, str]:
    """Return the bcrypt hash of each device of the tenant that may log in."""
    async with translated_transaction(pool, tenant) as connection:
        rows = await connection.fetch("SELECT device_id, token_bcrypt FROM devices WHERE revoked_at IS NULL")
    return {DeviceId(row["device_id"]): row["token_bcrypt"] for row in rows}


async def find_credential(pool: Pool, sha256: bytes) -> Credential | None:
    """Return the valid credential with this digest, if there is one; raises `StorageUnavailable`."""
    with translated():
        row = await pool.fetchrow(sql("credential_find"), sha256)
    return _credential(row) if row else None


async def is_active(pool: Pool, tenant: TenantId, device: DeviceId) -> bool:
    """Whether there is such a device that is not revoked; raises `StorageUnavailable`. For ingest's machine role."""
    with translated():
        found = await pool.fetchval(
            "SELECT true FROM devices WHERE tenant_id = $1 AND device_id = $2 AND revoked_at IS NULL", tenant, device
        )
    return bool(found)


async def credentials(connection: Connection) -> list[Credential]:
    """Return every credential that is valid now, of every tenant."""
    devices = await connection.fetch("SELECT tenant_id, device_id, token_sha256 FROM devices WHERE revoked_at IS NULL")
    keys = await connection.fetch("SELECT tenant_id, NULL AS device_id, ingest_key_sha256 AS token_sha256 FROM tenants")
    return [_credential(row) for row in (*devices, *keys)]


def _credential(row: asyncpg.Record) -> Credential:
    return Credential(sha256=row["token_sha256"], tenant_id=row["tenant_id"], device_id=row["device_id"])
