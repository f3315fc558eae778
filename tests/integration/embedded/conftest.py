import asyncio
import os
import select
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def closed_folder(tmp_path: Path) -> Path:
    """A folder that only its owner may enter, as /root is."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def processes_below() -> Callable[[Path], list[int]]:
    return _processes_below


@pytest.fixture
def all_gone() -> Callable[[Sequence[int]], bool]:
    """Whether the processes end by themselves within ten seconds each."""
    return lambda pids: all(_ends(pid) for pid in pids)


@pytest.fixture
async def program() -> AsyncGenerator[Callable[..., Awaitable[asyncio.subprocess.Process]]]:
    """Starts `embedded_program.py`, perhaps behind another command."""
    started: list[asyncio.subprocess.Process] = []

    async def start(*arguments: str, prefix: Sequence[str] = ()) -> asyncio.subprocess.Process:
        argv = [*prefix, sys.executable, str(HERE / "embedded_program.py"), *arguments]
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, process_group=0)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def _ends(pid: int) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 10)[0])
    finally:
        os.close(handle)


def _processes_below(folder: Path) -> list[int]:
    """Living processes that work in the folder, name it on their command line or have it open."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _uses(entry, folder)]


def _uses(process: Path, folder: Path) -> bool:
    if int(process.name) == os.getpid():
        return False
    try:
        used = [process.joinpath("cwd").readlink(), *(handle.readlink() for handle in (process / "fd").iterdir())]
        named = os.fsencode(folder) in (process / "cmdline").read_bytes()
    except OSError:
        return False
    return named or any(path.is_relative_to(folder) for path in used)
