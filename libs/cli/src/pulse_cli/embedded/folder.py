"""The folder that holds everything an embedded stack owns."""

import asyncio
import base64
import fcntl
import os
import secrets as random_secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from pulse_cli.embedded.errors import DataFolderInUse, DataFolderUnusable
from pulse_cli.embedded.files import read_json, write_json

ORPHANS_LEAVE_WITHIN = timedelta(seconds=15)
_RETRY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Passwords and keys of one data folder, made once and kept; none of them appears in `repr`."""

    instance: str
    """Names this data folder; no secret. Part of the name of its nats-server."""
    nats: Mapping[str, str] = field(repr=False)
    """Password by NATS user."""
    postgres: Mapping[str, str] = field(repr=False)
    """Password by PostgreSQL role."""
    mqtt_client_id: str = field(repr=False)
    """Of ingest's persistent session. A secret: a device that connects under it with a clean session destroys the
    session and every message kept for it, and nats-server does not tie client ids to users."""
    encryption_key_id: str
    encryption_key: str = field(repr=False)
    """32 random bytes in base64, for secrets at rest."""


class DataFolder:
    """A folder with one owner at a time.

    `async with DataFolder(path) as folder` creates it (0700) and claims it. The claim is an flock that the children
    which keep data inherit (`lock_handle`): after a `kill -9` of the owner it stays until the last of them is gone, so
    no second nats-server or postmaster ever opens files that a dying one still writes. Reading needs no claim.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.nats = self.path / "nats"
        self.postgres = self.path / "postgres"
        self.ports_file = self.path / "ports.json"
        self._secrets_file = self.path / "secrets.json"
        self._stack_file = self.path / "stack.json"
        self._lock_file = self.path / "lock"
        self._lock_handle: int | None = None

    async def __aenter__(self) -> Self:
        """Raises DataFolderUnusable, and DataFolderInUse at once if the owner lives.

        Waits up to 15 s for the children of a dead owner.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._claim()
        except OSError as exc:
            raise DataFolderUnusable(self.path, exc.strerror or repr(exc)) from exc
        return self

    async def _claim(self) -> None:
        deadline = asyncio.get_running_loop().time() + ORPHANS_LEAVE_WITHIN.total_seconds()
        while not self._try_claim():
            pid = self._owner()
            if _is_alive(pid) or asyncio.get_running_loop().time() > deadline:
                raise DataFolderInUse(self.path, pid)
            await asyncio.sleep(_RETRY_S)
        self._stack_file.unlink(missing_ok=True)
        for folder in (self.logs, self.nats, self.postgres):
            folder.mkdir(mode=0o700, exist_ok=True)

    async def __aexit__(self, *_: object) -> None:
        self.withdraw()
        if self._lock_handle is not None:
            # Closing alone would leave the lock with a child that outlives us against all expectation.
            fcntl.flock(self._lock_handle, fcntl.LOCK_UN)
            os.close(self._lock_handle)
            self._lock_handle = None

    @property
    def lock_handle(self) -> int:
        """The descriptor that a child inherits if it writes below this folder."""
        return self._require_claim()

    def secrets(self, *, nats: Iterable[str] = (), postgres: Iterable[str] = ()) -> Secrets:
        """Everything kept so far, with a new password for each name that has none. Needs the claim only if one is made.

        The key and the instance are made at the first call.
        """
        kept: dict[str, Any] = read_json(self._secrets_file) or {
            "instance": random_secrets.token_hex(4),
            "nats": {},
            "postgres": {},
            "mqtt_client_id": f"ingest-{random_secrets.token_hex(16)}",
            "encryption_key_id": f"k-{random_secrets.token_hex(4)}",
            "encryption_key": base64.b64encode(random_secrets.token_bytes(32)).decode("ascii"),
        }
        filled: dict[str, Any] = {
            **kept,
            "nats": _filled(kept["nats"], nats),
            "postgres": _filled(kept["postgres"], postgres),
        }
        if filled != read_json(self._secrets_file):
            self._require_claim()  # two writers would lose each other's passwords
            write_json(self._secrets_file, filled)
        return Secrets(**filled)

    def announce(self, addresses: Mapping[str, Any]) -> None:
        """From now on `announced` tells other processes where the stack is."""
        write_json(self._stack_file, {**addresses, "supervisor_pid": os.getpid()})

    def withdraw(self) -> None:
        self._stack_file.unlink(missing_ok=True)

    def announced(self) -> dict[str, Any] | None:
        """What the running stack announced; None if none is up, also when the last one was killed."""
        stack = read_json(self._stack_file)
        return stack if stack is not None and _is_alive(stack["supervisor_pid"]) else None

    def _require_claim(self) -> int:
        if self._lock_handle is None:
            raise RuntimeError("the data folder is not claimed")
        return self._lock_handle

    def _try_claim(self) -> bool:
        handle = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._lock_handle = handle
        return True

    def _owner(self) -> int | None:
        text = self._lock_file.read_text(encoding="utf-8").strip()
        return int(text) if text.isdigit() else None


def _filled(kept: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {**{name: random_secrets.token_urlsafe(24) for name in names}, **kept}


def _is_alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
