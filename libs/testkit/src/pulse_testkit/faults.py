"""What the fault tools share: some need privileges or programs that a machine may not have."""

import asyncio
import os
import shutil
from typing import Final

_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
_ENDS_WITHIN_S: Final = 30.0
_FORBIDDEN: Final = (
    "operation not permitted",
    "permission denied",
    "must be superuser",
    "loop device",
    "unknown filesystem type",
)
"""How the system says that it will never do it."""


class FaultUnavailable(Exception):
    """A fault that this machine cannot be made to have; the message says why, and a test skips with it."""


class CommandFailed(Exception):
    """A command of the system failed that it does not forbid: no reason to skip anything."""


def program(name: str) -> str:
    """Return the path of a program; raises `FaultUnavailable` if there is none."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise FaultUnavailable(f"{name} is not installed")
    return found


def require_root(purpose: str) -> None:
    """Raise `FaultUnavailable` unless we are root."""
    if os.geteuid() != 0:
        raise FaultUnavailable(f"{purpose} needs root")


async def run(*command: str) -> None:
    """Run a command of the system to its end.

    If it fails, raises `FaultUnavailable` where the system forbids it, otherwise `CommandFailed`, with what it said.
    """
    path = program(command[0])
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(path, *command[1:], stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    said, _ = await asyncio.wait_for(process.communicate(), _ENDS_WITHIN_S)
    if process.returncode != 0:
        failure = f"{' '.join(command)}: {said.decode(errors='replace').strip()}"
        is_forbidden = any(words in failure.lower() for words in _FORBIDDEN)
        raise FaultUnavailable(failure) if is_forbidden else CommandFailed(failure)
