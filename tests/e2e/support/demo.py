"""A `pulse demo` as a user runs it, and what can be seen of its world while it runs."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from support.waiting import eventually

from pulse_cli.target import NoTarget, find_target

PULSE = str(Path(sys.executable).with_name("pulse"))
_STARTS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a demo came to."""

    code: int
    out: str
    err: str

    @property
    def ledger(self) -> dict[str, Any]:
        assert self.out, self.err
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A demo in progress."""

    process: Process
    folder: Path
    """Its temporary one."""

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ended(self) -> Ended:
        """Return when it has ended; waits for that."""
        out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return Ended(code=self.process.returncode, out=out.decode(), err=err.decode())

    async def until_up(self) -> None:
        """Return when its stack is up, and announced in its folder."""
        await eventually(self._is_up, _STARTS_WITHIN_S, what="the stack of the demo")

    async def rows(self, statement: str) -> list[asyncpg.Record]:
        """Ask its PostgreSQL as the superuser, who sees every tenant's rows."""
        connection = await asyncpg.connect(find_target(self.folder).owner_url)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    async def mqtt_devices(self) -> set[str]:
        """Return the client ids of the devices that are connected to its broker."""
        monitor = json.loads((self.folder / "stack.json").read_text())["nats_monitor"]
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{monitor}/connz", params={"limit": 1000})
        ids = {connection.get("mqtt_client", "") for connection in answer.json()["connections"]}
        return {name.removeprefix("demo-") for name in ids if name.startswith("demo-") and "subscriber" not in name}

    def _is_up(self) -> bool:
        assert self.process.returncode is None, "it ended before it was up"
        try:
            find_target(self.folder)
        except NoTarget:
            return False
        return True


async def start_demo(clone: Path, *, failpoints: str | None = None, seconds: int = 6) -> Demo:
    """Start one in *clone*; returns when its temporary folder is made, and nothing else yet."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PULSE_")}
    if failpoints:
        environment["PULSE_FAILPOINTS"] = failpoints
    before = folders(clone)
    process = await asyncio.create_subprocess_exec(
        PULSE, "demo", "--seconds", str(seconds), "--json", cwd=clone, env=environment, stdout=PIPE, stderr=PIPE
    )
    [folder] = await eventually(lambda: folders(clone) - before, _STARTS_WITHIN_S, what="the demo's folder")
    return Demo(process=process, folder=folder)


def folders(clone: Path) -> set[Path]:
    """Return the temporary folders of the demos that run in *clone*."""
    return set((clone / ".pulse").glob("demo-*"))
