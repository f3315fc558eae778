"""The `pulse` command as a user runs it: a process, its output, its exit code."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PULSE = str(Path(sys.executable).with_name("pulse"))
_STARTS_WITHIN_S = 60
_ENDS_WITHIN_S = 120
"""Tests run twenty commands at once, each of them a second of CPU on a quiet machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value that was printed."""
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A `pulse up` in the foreground of nobody."""

    pid: int
    data: Path
    announced: dict[str, Any]
    ended: asyncio.Future[Said] = field(repr=False)
    """What it came to: its whole output."""

    async def pulse(self, *arguments: str) -> Said:
        """Run a command against this stack."""
        return await pulse(*arguments, "--data", str(self.data))


async def pulse(*arguments: str, cwd: Path | None = None) -> Said:
    """Run a command to its end."""
    process = await _start(*arguments, cwd=cwd)
    out, err = await asyncio.wait_for(process.communicate(), _ENDS_WITHIN_S)
    assert process.returncode is not None
    return Said(code=process.returncode, out=out.decode(), err=err.decode())


@asynccontextmanager
async def pulse_up(data: Path) -> AsyncGenerator[Running, None]:
    """Yield a stack that `pulse up` runs; it is interrupted and has ended afterwards."""
    process = await _start("up", "--data", str(data), "--json")
    assert process.stdout
    ended: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
    line = b""
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _STARTS_WITHIN_S)
        yield Running(pid=process.pid, data=data, announced=json.loads(line), ended=ended)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), _ENDS_WITHIN_S)
        ended.set_result(Said(code=process.returncode or 0, out=(line + out).decode(), err=err.decode()))


async def _start(*arguments: str, cwd: Path | None = None) -> asyncio.subprocess.Process:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PULSE_")}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(PULSE, *arguments, stdout=pipe, stderr=pipe, cwd=cwd, env=ours)
