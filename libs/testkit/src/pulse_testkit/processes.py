"""Processes that are made to fail from outside: frozen, or betrayed by the kernel."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from pulse_testkit.faults import FaultUnavailable, program

_MARKS: Final = ("(INJECTED)", "(DELAYED)")
"""How strace notes a call that it made fail, and one that it held up."""
_ATTACHED: Final = b"attached"
_ATTACHES_WITHIN_S: Final = 10.0
_STOPS_WITHIN_S: Final = 5.0
_POLL_S: Final = 0.002


@asynccontextmanager
async def frozen(pid: int) -> AsyncGenerator[None, None]:
    """Stop a process within the block; it is alive, keeps its sockets open and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(_STOPS_WITHIN_S):
            while not is_frozen(pid):  # noqa: ASYNC110 - the kernel tells
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        with suppress(ProcessLookupError):  # it was killed meanwhile
            os.kill(pid, signal.SIGCONT)


def is_frozen(pid: int) -> bool:
    """Whether the kernel says that the process is stopped."""
    return _status(pid, "State").startswith(("T", "t"))


def resident_mib(pid: int) -> float:
    """Return how much memory a process has, in MiB; 0 if it is gone."""
    return int((_status(pid, "VmRSS") or "0").split()[0]) / 1024


def open_sockets(pid: int) -> int:
    """Count the sockets of a process; 0 if it is gone."""
    try:
        return sum(str(handle.readlink()).startswith("socket:") for handle in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it, or one of its descriptors, went meanwhile
        return 0


class Injection:
    """System calls of another process that fail on command. Made by `injected`."""

    def __init__(self, log: Path) -> None:
        self._log = log

    @property
    def count(self) -> int:
        """How often it has happened: a fault that never did proves nothing."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return sum(text.count(mark) for mark in _MARKS)


@asynccontextmanager
async def injected(pid: int, inject: str, *, log: Path) -> AsyncGenerator[Injection, None]:
    """Attach strace to a process within the block, with ``inject`` as in ``strace -e inject=…``.

    For instance ``fsync:error=EIO:when=3`` or ``fsync:delay_enter=300000`` (microseconds). Raises `FaultUnavailable`
    where strace is not installed or may not attach.
    """
    call = inject.partition(":")[0]
    command = ("-f", "-p", str(pid), "-e", f"trace={call}", "-e", f"inject={inject}", "-o", str(log))
    process = await asyncio.create_subprocess_exec(
        program("strace"), *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        await _until_attached(process)
        yield Injection(log)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)  # on which it detaches and lets the process go on
        await process.wait()


async def _until_attached(process: asyncio.subprocess.Process) -> None:
    if process.stderr is None:
        raise RuntimeError("strace was started without a pipe")
    line = await asyncio.wait_for(process.stderr.readline(), _ATTACHES_WITHIN_S)
    if _ATTACHED not in line:
        raise FaultUnavailable(f"strace cannot attach: {line.decode(errors='replace').strip()}")


def _status(pid: int, name: str) -> str:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(f"{name}:")), "")
