"""Fixtures for every test. The servers start when a test first asks for one, and stop with the session."""

from collections.abc import AsyncGenerator

import pytest

from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import Bus, LiveNats, open_bus, run_nats
from pulse_testkit.postgres import Database, LivePostgres, empty_database, migrated_database, run_postgres
from pulse_testkit.receiver import WebhookReceiver


@pytest.fixture(scope="session", name="nats_server")
async def _nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LiveNats]:
    """The session's nats-server, one a worker under xdist. Its data folder stays until pytest removes it."""
    async with run_nats(tmp_path_factory.mktemp("nats")) as nats:
        yield nats


@pytest.fixture(scope="session", name="postgres_server")
async def _postgres_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LivePostgres]:
    """The session's PostgreSQL, one a worker under xdist."""
    async with run_postgres(tmp_path_factory.mktemp("postgres")) as postgres:
        yield postgres


@pytest.fixture(name="bus")
async def _bus(nats_server: LiveNats) -> AsyncGenerator[Bus]:
    """Empty streams, provisioned for this test alone."""
    async with open_bus(nats_server) as bus:
        yield bus


@pytest.fixture(name="database")
async def _database(postgres_server: LivePostgres) -> AsyncGenerator[Database]:
    """A migrated, empty database for this test alone."""
    async with migrated_database(postgres_server) as database:
        yield database


@pytest.fixture(name="unmigrated_database")
async def _unmigrated_database(postgres_server: LivePostgres) -> AsyncGenerator[Database]:
    """A database without any table, for this test alone."""
    async with empty_database(postgres_server) as database:
        yield database


@pytest.fixture(name="receiver")
async def _receiver() -> AsyncGenerator[WebhookReceiver]:
    """A webhook receiver on loopback."""
    async with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture(name="manual_clock")
async def _manual_clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()
