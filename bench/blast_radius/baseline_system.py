"""A baseline as a system under test: one process, restarted after every round."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Final

from blast_radius.receiving import BENCH
from blast_radius.systems import Account
from blast_radius.world import TYPE, Strand

_STARTS_WITHIN_S: Final = 30.0


class Baseline:
    """Runs one kind of baseline on an empty folder."""

    def __init__(self, kind: str, folder: Path, strands: Sequence[Strand]) -> None:
        self._kind = kind
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0
        self.strands = [replace(strand, token=token_hex(16)) for strand in strands]

    @property
    def name(self) -> str:
        return self._kind

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def pids(self) -> Mapping[str, int]:
        return {self._kind: self._process.pid} if self._process else {}

    async def settle(self, heal: Callable[[], Awaitable[None]]) -> None:
        """Restart: what only the process knew is forgotten, as it would be by any restart during the trouble."""
        await self.stop()
        await heal()
        await self.start()

    async def account(self) -> Account:
        ids = (self._folder / "dead_letters.log").read_text(encoding="ascii").split()
        return Account(dead_lettered=frozenset(ids), waiting=frozenset())

    async def start(self) -> None:
        (self._folder / "strands.json").write_text(json.dumps([_described(s) for s in self.strands]), encoding="utf-8")
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "blast_radius.baselines", self._kind, str(self._folder)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(BENCH)},
        )
        assert self._process.stdout
        line = await asyncio.wait_for(self._process.stdout.readline(), _STARTS_WITHIN_S)
        self._port = json.loads(line)["port"]

    async def stop(self) -> None:
        """Kill it; it may be down already."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def open_baseline(kind: str, data: Path, strands: Sequence[Strand]) -> AsyncGenerator[Baseline, None]:
    """Yield a baseline on the folder *data*, which does not exist yet."""
    data.mkdir(parents=True)
    baseline = Baseline(kind, data, strands)
    try:
        await baseline.start()
        yield baseline
    finally:
        await baseline.stop()


def _described(strand: Strand) -> dict[str, str]:
    topic = f"tenant/{strand.tenant}/device/{strand.device}/{TYPE}"
    return {
        "tenant": strand.tenant,
        "device": strand.device,
        "token": strand.token,
        "topic": topic,
        "url": strand.url,
    }
