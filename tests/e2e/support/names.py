"""A name service of a test's own, which the processes that it is given to ask, and which fails on command."""

import ssl
from pathlib import Path
from typing import Final

from support.certificates import issue_certificate

ZONE: Final = "names.pulse.example"
ADDRESS: Final = "127.77.53.9"
"""Of everything in the zone: on loopback, and nobody else's."""
PORT: Final = 8443
_HOOK: Final = f'''"""Asks the test's name service for what is in its zone; see tests/e2e/support/names.py."""

import pathlib
import socket

_system = socket.getaddrinfo
_down = pathlib.Path(__file__).with_name("down")


def _getaddrinfo(host, *more, **named):
    if isinstance(host, str) and host.endswith(".{ZONE}"):
        if _down.exists():
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        host = "{ADDRESS}"
    return _system(host, *more, **named)


socket.getaddrinfo = _getaddrinfo
'''


class NameService:
    """Stands in front of the system's resolver, which needs root to be pointed elsewhere, in Python's own start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "sitecustomize.py").write_text(_HOOK, encoding="utf-8")
        issue_certificate(folder, f"*.{ZONE}")

    @property
    def variables(self) -> dict[str, str]:
        """For the environment of a process that shall ask it, and trust the destinations in the zone."""
        return {"PYTHONPATH": str(self._folder), "SSL_CERT_FILE": str(self._folder / "ca.crt")}

    @property
    def tls(self) -> ssl.SSLContext:
        """What a destination in the zone shows."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
        return context

    def url(self, name: str, path: str) -> str:
        return f"https://{name}.{ZONE}:{PORT}{path}"

    def fail(self) -> None:
        """Give no answers, as servers that cannot be reached."""
        (self._folder / "down").touch()

    def mend(self) -> None:
        (self._folder / "down").unlink()
