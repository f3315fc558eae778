"""Serves the HTTP edge inside the service's own event loop."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import uvicorn
from starlette.applications import Starlette

from pulse_runtime.listening import KEEP_ALIVE_S, listen
from pulse_runtime.refusal import StartRefused

DRAIN_S: Final = 10
_BACKLOG: Final = 2048


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has an owner for them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A port that is served."""

    port: int
    task: "asyncio.Task[None]"

    @property
    def trouble(self) -> str | None:
        """Why nothing is served any more, or None."""
        return "the HTTP server has ended" if self.task.done() else None


@asynccontextmanager
async def serve(application: Starlette, host: str, port: int) -> AsyncGenerator["Listener", None]:
    """Yield the listener that serves *application*; leaving answers what is in flight, at most 10 s."""
    try:
        listening = listen(host, port, backlog=_BACKLOG)
    except OSError as exc:
        raise StartRefused(f"cannot serve HTTP on {host} port {port}: {exc.strerror or exc}") from exc
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        http="httptools",
        h11_max_incomplete_event_size=None,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name="ingest.http")
    try:
        yield Listener(port=int(listening.getsockname()[1]), task=task)
    finally:
        server.should_exit = True
        await task
