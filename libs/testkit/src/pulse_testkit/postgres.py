"""One real PostgreSQL a test session, and a database of its own for each test."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from pulse_cli.embedded.database import SUPERUSER
from pulse_cli.embedded.ports import Ports
from pulse_cli.embedded.postgres import PostgresServer
from pulse_cli.embedded.supervisor import Supervisor
from pulse_storage.migrate import SERVICE_ROLES, migrate, set_passwords
from pulse_storage.pool import Connection, Pool, connect, open_pool

_CHILD: Final = "postgres"
_TEMPLATE: Final = "pulse_template"
_MAINTENANCE: Final = "postgres"
_EMPTY: Final = "template1"
_READY_S: Final = 30.0
_NUMBERS: Final = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePostgres:
    """A running server. Roles belong to the whole server, so all databases share those of the services."""

    server: PostgresServer
    supervisor: Supervisor

    def dsn(self, database: str, role: str) -> str:
        """Return the address of a database for one role, the superuser or a service's."""
        return f"postgresql://{role}:{_password(role)}@127.0.0.1:{self.server.endpoint.port}/{database}"

    def kill(self) -> None:
        """Kill the server as a crash would; it comes back on the same port."""
        self.supervisor.kill(_CHILD)

    async def until_ready(self) -> None:
        """Wait until the server is up, again if it was killed; raises `TimeoutError`."""
        async with asyncio.timeout(_READY_S):
            await self.supervisor.until_ready(_CHILD)

    async def execute(self, statement: str) -> None:
        """Run one statement as the superuser, outside of any test's database."""
        async with connect(self.dsn(_MAINTENANCE, SUPERUSER), service="testkit") as connection:
            await connection.execute(statement)


class Database:
    """One test's database."""

    def __init__(self, postgres: LivePostgres, name: str, stack: AsyncExitStack) -> None:
        self.postgres = postgres
        self.name = name
        self._stack = stack

    def dsn(self, role: str) -> str:
        """Return the address for one of the services' roles."""
        return self.postgres.dsn(self.name, role)

    @property
    def owner_dsn(self) -> str:
        """The address for the role that migrates: here the superuser, whom no row security holds."""
        return self.dsn(SUPERUSER)

    async def pool(self, role: str, *, max_size: int = 4) -> Pool:
        """Open a pool as a role; closed at the end of the test."""
        return await self._stack.enter_async_context(open_pool(self.dsn(role), service="testkit", max_size=max_size))

    async def owner(self) -> Connection:
        """Connect as the role that migrates; closed at the end of the test."""
        return await self._stack.enter_async_context(connect(self.owner_dsn, service="testkit"))


@asynccontextmanager
async def run_postgres(folder: Path) -> AsyncGenerator[LivePostgres]:
    """Run a server with its data in *folder*, which exists, and a migrated template database in it.

    It does not fsync, which no test can notice: a killed process loses nothing that the kernel has. What is committed
    does reach the kernel, although the server's fast setting would leave it in the process for a moment.
    """
    with Ports() as ports:
        server = PostgresServer(
            folder=folder,
            log=folder / "postgres.log",
            endpoint=ports.hold("postgres"),
            superuser_password=_password(SUPERUSER),
            durable=False,
        )
        async with Supervisor() as supervisor:
            await supervisor.start(server.child_spec())
            postgres = LivePostgres(server=server, supervisor=supervisor)
            await _make_template(postgres)
            yield postgres


@asynccontextmanager
async def migrated_database(postgres: LivePostgres) -> AsyncGenerator[Database]:
    """Yield a copy of the migrated template, some 40 ms old."""
    async with _database(postgres, _TEMPLATE) as database:
        yield database


@asynccontextmanager
async def empty_database(postgres: LivePostgres) -> AsyncGenerator[Database]:
    """Yield a database that no migration has seen, on a server where the roles may exist."""
    async with _database(postgres, _EMPTY) as database:
        yield database


@asynccontextmanager
async def _database(postgres: LivePostgres, template: str) -> AsyncGenerator[Database]:
    await postgres.until_ready()
    name = f"test_{next(_NUMBERS)}"
    await postgres.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        async with AsyncExitStack() as stack:
            yield Database(postgres, name, stack)
    finally:
        await postgres.until_ready()
        await postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def _make_template(postgres: LivePostgres) -> None:
    await postgres.execute("ALTER ROLE ALL SET synchronous_commit = on")
    await postgres.execute(f"CREATE DATABASE {_TEMPLATE}")
    dsn = postgres.dsn(_TEMPLATE, SUPERUSER)
    await migrate(dsn)
    await set_passwords(dsn, {role: _password(role) for role in SERVICE_ROLES})


def _password(role: str) -> str:
    return f"password-of-{role}"
