"""What the fault tools share: some need privileges or programs that a machine may not have."""

import asyncio
import os
import shutil
from typing import Final

_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
_ENDS_WITHIN_S: Final = 30.0


class FaultUnavailable(Exception):
    """A fault that this machine cannot be made to have; the message says why, and a test skips with it."""


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
    """Run a command of the system to its end; raises `FaultUnavailable` with what it said if it fails."""
    path = program(command[0])
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(path, *command[1:], stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    said, _ = await asyncio.wait_for(process.communicate(), _ENDS_WITHIN_S)
    if process.returncode != 0:
        raise FaultUnavailable(f"{' '.join(command)}: {said.decode(errors='replace').strip()}")
