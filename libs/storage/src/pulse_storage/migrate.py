"""Ordered SQL migrations under an advisory lock: any number of processes may call this at once."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import asyncpg

from pulse_storage.errors import translated
from pulse_storage.pool import connect

_LOCK: Final = 0x50756C7365  # "Pulse"
SERVICE_ROLES: Final = ("pulse_ingest", "pulse_router", "pulse_delivery", "pulse_control")


class MigrationChanged(Exception):
    """A migration that was applied earlier reads differently now: history must not be edited."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"migration {name} was applied with another content")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file of ``migrations/``."""

    name: str
    statements: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.statements.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return all migrations in the order of their numbers."""
    folder = files("pulse_storage") / "migrations"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return [
        Migration(name=entry.name.removesuffix(".sql"), statements=entry.read_text())
        for entry in sorted(found, key=lambda entry: entry.name)
    ]


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing, each migration in its own transaction; returns the names applied.

    The role of *dsn* must be able to create roles: raises `AccessDenied` or, for any other fault, as `translated` does.
    Raises `MigrationChanged` before anything is applied.
    """
    with translated():
        return await _migrate(dsn)


async def _migrate(dsn: str) -> list[str]:
    async with connect(dsn, service="migrate", command_timeout_s=None) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        try:
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS pulse_migrations (name text PRIMARY KEY, checksum text NOT NULL, "
                "applied_at timestamptz NOT NULL DEFAULT now())"
            )
            return [migration.name for migration in await _missing(connection) if await _apply(connection, migration)]
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def set_passwords(dsn: str, passwords: dict[str, str]) -> None:
    """Let service roles log in with these passwords, by role name."""
    with translated():
        await _set_passwords(dsn, passwords)


async def _set_passwords(dsn: str, passwords: dict[str, str]) -> None:
    async with connect(dsn, service="migrate") as connection:
        for role, password in passwords.items():
            # ALTER ROLE takes no parameters: the server quotes the literal for us.
            statement = await connection.fetchval(
                "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)", role, password
            )
            await connection.execute(statement)


async def _missing(connection: asyncpg.Connection) -> list[Migration]:
    rows = await connection.fetch("SELECT name, checksum FROM pulse_migrations")
    applied = {row["name"]: row["checksum"] for row in rows}
    missing: list[Migration] = []
    for migration in migrations():
        if migration.name not in applied:
            missing.append(migration)
        elif applied[migration.name] != migration.checksum:
            raise MigrationChanged(migration.name)
    return missing


async def _apply(connection: asyncpg.Connection, migration: Migration) -> bool:
    async with connection.transaction():
        await connection.execute(migration.statements)
        await connection.execute(
            "INSERT INTO pulse_migrations (name, checksum) VALUES ($1, $2)", migration.name, migration.checksum
        )
    return True
