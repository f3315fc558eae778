"""Finds processes by the folder that they work on."""

import os
from pathlib import Path


def processes_naming(folder: Path) -> list[int]:
    """Return the processes, ours excepted, whose command line names *folder* or that have a file in it open."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                named = os.fsencode(folder) in (entry / "cmdline").read_bytes()
                open_here = any(handle.readlink().is_relative_to(folder) for handle in (entry / "fd").iterdir())
            except OSError:
                continue
            if named or open_here:
                found.append(int(entry.name))
    return found
