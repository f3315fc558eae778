import pytest
from storage_rows import ACME, GLOBEX

from pulse_contracts.ids import DeviceId
from pulse_storage import devices, tenants
from pulse_storage.devices import Credential, DeviceExists, DeviceRevoked, TokenHashes, UnknownTenant
from pulse_storage.pool import Pool
from pulse_storage.tenants import TenantExists
from pulse_testkit.postgres import Database

D1 = DeviceId("d1")


def hashes(digest: bytes, device: DeviceId = D1) -> TokenHashes:
    return TokenHashes(device_id=device, sha256=digest, bcrypt="$2b$04$x")


@pytest.fixture
async def control(database: Database) -> Pool:
    pool = await database.pool("pulse_control")
    for tenant in (ACME, GLOBEX):
        key = f"key of {tenant}".encode()
        await tenants.create(pool, tenant, name=tenant, key_sha256=key, key_bcrypt="$2b$", actor="op")
    return pool


@pytest.fixture
async def ingest(database: Database) -> Pool:
    return await database.pool("pulse_ingest")


async def test_a_tenant_exists_once(control: Pool) -> None:
    with pytest.raises(TenantExists, match="acme"):
        await tenants.create(control, ACME, name="again", key_sha256=b"k", key_bcrypt="b", actor="op")

    assert [row.tenant_id for row in await tenants.list_all(control)] == [ACME, GLOBEX]


async def test_a_device_is_known_by_the_digest_of_its_token(control: Pool, ingest: Pool) -> None:
    await devices.create(control, ACME, [hashes(b"secret")], "op")

    assert await devices.find_credential(ingest, b"secret") == Credential(
        sha256=b"secret", tenant_id=ACME, device_id=D1
    )
    assert await devices.find_credential(ingest, b"other") is None


async def test_an_ingest_key_is_a_credential_without_a_device(control: Pool, ingest: Pool) -> None:
    assert await devices.find_credential(ingest, b"key of acme") == Credential(
        sha256=b"key of acme", tenant_id=ACME, device_id=None
    )


async def test_a_revoked_device_is_unknown_until_it_is_reinstated(control: Pool, ingest: Pool) -> None:
    await devices.create(control, ACME, [hashes(b"one")], "op")

    assert await devices.revoke(control, ACME, D1, "op")
    revoked = (await devices.find_credential(ingest, b"one"), await devices.is_active(ingest, ACME, D1))
    with pytest.raises(DeviceRevoked, match="d1"):
        await devices.rotate(control, ACME, hashes(b"two"), "op")
    unchanged = await devices.find_credential(ingest, b"two")
    assert await devices.rotate(control, ACME, hashes(b"two"), "op", reinstate=True)

    assert unchanged is None
    assert revoked == (None, False)
    assert await devices.is_active(ingest, ACME, D1)
    assert await devices.find_credential(ingest, b"one") is None
    assert await devices.find_credential(ingest, b"two") is not None


async def test_devices_are_created_all_or_none(control: Pool) -> None:
    await devices.create(control, ACME, [hashes(b"one")], "op")

    with pytest.raises(DeviceExists, match="d1"):
        await devices.create(control, ACME, [hashes(b"new", DeviceId("new")), hashes(b"again")], "op")

    assert [row.device_id for row in await devices.list_of_tenant(control, ACME)] == [D1]


async def test_a_device_of_an_unknown_tenant_is_refused(database: Database) -> None:
    with pytest.raises(UnknownTenant, match="acme"):
        await devices.create(await database.pool("pulse_control"), ACME, [hashes(b"one")], "op")


async def test_what_was_done_to_a_device_is_on_record_and_what_was_not_done_is_not(
    database: Database, control: Pool
) -> None:
    await devices.create(control, ACME, [hashes(b"one")], "op")
    await devices.rotate(control, ACME, hashes(b"two"), "op")
    await devices.revoke(control, ACME, D1, "op")
    with pytest.raises(DeviceRevoked):
        await devices.rotate(control, ACME, hashes(b"three"), "op")
    await devices.rotate(control, ACME, hashes(b"three"), "op", reinstate=True)
    await devices.rotate(control, ACME, hashes(b"x", DeviceId("nobody")), "op")
    await devices.revoke(control, ACME, DeviceId("nobody"), "op")

    log = await (await database.owner()).fetch("SELECT action FROM admin_log WHERE action LIKE 'device.%' ORDER BY at")
    done = ["create", "rotate", "revoke", "reinstate"]
    assert [row["action"].removeprefix("device.") for row in log] == done


async def test_a_tenant_changes_its_own_devices_only(control: Pool) -> None:
    await devices.create(control, ACME, [hashes(b"one")], "op")

    assert not await devices.revoke(control, GLOBEX, D1, "op")
    assert not await devices.rotate(control, GLOBEX, hashes(b"two"), "op")
    assert await devices.login_hashes(control, ACME) == {D1: "$2b$04$x"}


async def test_ingest_lists_every_valid_credential(control: Pool, ingest: Pool) -> None:
    await devices.create(control, ACME, [hashes(b"one"), hashes(b"two", DeviceId("d2"))], "op")
    await devices.revoke(control, ACME, D1, "op")

    async with ingest.acquire() as connection:
        found = await devices.credentials(connection)

    assert {credential.sha256 for credential in found} == {b"two", b"key of acme", b"key of globex"}
