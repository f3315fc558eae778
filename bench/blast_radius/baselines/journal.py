"""An append-only file that is fsynced: the baselines' storage."""

import asyncio
import os
from pathlib import Path


class Journal:
    """Appends records. Whatever comes while one fsync runs shares the next."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._came = asyncio.Event()

    async def append(self, record: bytes) -> None:
        """Return when *record* is on disk."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, done))
        self._came.set()
        await done

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._came.wait()
            self._came.clear()
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(self._write, b"".join(record + b"\n" for record, _ in batch))
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    def _write(self, data: bytes) -> None:
        os.write(self._file, data)
        os.fdatasync(self._file)
