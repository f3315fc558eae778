"""Finds processes, by the folder that they work on or by who started them."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def processes_naming(folder: Path) -> list[int]:
    """Return the processes, ours excepted, that name *folder* when called, work in it or have a file in it open.

    PostgreSQL's children name it nowhere and may have no file of it open, but they stay in their cluster's folder.
    """
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _works_on(entry, folder)
    ]


def _works_on(process: Path, folder: Path) -> bool:
    try:
        if os.fsencode(folder) in (process / "cmdline").read_bytes():
            return True
        return any(link.readlink().is_relative_to(folder) for link in (process / "cwd", *(process / "fd").iterdir()))
    except OSError:
        return False


def children(pid: int) -> set[int]:
    """Return all descendants of a process, by /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def connected_from(port: int, pids: Iterable[int]) -> int | None:
    """Return which of the processes has the connection whose own end is that port of 127.0.0.1, None if none has."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
    ours = f"0100007F:{port:04X}"
    sockets = {f"socket:[{fields[9]}]" for line in lines if (fields := line.split())[1] == ours}
    return next((pid for pid in pids if sockets & _descriptors(pid)), None)


def _descriptors(pid: int) -> set[str]:
    found: set[str] = set()
    with suppress(OSError):  # the process is gone
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # it was closed meanwhile
                found.add(str(handle.readlink()))
    return found


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def command_line(pid: int) -> str:
    """Return how a process was called; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
