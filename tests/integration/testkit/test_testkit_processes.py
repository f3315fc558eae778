"""Processes fail from outside: frozen ones stand still, and the kernel betrays them when it is told to."""

import asyncio
import errno
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from pulse_testkit.faults import FaultUnavailable
from pulse_testkit.processes import frozen, injected, is_frozen, open_sockets, resident_mib

FSYNCS = """
import os, sys
with open(sys.argv[1], "w") as file:
    for line in sys.stdin:
        try:
            os.fsync(file.fileno())
            print("ok", flush=True)
        except OSError as exc:
            print(exc.errno, flush=True)
"""


class Victim:
    """A process that fsyncs when asked, and says what came of it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def fsync(self) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(b"go\n")
        return (await asyncio.wait_for(self.process.stdout.readline(), 10)).decode().strip()


@pytest.fixture
async def victim(tmp_path: Path) -> AsyncGenerator[Victim]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FSYNCS, str(tmp_path / "file"), stdin=pipe, stdout=pipe
    )
    made = Victim(process)
    assert await made.fsync() == "ok"
    yield made
    process.kill()
    await process.wait()


async def test_a_frozen_process_does_nothing_until_it_is_let_go(victim: Victim) -> None:
    async with frozen(victim.process.pid):
        assert is_frozen(victim.process.pid)
        answer = asyncio.create_task(victim.fsync())
        done, _ = await asyncio.wait({answer}, timeout=0.1)
        assert not done
    assert await answer == "ok"
    assert not is_frozen(victim.process.pid)


async def test_the_kernel_refuses_the_system_calls_it_was_told_to(victim: Victim, tmp_path: Path) -> None:
    try:
        async with injected(victim.process.pid, "fsync:error=EIO:when=2", log=tmp_path / "strace") as injection:
            assert [await victim.fsync() for _ in range(3)] == ["ok", str(errno.EIO), "ok"]
    except FaultUnavailable as exc:
        pytest.skip(str(exc))
    assert injection.count == 1
    assert await victim.fsync() == "ok"


async def test_the_kernel_holds_up_the_system_calls_it_was_told_to(victim: Victim, tmp_path: Path) -> None:
    began = time.monotonic()
    try:
        async with injected(victim.process.pid, "fsync:delay_enter=50000", log=tmp_path / "strace") as injection:
            assert [await victim.fsync() for _ in range(2)] == ["ok", "ok"]
    except FaultUnavailable as exc:
        pytest.skip(str(exc))
    assert injection.count == 2
    assert time.monotonic() - began > 2 * 0.05


async def test_memory_and_sockets_of_a_process_are_seen(victim: Victim) -> None:
    assert 1 < resident_mib(victim.process.pid) < 100
    assert open_sockets(victim.process.pid) == 0
