"""What PostgreSQL itself says about who may see what: the executable form of promise 5."""

from collections.abc import AsyncGenerator

import asyncpg
import pytest
from storage_rows import ACME, GLOBEX, INSERTS, add_tenants

from pulse_storage.migrate import SERVICE_ROLES
from pulse_storage.pool import Pool, tenant_transaction
from pulse_testkit.postgres import Database, LivePostgres, migrated_database

TENANT_TABLES = tuple(INSERTS)
OPERATORS_OWN = "tenants"
"""The list of tenants belongs to the operator, whose context is none of theirs."""
OF_A_TENANT = tuple(table for table in TENANT_TABLES if table != OPERATORS_OWN)

_TABLES_OF_TENANTS = """
SELECT c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced, c.relispartition AS partition,
       pg_get_userbyid(c.relowner) AS owner, (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS policies
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
"""
_GRANTS = """
SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants
WHERE table_schema = 'public' AND grantee <> 'pulse_owner' AND grantee <> 'postgres'
UNION
SELECT grantee, table_name, privilege_type FROM information_schema.column_privileges
WHERE table_schema = 'public' AND grantee <> 'pulse_owner' AND grantee <> 'postgres'
"""
_ALL = {"SELECT", "INSERT", "UPDATE", "DELETE"}
MAY = {
    "pulse_control": {**dict.fromkeys(OF_A_TENANT, _ALL), OPERATORS_OWN: {"SELECT", "INSERT", "UPDATE"}},
    "pulse_ingest": {
        "devices": {"SELECT"},
        "tenants": {"SELECT"},
        "telemetry": {"INSERT"},
        "message_ids": {"INSERT", "SELECT", "DELETE"},
        "quarantine": {"INSERT"},
    },
    "pulse_router": {"message_routes": {"SELECT"}, "judgements": {"INSERT", "SELECT", "DELETE"}},
    "pulse_delivery": {
        "message_routes": {"SELECT"},
        "delivery_log": {"INSERT", "SELECT", "DELETE"},
        "dead_letter_messages": {"INSERT"},
    },
}


@pytest.fixture(scope="module")
async def two_tenants(postgres_server: LivePostgres) -> AsyncGenerator[Database]:
    """A database in which both tenants have a row in every table; no test here may change it."""
    async with migrated_database(postgres_server) as made:
        owner = await made.owner()
        await owner.fetchval("SELECT ensure_telemetry_partitions(1)")
        for statement in INSERTS.values():
            for tenant in (ACME, GLOBEX):
                await owner.execute(statement, tenant)
        yield made


@pytest.fixture(scope="module")
async def control(two_tenants: Database) -> Pool:
    return await two_tenants.pool("pulse_control", max_size=1)


async def test_every_table_of_tenants_is_known_to_these_tests(two_tenants: Database) -> None:
    owner = await two_tenants.owner()

    tables = {row["name"] for row in await owner.fetch(_TABLES_OF_TENANTS) if not row["partition"]}

    assert tables == set(TENANT_TABLES)


async def test_row_security_is_enabled_and_forced_on_every_table_of_tenants(two_tenants: Database) -> None:
    owner = await two_tenants.owner()

    unprotected = {
        row["name"]
        for row in await owner.fetch(_TABLES_OF_TENANTS)
        if not row["partition"] and not (row["enabled"] and row["forced"] and row["policies"])
    }

    assert unprotected == set()


async def test_every_table_belongs_to_the_owner_role(two_tenants: Database) -> None:
    owner = await two_tenants.owner()

    assert {row["owner"] for row in await owner.fetch(_TABLES_OF_TENANTS)} == {"pulse_owner"}


@pytest.mark.parametrize("role", [*SERVICE_ROLES, "pulse_owner"])
async def test_no_role_of_ours_is_above_row_security(two_tenants: Database, role: str) -> None:
    owner = await two_tenants.owner()

    row = await owner.fetchrow("SELECT * FROM pg_roles WHERE rolname = $1", role)

    assert row is not None
    assert not any(row[power] for power in ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb"))


@pytest.mark.parametrize("role", SERVICE_ROLES)
async def test_a_service_owns_nothing_and_belongs_to_no_other_role(two_tenants: Database, role: str) -> None:
    owner = await two_tenants.owner()

    owned = await owner.fetchval("SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) = $1", role)
    memberships = await owner.fetchval("SELECT count(*) FROM pg_auth_members WHERE member = $1::regrole", role)
    creates = await owner.fetchval("SELECT has_schema_privilege($1, 'public', 'CREATE')", role)

    assert (owned, memberships, creates) == (0, 0, False)


async def test_grants_are_exactly_these_and_none_is_on_a_partition(two_tenants: Database) -> None:
    owner = await two_tenants.owner()

    granted: dict[str, dict[str, set[str]]] = {}
    for row in await owner.fetch(_GRANTS):
        granted.setdefault(row["grantee"], {}).setdefault(row["table_name"], set()).add(row["privilege_type"])

    assert granted == MAY


async def test_a_service_may_not_read_a_partition_directly(control: Pool) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await control.fetch("SELECT * FROM telemetry_default")


async def test_the_router_sees_no_secrets(two_tenants: Database) -> None:
    router = await two_tenants.pool("pulse_router")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await router.fetch("SELECT secrets FROM message_routes")


@pytest.mark.parametrize("column", ["token_bcrypt", "created_at"])
async def test_ingest_reads_only_what_authentication_needs(two_tenants: Database, column: str) -> None:
    ingest = await two_tenants.pool("pulse_ingest")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ingest.fetch(f"SELECT {column} FROM devices")  # noqa: S608 - a name of ours


@pytest.mark.parametrize("table", OF_A_TENANT)
async def test_a_tenants_context_sees_its_own_rows_only(control: Pool, table: str) -> None:
    async with tenant_transaction(control, ACME) as connection:
        seen = await connection.fetch(f"SELECT tenant_id FROM {table}")  # noqa: S608 - a name of ours

    assert {row["tenant_id"] for row in seen} == {ACME}


@pytest.mark.parametrize("table", OF_A_TENANT)
async def test_a_tenants_context_changes_no_row_of_another(control: Pool, table: str) -> None:
    async with tenant_transaction(control, ACME) as connection:
        updated = await connection.execute(
            f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = $1",  # noqa: S608 - a name of ours
            GLOBEX,
        )
        deleted = await connection.execute(f"DELETE FROM {table} WHERE tenant_id = $1", GLOBEX)  # noqa: S608 - same

    assert (updated, deleted) == ("UPDATE 0", "DELETE 0")


@pytest.mark.parametrize("table", [table for table in OF_A_TENANT if table != "route_revisions"])
async def test_a_tenants_context_adds_no_row_to_another(control: Pool, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with tenant_transaction(control, ACME) as connection:
            await connection.execute(INSERTS[table], GLOBEX)


@pytest.mark.parametrize("table", OF_A_TENANT)
async def test_a_tenants_context_gives_no_row_to_another(control: Pool, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with tenant_transaction(control, ACME) as connection:
            await connection.execute(f"UPDATE {table} SET tenant_id = $1", GLOBEX)  # noqa: S608 - a name of ours


@pytest.mark.parametrize("table", OF_A_TENANT)
async def test_without_a_context_no_row_of_a_tenant_is_seen(control: Pool, table: str) -> None:
    before = await control.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of ours
    async with tenant_transaction(control, ACME):
        pass
    after = await control.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of ours

    assert (before, after) == (0, 0)


async def test_dead_letters_are_written_in_their_tenants_context_only(database: Database) -> None:
    await add_tenants(await database.owner())
    delivery = await database.pool("pulse_delivery")

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await delivery.execute(INSERTS["dead_letter_messages"], ACME)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with tenant_transaction(delivery, GLOBEX) as connection:
            await connection.execute(INSERTS["dead_letter_messages"], ACME)
    async with tenant_transaction(delivery, ACME) as connection:
        await connection.execute(INSERTS["dead_letter_messages"], ACME)


async def test_ingest_forgets_no_id_that_is_younger_than_a_day(two_tenants: Database) -> None:
    ingest = await two_tenants.pool("pulse_ingest")

    assert await ingest.execute("DELETE FROM message_ids") == "DELETE 0"
