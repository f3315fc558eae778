"""Bringing an installation into being: the schema, the roles, the streams."""

from collections.abc import Mapping

from pulse_bus.address import BusAddress
from pulse_bus.connection import connect
from pulse_bus.provision import provision
from pulse_contracts.kinds import installed_kinds
from pulse_control.errors import ControlRefused
from pulse_storage.errors import AccessDenied
from pulse_storage.migrate import MigrationChanged, migrate, set_passwords


async def migrate_database(dsn: str) -> list[str]:
    """Apply the missing migrations; returns their names.

    Raises `ControlRefused` if the role may not do it, or a migration was applied with another content.
    """
    try:
        return await migrate(dsn)
    except AccessDenied as exc:
        reason = f"{exc}; migrations take a role that may create roles"
        raise ControlRefused("PULSE_OWNER_DATABASE_URL", reason) from exc
    except MigrationChanged as exc:
        raise ControlRefused("migrate", str(exc)) from exc


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
