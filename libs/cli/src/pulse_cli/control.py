"""The use cases' context, opened on the Pulse that a command speaks to."""

import getpass
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from pulse_cli.target import Target
from pulse_control.context import Actor, Control
from pulse_control.errors import ControlRefused
from pulse_egress.policy import AddressPolicy
from pulse_storage.pool import open_pool
from pulse_storage.sealing import KeyRing, KeyRingInvalid

_MAX_ACTOR_CHARS: Final = 64
_HIGHEST_PORT: Final = 65_535


@asynccontextmanager
async def open_control(target: Target) -> AsyncGenerator[Control, None]:
    """Yield the use cases' context for *target*; raises `ControlRefused` for a setting that cannot be used."""
    try:
        keys = KeyRing.parse(target.keys)
    except KeyRingInvalid as exc:
        raise ControlRefused("PULSE_SECRET_KEYS", str(exc)) from exc
    try:
        egress = AddressPolicy.from_ranges(target.egress_allow)
    except ValueError as exc:
        raise ControlRefused("PULSE_EGRESS_ALLOW", str(exc)) from exc
    check_database_url("PULSE_DATABASE_URL", target.control_url)
    async with open_pool(target.control_url, service="cli") as pool:
        yield Control(pool=pool, keys=keys, egress=egress)


def check_database_url(variable: str, url: str) -> None:
    """Raise `ControlRefused` with the variable's name, and nothing of its secret value, for an unreadable address."""
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise ControlRefused(variable, "is not a URL") from exc
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ControlRefused(variable, "must begin with postgresql://")
    for host in parts.netloc.rpartition("@")[2].split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not (port.isascii() and port.isdigit() and int(port) <= _HIGHEST_PORT):
            raise ControlRefused(variable, "has a port that is no number up to 65,535")


def actor() -> Actor:
    """Who runs the command, for ``admin_log``; a name that cannot be kept there counts as none."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    is_fit = name.isprintable() and 0 < len(name) <= _MAX_ACTOR_CHARS
    return Actor(f"cli:{name}" if is_fit else f"cli:uid-{os.getuid()}")


def after_login_change(target: Target) -> Callable[[Control], Awaitable[None]]:
    """Return what makes a changed login known to the broker, where the broker is ours."""

    async def sync(control: Control) -> None:
        if target.folder is not None:
            from pulse_cli.embedded.logins import sync_logins  # noqa: PLC0415 - it loads the whole of the embedded stack

            await sync_logins(control, target.folder)

    return sync
