"""Memory, descriptors and processor time of processes, from ``/proc``."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_INTERVAL_S: Final = 1.0
_MIB: Final = 1024 * 1024
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True, kw_only=True)
class Usage:
    """The most that a process used within a round."""

    rss_mib: float = 0.0
    descriptors: int = 0
    sockets: int = 0
    cpu_s: float = 0.0
    """Within the round."""


@dataclass(slots=True, kw_only=True)
class Load:
    """What was used within a round."""

    usages: Mapping[str, Usage]
    """By process of the system under test."""
    idle_share: float = 0.0
    """Of all processors' time: what nobody used, of the bench or else."""


@asynccontextmanager
async def watching(pids: Callable[[], Mapping[str, int]]) -> AsyncGenerator[Load, None]:
    """Look at the processes about once a second within the block; what is yielded is complete after it."""
    before = {name: _cpu_s(pid) for name, pid in pids().items()}
    idle_before, began = _idle_s(), time.monotonic()
    usages = {name: Usage() for name in before}
    load = Load(usages=usages)

    def look() -> None:
        for name, pid in pids().items():
            # A process may end while it is looked at.
            with suppress(OSError):
                _look_at(pid, usages[name])

    async def keep_looking() -> None:
        while True:
            look()
            await asyncio.sleep(_INTERVAL_S)

    watcher = asyncio.create_task(keep_looking(), name="bench.watch")
    try:
        yield load
    finally:
        watcher.cancel()
        await asyncio.wait({watcher})
        look()
        for name, pid in pids().items():
            usages[name].cpu_s = round(_cpu_s(pid) - before[name], 2)
        seconds = (time.monotonic() - began) * (os.cpu_count() or 1)
        load.idle_share = round((_idle_s() - idle_before) / seconds, 3)


def _look_at(pid: int, usage: Usage) -> None:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    open_files = list(Path(f"/proc/{pid}/fd").iterdir())
    usage.rss_mib = max(usage.rss_mib, round(pages * _PAGE_BYTES / _MIB, 1))
    usage.descriptors = max(usage.descriptors, len(open_files))
    usage.sockets = max(usage.sockets, sum(map(_is_socket, open_files)))


def _is_socket(open_file: Path) -> bool:
    # It may be closed by now.
    with suppress(OSError):
        return os.readlink(open_file).startswith("socket:")  # noqa: PTH115 - no path: ``socket:[4711]``
    return False


def _idle_s() -> float:
    """Return the idle time of all processors together."""
    first_line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    return int(first_line.split()[4]) / _TICKS_PER_S


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
