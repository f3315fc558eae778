"""Bringing an installation into being: the schema, the roles, the streams."""

from collections.abc import Mapping

from pulse_bus.address import BusAddress
from pulse_bus.connection import connect
from pulse_bus.provision import provision
from pulse_contracts.kinds import installed_kinds
from pulse_storage.migrate import migrate, set_passwords


async def migrate_database(dsn: str) -> list[str]:
    """Apply the missing migrations; returns their names."""
    return await migrate(dsn)


async def let_roles_log_in(dsn: str, passwords: Mapping[str, str]) -> None:
    """Give the service roles these passwords."""
    await set_passwords(dsn, dict(passwords))


async def provision_bus(address: BusAddress, *, replicas: int | None = None) -> list[str]:
    """Make streams and consumers match, for every installed kind that emits; returns what changed.

    Without *replicas* streams keep as many copies as they have.
    """
    kinds = [kind.name for kind in installed_kinds().values() if kind.emits]
    async with connect(address) as connection:
        return await provision(connection, kinds, replicas=replicas)
