"""The bench's side of the receivers: starts their process, changes tempers, keeps what they saw."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from blast_radius.tempers import Temper

BENCH: Final = Path(__file__).parents[1]
_LONGEST_LINE: Final = 64 * 1024 * 1024
_ANSWERS_WITHIN_S: Final = 30.0


class Receivers:
    """All receivers of a bench, and everything they have seen so far."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port
        self.pid = process.pid
        self.arrived_at: dict[str, float] = {}
        """When each message came to its receiver first, whatever was answered."""
        self.accepted: Counter[str] = Counter()
        """How often each message was answered with success."""

    async def become(self, tempers: Mapping[int, Temper]) -> None:
        """Change the tempers of some receivers."""
        await _ask(self._process, {"become": {str(index): temper for index, temper in tempers.items()}})

    async def look(self) -> None:
        """Take over what happened since the last look."""
        news = await _ask(self._process, {"take": True})
        for message_id, at in news["arrived"]:
            self.arrived_at.setdefault(message_id, at)
        self.accepted.update(news["accepted"])


@asynccontextmanager
async def open_receivers(count: int) -> AsyncGenerator[Receivers, None]:
    """Yield *count* calm receivers in a process that ends with the block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "blast_radius.receivers", str(count)),
        stdin=pipe,
        stdout=pipe,
        env={**os.environ, "PYTHONPATH": str(BENCH)},
        limit=_LONGEST_LINE,
    )
    try:
        yield Receivers(process, (await _read(process))["port"])
    finally:
        if process.stdin:
            process.stdin.close()
        await process.wait()


async def _ask(process: asyncio.subprocess.Process, command: Mapping[str, Any]) -> dict[str, Any]:
    assert process.stdin
    process.stdin.write(json.dumps(command).encode() + b"\n")
    await process.stdin.drain()
    return await _read(process)


async def _read(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout
    line = await asyncio.wait_for(process.stdout.readline(), _ANSWERS_WITHIN_S)
    return json.loads(line)
