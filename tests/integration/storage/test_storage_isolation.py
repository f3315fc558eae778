"""Tenants cannot see or touch each other in SQL: the catalogue says so, and so does a two-tenant comparison."""

import asyncpg
import pytest

from pulse_contracts.ids import TenantId
from pulse_storage.migrate import SERVICE_ROLES
from pulse_storage.pool import connect, open_pool, tenant_transaction
from pulse_testkit.postgres import Database

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
TENANT_TABLES = (
    "devices",
    "message_routes",
    "route_revisions",
    "telemetry",
    "message_ids",
    "quarantine",
    "dead_letter_messages",
    "delivery_log",
    "admin_log",
)


async def seed(database: Database, tenant: str) -> None:
    """One row in each table, written by the superuser, whom no row security holds."""
    async with connect(database.owner_dsn, service="test") as owner:
        await owner.execute(
            "INSERT INTO tenants (tenant_id, name, ingest_key_sha256, ingest_key_bcrypt) "
            "VALUES ($1, $1, convert_to($1, 'utf8'), 'x')",
            tenant,
        )
        for statement in (
            "INSERT INTO devices (tenant_id, device_id, token_sha256, token_bcrypt) "
            "VALUES ($1, 'd', convert_to($1, 'utf8'), 'x')",
            "INSERT INTO message_routes (tenant_id, route_id, name, topic_filter, kind, config) "
            "VALUES ($1, '00000000-0000-0000-0000-000000000001', 'r', '#', 'webhook', '{}')",
            "INSERT INTO route_revisions (tenant_id, route_id, revision, definition) "
            "VALUES ($1, '00000000-0000-0000-0000-000000000001', 1, '{}')",
            "INSERT INTO telemetry VALUES ($1, 'd', now(), gen_random_uuid(), 't', 'x', '{}', now())",
            "INSERT INTO message_ids VALUES ($1, gen_random_uuid())",
            "INSERT INTO quarantine VALUES ($1, gen_random_uuid(), 'x', 'r', 'e', '', now())",
            "INSERT INTO dead_letter_messages (tenant_id, message_id, route_id, device_id, original_topic, payload, "
            "destination_type, destination_config, reason, error_message, attempts, created_at) "
            "VALUES ($1, gen_random_uuid(), gen_random_uuid(), 'd', 'x', '{}', 'webhook', '{}', 'r', 'e', 1, now())",
            "INSERT INTO delivery_log "
            "VALUES ($1, gen_random_uuid(), gen_random_uuid(), 1, 1, 'x', NULL, NULL, 1, now())",
            "INSERT INTO admin_log VALUES ($1, gen_random_uuid(), 'a', 'b', 'c')",
        ):
            await owner.execute(statement, tenant)


async def test_every_table_with_a_tenant_has_row_security_enabled_forced_and_a_policy(database: Database) -> None:
    async with connect(database.owner_dsn, service="test") as owner:
        rows = await owner.fetch(
            "SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, pg_get_userbyid(c.relowner) AS owner, "
            "(SELECT count(*) FROM pg_policies p WHERE p.tablename = c.relname) AS policies "
            "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        )
    assert {row["relname"] for row in rows} == {"tenants", *TENANT_TABLES}
    for row in rows:
        assert row["relrowsecurity"], row["relname"]
        assert row["relforcerowsecurity"], row["relname"]
        assert row["policies"] > 0, row["relname"]
        assert row["owner"] == "pulse_owner"


async def test_no_service_role_is_super_bypasses_row_security_or_may_read_a_partition(database: Database) -> None:
    async with connect(database.owner_dsn, service="test") as owner:
        for role in SERVICE_ROLES:
            row = await owner.fetchrow(
                "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = $1", role
            )
            assert row is not None
            assert not any(row.values()), role
            partition = await owner.fetchval(
                "SELECT has_table_privilege($1, 'telemetry_default', 'SELECT, INSERT')", role
            )
            assert partition is False, role


@pytest.mark.parametrize("table", TENANT_TABLES)
async def test_a_tenants_context_sees_and_changes_its_own_rows_only(database: Database, table: str) -> None:
    await seed(database, ACME)
    await seed(database, GLOBEX)
    async with open_pool(database.dsn("pulse_control"), service="test") as pool:
        async with tenant_transaction(pool, ACME) as connection:
            seen = await connection.fetch(f"SELECT tenant_id FROM {table}")  # noqa: S608 - our own table names
            assert {row["tenant_id"] for row in seen} == {ACME}
            changed = await connection.execute(
                f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = $1",  # noqa: S608 - same
                GLOBEX,
            )
            assert changed == "UPDATE 0"
        assert await pool.fetch(f"SELECT 1 FROM {table}") == []  # noqa: S608 - same


async def test_a_tenants_context_cannot_write_another_tenants_row(database: Database) -> None:
    await seed(database, ACME)
    await seed(database, GLOBEX)
    async with open_pool(database.dsn("pulse_control"), service="test") as pool, tenant_transaction(pool, ACME) as mine:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await mine.execute("INSERT INTO admin_log VALUES ($1, gen_random_uuid(), 'a', 'b', 'c')", GLOBEX)


async def test_delivery_writes_dead_letters_in_the_tenants_context_and_never_without(database: Database) -> None:
    statement = (
        "INSERT INTO dead_letter_messages (tenant_id, message_id, route_id, device_id, original_topic, payload, "
        "destination_type, destination_config, reason, error_message, attempts, created_at) "
        "VALUES ($1, gen_random_uuid(), gen_random_uuid(), 'd', 'x', '{}', 'webhook', '{}', 'r', 'e', 1, now())"
    )
    async with open_pool(database.dsn("pulse_delivery"), service="test") as pool:
        async with tenant_transaction(pool, ACME) as connection:
            await connection.execute(statement, ACME)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement, ACME)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.fetch("SELECT * FROM dead_letter_messages")


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("pulse_router", "SELECT secrets FROM message_routes"),
        ("pulse_router", "SELECT * FROM devices"),
        ("pulse_ingest", "SELECT token_bcrypt FROM devices"),
        ("pulse_ingest", "SELECT payload FROM telemetry"),
        ("pulse_ingest", "SELECT * FROM message_routes"),
        ("pulse_delivery", "SELECT * FROM telemetry"),
        ("pulse_delivery", "SELECT * FROM devices"),
        ("pulse_delivery", "UPDATE message_routes SET enabled = false"),
        ("pulse_control", "CREATE TABLE mine (x int)"),
    ],
)
async def test_a_service_may_do_nothing_beyond_its_work(database: Database, role: str, statement: str) -> None:
    async with open_pool(database.dsn(role), service="test") as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)
