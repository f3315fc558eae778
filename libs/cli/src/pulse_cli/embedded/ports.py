"""Loopback ports that stay with a data folder."""

import errno
import json
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pulse_cli.embedded.files import write_json

LOOPBACK = "127.0.0.1"
LOOPBACK_RANGE = "127.0.0.0/8"

# Below Linux's default ephemeral range (32768-60999): while the stack is down no outgoing connection takes a port it
# will want back, and a client that keeps dialling a dead port cannot connect to itself.
_FIRST, _LAST = 20000, 32000
_ATTEMPTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A loopback address."""

    port: int
    host: str = LOOPBACK

    def url(self, scheme: str, path: str = "") -> str:
        return f"{scheme}://{self.host}:{self.port}{path}"


class Ports:
    """Ports by name: remembered in a file, held from the choice until `close`.

    Holding means a bound socket that never listens. A server child that sets SO_REUSEADDR, as all of ours do, binds and
    listens beside it; a probe without SO_REUSEADDR, such as another stack's choice, finds the port taken. So there is
    no moment between choosing and binding, nor while a killed child is restarted, in which a second stack may take one.
    Only a stranger that sets SO_REUSEADDR can still come first; `is_taken` and `replace` are for him.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._held: dict[str, socket.socket] = {}
        self._remembered: dict[str, int] = _remembered(file) if file is not None else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hold(self, name: str) -> Endpoint:
        """The port of that name: the one already held, else the remembered one, else a free one."""
        if name not in self._held:
            remembered = self._remembered.get(name)
            held = _bound(remembered, shared=True) if remembered is not None else None
            self._keep(name, held if held is not None else _any_free())
        return Endpoint(port=self._port(name))

    def is_taken(self, name: str) -> bool:
        """Whether somebody listens on the held port."""
        probe = _bound(self._port(name), shared=True)
        if probe is not None:
            probe.close()
        return probe is None

    def replace(self, name: str) -> Endpoint:
        """Gives up the port of that name for a free one."""
        replacement = _any_free()
        self._held.pop(name).close()
        self._keep(name, replacement)
        return self.hold(name)

    def close(self) -> None:
        for held in self._held.values():
            held.close()
        self._held.clear()

    def _port(self, name: str) -> int:
        return self._held[name].getsockname()[1]

    def _keep(self, name: str, held: socket.socket) -> None:
        self._held[name] = held
        port = self._port(name)
        if self._remembered.get(name) != port:
            self._remembered[name] = port
            if self._file is not None:
                write_json(self._file, self._remembered)


def _remembered(file: Path) -> dict[str, int]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _any_free() -> socket.socket:
    for _ in range(_ATTEMPTS):
        held = _bound(_FIRST + secrets.randbelow(_LAST - _FIRST), shared=False)
        if held is not None:
            return held
    raise OSError(errno.EADDRINUSE, f"no free loopback port found in {_ATTEMPTS} attempts")


def _bound(port: int, *, shared: bool) -> socket.socket | None:
    """A bound socket, or None if the port is taken.

    Unshared, anything bound there counts. Shared, only a listener does: connections in TIME_WAIT from the last run and
    our own hold do not.
    """
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if shared:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((LOOPBACK, port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError as failure:
        held.close()
        if failure.errno == errno.EADDRINUSE:
            return None
        raise
    return held
