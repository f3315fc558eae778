"""One child process that cannot outlive its parent."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pulse_cli.embedded.errors import ChildFailed
from pulse_cli.embedded.files import tail

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: between fork and exec only calls that take no lock are safe.
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run."""

    name: str
    argv: Sequence[str]
    log: Path
    """Both outputs are appended here."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """The whole environment of the child; nothing is inherited."""
    inherit: Sequence[int] = ()
    """Descriptors that stay open in the child, such as the lock of its data folder."""
    death_signal: signal.Signals = signal.SIGTERM
    """Sent by the kernel when the parent dies, however it dies."""


class Child:
    """A running process.

    It has a process group of its own, so that Ctrl-C in a terminal reaches only the supervisor, which then stops the
    children in order. Thread rule: the kernel sends the death signal when the *thread* that forked ends, so `spawn`
    insists on the main thread.
    """

    def __init__(self, command: Command, process: subprocess.Popen[bytes]) -> None:
        self.command = command
        self._process = process
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        self._handle = os.pidfd_open(process.pid)
        loop.add_reader(self._handle, self._reap, loop)

    @classmethod
    def spawn(cls, command: Command) -> "Child":
        """Starts it without yielding to the loop: there is no moment at which a cancellation loses the process."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("children are spawned from the main thread only")
        with command.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - argv is ours
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(command.environment),
                pass_fds=tuple(command.inherit),
                process_group=0,
                preexec_fn=_dies_with_parent(command.death_signal),  # noqa: PLW1509 - one prctl, prepared before the fork
            )
        return cls(command, process)

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._ended.result() if self._ended.done() else None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; does nothing if the process ended (its pid is not reused before we reaped it)."""
        self._process.send_signal(number)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def stop(self, *steps: tuple[signal.Signals, float]) -> int:
        """Sends each signal and waits its seconds, then kills it with its process group. Returns the exit status."""
        for number, patience_s in steps:
            if self.status is not None:
                break
            self.send(number)
            await asyncio.wait((self._ended,), timeout=patience_s)
        if self.status is None:
            self._kill_group()
        return await self.wait()

    def _kill_group(self) -> None:
        # Not reaped yet, so the group still has our number.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _reap(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._handle)
        os.close(self._handle)
        self._ended.set_result(self._process.wait())


async def run(command: Command) -> None:
    """Runs a command to its end; raises ChildFailed on any status but 0. A cancellation kills it."""
    child = Child.spawn(command)
    try:
        status = await child.wait()
    finally:
        await child.stop()
    if status != 0:
        raise ChildFailed(command.name, status=status, log_tail=tail(command.log))


def _dies_with_parent(number: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()

    def set_death_signal() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number.value)
        if os.getppid() != parent:  # it died before the prctl took effect
            os._exit(1)

    return set_death_signal
