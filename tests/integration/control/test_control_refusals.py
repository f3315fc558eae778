"""What an operator can do wrong, from the settings to the data, is a sentence and never what a driver raised."""

import pytest

from pulse_contracts.storing import StorageUnavailable
from pulse_control import dead_letters, devices, tenants
from pulse_control.context import Actor, Control
from pulse_control.errors import ControlRefused, NotFound
from pulse_control.installation import migrate_database
from pulse_storage.pool import open_pool
from pulse_storage.sealing import KeyRing
from pulse_testkit.postgres import Database

ACTOR = Actor("test")
KEYS = KeyRing({"k": bytes(32)})


@pytest.fixture
async def control(database: Database) -> Control:
    return Control(pool=await database.pool("pulse_control"), keys=KEYS)


async def sentence_of(dsn: str) -> str:
    """Return why tenants cannot be listed at an address."""
    async with open_pool(dsn, service="test") as pool:
        with pytest.raises(StorageUnavailable) as caught:
            await tenants.list_tenants(Control(pool=pool, keys=KEYS))
    return str(caught.value)


async def test_a_database_that_does_not_let_us_in_says_so(database: Database) -> None:
    dsn = database.dsn("pulse_control")
    assert (await sentence_of(dsn.replace("password-of", "wrong"))).startswith("the database refuses the login: ")
    assert (await sentence_of(f"{dsn}_missing")).startswith("there is no such database: ")


async def test_a_database_without_its_tables_names_the_command_that_makes_them(unmigrated_database: Database) -> None:
    assert "`pulse migrate`" in await sentence_of(unmigrated_database.dsn("pulse_control"))


async def test_to_migrate_as_a_role_that_may_not_is_refused(unmigrated_database: Database, database: Database) -> None:
    for found in (unmigrated_database, database):
        with pytest.raises(ControlRefused, match="may create roles") as caught:
            await migrate_database(found.dsn("pulse_control"))
        assert caught.value.field == "PULSE_OWNER_DATABASE_URL"


async def test_an_edited_migration_is_refused_by_name(database: Database) -> None:
    owner = await database.owner()
    await owner.execute("UPDATE pulse_migrations SET checksum = 'x' WHERE name LIKE '0002%'")
    with pytest.raises(ControlRefused, match="0002_tables"):
        await migrate_database(database.owner_dsn)


@pytest.mark.parametrize("name", ["", " ", "n" * 201, "a\0", "\udcff", "a\nb", "\x1b[31m"], ids=ascii)
async def test_a_tenants_name_is_one_line_of_at_most_200_characters(control: Control, name: str) -> None:
    with pytest.raises(ControlRefused) as caught:
        await tenants.create_tenant(control, "acme", name, ACTOR)
    assert caught.value.field == "name"
    assert await tenants.list_tenants(control) == []


async def test_a_name_of_200_characters_is_kept(control: Control) -> None:
    await tenants.create_tenant(control, "acme", "ü" * 200, ACTOR)
    [row] = await tenants.list_tenants(control)
    assert row.name == "ü" * 200


async def test_a_revoked_device_gets_a_new_token_only_to_be_reinstated(control: Control) -> None:
    await tenants.create_tenant(control, "acme", None, ACTOR)
    [old] = await devices.create_devices(control, "acme", ["d"], ACTOR)
    await devices.revoke_device(control, "acme", "d", ACTOR)

    with pytest.raises(ControlRefused, match="--reinstate"):
        await devices.rotate_device(control, "acme", "d", ACTOR)
    [still] = await devices.list_devices(control, "acme")
    new = await devices.rotate_device(control, "acme", "d", ACTOR, reinstate=True)
    [again] = await devices.list_devices(control, "acme")

    assert still.revoked_at is not None
    assert again.revoked_at is None
    assert new.token != old.token


async def test_ids_that_cannot_be_are_nobodys(control: Control) -> None:
    await tenants.create_tenant(control, "acme", None, ACTOR)
    with pytest.raises(NotFound):
        await dead_letters.show_dead_letter(control, "acme", "\udcff")
    with pytest.raises(ControlRefused):
        await devices.revoke_device(control, "acme", "\udcff", ACTOR)
