"""Which Pulse a command speaks to: an embedded stack by its data folder, or any other by ``PULSE_…`` settings."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pulse_bus.address import BusAddress
from pulse_cli.embedded.database import SUPERUSER, database_url
from pulse_cli.embedded.folder import DataFolder
from pulse_cli.embedded.ports import LOOPBACK_RANGE

DEFAULT_DATA: Final = Path(".pulse")
OWNER_URL: Final = "PULSE_OWNER_DATABASE_URL"


class NoTarget(Exception):
    """There is no Pulse to talk to."""


class NothingRuns(NoTarget):
    """No running stack was found, and no settings name one."""

    def __init__(self, data: Path) -> None:
        self.data = data
        super().__init__(
            f"no stack runs on {data}: start one with `pulse up --data {data}`, or set PULSE_DATABASE_URL, "
            "PULSE_NATS_URL, PULSE_NATS_USER, PULSE_NATS_PASSWORD and PULSE_SECRET_KEYS"
        )


class SettingsMissing(NoTarget):
    """Some of the settings that name a Pulse are there, others are not."""

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = tuple(missing)
        super().__init__(
            f"{', '.join(missing)} not set: PULSE_DATABASE_URL names a Pulse, and to talk to one takes them all; "
            "unset it to talk to the stack in a data folder"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a command does its work. Nothing secret appears in its ``repr``."""

    folder: DataFolder | None
    control_url: str
    owner_url: str
    owner_variable: str
    """The setting that *owner_url* came from, or would come from."""
    bus: BusAddress
    keys: str
    egress_allow: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Target({self.bus.url})"


def find_target(data: Path | None) -> Target:
    """Return the target; ``--data`` goes before settings, settings before the default folder. Raises `NoTarget`."""
    if data is None and "PULSE_DATABASE_URL" in os.environ:
        return _from_environment()
    return _from_folder(data or Path(os.environ.get("PULSE_DATA", DEFAULT_DATA)))


def _from_environment() -> Target:
    names = ("PULSE_DATABASE_URL", "PULSE_NATS_URL", "PULSE_NATS_USER", "PULSE_NATS_PASSWORD", "PULSE_SECRET_KEYS")
    if missing := [name for name in names if not os.environ.get(name)]:
        raise SettingsMissing(missing)
    url, nats_url, user, password, keys = (os.environ[name] for name in names)
    allow = os.environ.get("PULSE_EGRESS_ALLOW", "")
    return Target(
        folder=None,
        control_url=url,
        owner_url=os.environ.get(OWNER_URL, url),
        owner_variable=OWNER_URL if OWNER_URL in os.environ else "PULSE_DATABASE_URL",
        bus=BusAddress(url=nats_url, user=user, password=password, service="control"),
        keys=keys,
        egress_allow=tuple(part.strip() for part in allow.split(",") if part.strip()),
    )


def _from_folder(path: Path) -> Target:
    folder = DataFolder(path)
    announced = folder.announced()
    if announced is None:
        raise NothingRuns(path)
    secrets = folder.secrets()
    port = int(str(announced["postgres"]).rpartition(":")[2])
    return Target(
        folder=folder,
        control_url=database_url(port, "pulse_control", secrets.postgres["pulse_control"]),
        owner_url=database_url(port, SUPERUSER, secrets.postgres[SUPERUSER]),
        owner_variable=OWNER_URL,
        bus=BusAddress(url=str(announced["nats"]), user="control", password=secrets.nats["control"], service="control"),
        keys=f"{secrets.encryption_key_id}:{secrets.encryption_key}",
        egress_allow=(LOOPBACK_RANGE,),
    )
