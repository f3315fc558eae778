import asyncio

import pytest

from pulse_contracts.storing import DataRefused
from pulse_storage import migrate as migrate_module
from pulse_storage.migrate import Migration, MigrationChanged, migrate, migrations
from pulse_testkit.postgres import Database

ALL = [migration.name for migration in migrations()]


async def test_migrations_are_applied_in_order_and_once(unmigrated_database: Database) -> None:
    assert await migrate(unmigrated_database.owner_dsn) == ALL
    assert await migrate(unmigrated_database.owner_dsn) == []


async def test_processes_that_migrate_at_once_apply_each_migration_once(unmigrated_database: Database) -> None:
    applied = await asyncio.gather(*(migrate(unmigrated_database.owner_dsn) for _ in range(4)))

    assert sorted(applied) == sorted([ALL, [], [], []])


async def test_a_changed_migration_is_refused_before_anything_is_applied(
    unmigrated_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(unmigrated_database.owner_dsn)
    edited = [Migration(name=ALL[0], statements="SELECT 1"), *migrations()[1:]]
    new = Migration(name="9999_new", statements="CREATE TABLE new_one (id int)")
    monkeypatch.setattr(migrate_module, "migrations", lambda: [new, *edited])

    with pytest.raises(MigrationChanged, match=ALL[0]):
        await migrate(unmigrated_database.owner_dsn)

    owner = await unmigrated_database.owner()
    assert await owner.fetchval("SELECT to_regclass('new_one')") is None


async def test_a_failing_migration_leaves_nothing_of_itself_and_releases_the_lock(
    unmigrated_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Migration(name="9999_bad", statements="CREATE TABLE half (id int); SELECT 1 / 0;")
    with monkeypatch.context() as patched:
        patched.setattr(migrate_module, "migrations", lambda: [bad])
        with pytest.raises(DataRefused, match="division by zero"):
            await migrate(unmigrated_database.owner_dsn)

    assert await migrate(unmigrated_database.owner_dsn) == ALL
    owner = await unmigrated_database.owner()
    assert await owner.fetchval("SELECT to_regclass('half')") is None
