"""Connections to PostgreSQL, and the context that a tenant's statements run in."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from pulse_contracts.ids import TenantId

Pool = asyncpg.Pool
Connection = asyncpg.Connection | PoolConnectionProxy

_COMMAND_TIMEOUT_S: Final = 30.0
_CONNECT_TIMEOUT_S: Final = 5.0

UNAVAILABLE: Final = (
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""Errors that say nothing about the data: the same statement may succeed later."""


@asynccontextmanager
async def open_pool(dsn: str, *, service: str, max_size: int = 4) -> AsyncGenerator[Pool, None]:
    """Yield a pool that connects when first used, so that a service can start while PostgreSQL is down."""
    pool = asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=max_size,
        command_timeout=_COMMAND_TIMEOUT_S,
        timeout=_CONNECT_TIMEOUT_S,
        init=_prepare_connection,
        server_settings={"application_name": f"pulse-{service}"},
    )
    await pool
    try:
        yield pool
    finally:
        pool.terminate()


@asynccontextmanager
async def connect(
    dsn: str, *, service: str, command_timeout_s: float | None = _COMMAND_TIMEOUT_S
) -> AsyncGenerator[asyncpg.Connection, None]:
    """Yield one connection of one's own, for LISTEN and for migrations."""
    connection = await asyncpg.connect(
        dsn,
        timeout=_CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        server_settings={"application_name": f"pulse-{service}"},
    )
    try:
        await _prepare_connection(connection)
        yield connection
    finally:
        await asyncio.shield(_close(connection))


@asynccontextmanager
async def tenant_transaction(pool: Pool, tenant: TenantId) -> AsyncGenerator[Connection, None]:
    """Yield a transaction that sees and writes this tenant's rows only (row security, ADR 0007)."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
        yield connection


async def _prepare_connection(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_encode_json, decoder=json.loads)


def _encode_json(value: object) -> str:
    """Encode a value; text is taken as JSON already, because payloads travel as the device sent them."""
    return value if isinstance(value, str) else json.dumps(value)


async def _close(connection: asyncpg.Connection) -> None:
    try:
        async with asyncio.timeout(2):
            await connection.close()
    except UNAVAILABLE:
        connection.terminate()
