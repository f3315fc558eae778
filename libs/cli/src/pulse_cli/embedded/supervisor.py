"""Starts children in order, restarts the ones that die, stops them in reverse order."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import structlog

from pulse_cli.embedded.errors import ChildFailed, ChildNotReady, EmbeddedError
from pulse_cli.embedded.files import tail
from pulse_cli.embedded.process import Child

_log = structlog.stdlib.get_logger()

CHILD_STARTED = "child_started"
CHILD_DIED = "child_died"
CHILD_RESTART_FAILED = "child_restart_failed"
CHILD_STOPPED = "child_stopped"

_POLL_S = 0.03
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_STABLE_AFTER_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How to bring up one child, again and again."""

    name: str
    prepare: Callable[[], Awaitable[None]]
    """Runs before every spawn; idempotent."""
    spawn: Callable[[], Child]
    is_ready: Callable[[Child], Awaitable[bool]]
    """Answers for this very child, never for a stranger on its port; bounded by itself."""
    ready_timeout_s: float = 30.0
    stop_steps: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 10.0),)
    """Signals with the seconds each is given; SIGKILL follows by itself."""


class _Supervised:
    """One spec, its current child, and the task that keeps it alive."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.child: Child | None = None
        self.watcher: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    async def bring_up(self) -> Child:
        """Spawns it and returns once it is ready; after any failure the child, if there was one, is gone."""
        self.ready.clear()
        await self.spec.prepare()
        child = self.child = self.spec.spawn()
        try:
            await _until_ready(self.spec, child)
        except BaseException:
            await _finished(child.stop(*self.spec.stop_steps))
            raise
        self.ready.set()
        _log.info(CHILD_STARTED, child=self.spec.name, pid=child.pid)
        return child

    async def keep_up(self, child: Child) -> None:
        """Restarts it for ever, at most every 5 s when it keeps dying."""
        loop = asyncio.get_running_loop()
        backoff_s = _FIRST_BACKOFF_S
        while True:
            since = loop.time()
            status = await child.wait()
            self.ready.clear()
            _log.warning(CHILD_DIED, child=self.spec.name, pid=child.pid, status=status)
            if loop.time() - since > _STABLE_AFTER_S:
                backoff_s = _FIRST_BACKOFF_S
            child, backoff_s = await self._restart(backoff_s)

    async def _restart(self, backoff_s: float) -> tuple[Child, float]:
        while True:
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
            try:
                return await self.bring_up(), backoff_s
            except (EmbeddedError, OSError) as failure:
                _log.warning(CHILD_RESTART_FAILED, child=self.spec.name, error=str(failure), retry_in_s=backoff_s)

    async def take_down(self, *, crash: bool = False) -> None:
        if self.watcher is not None:
            self.watcher.cancel()
            await asyncio.wait((self.watcher,))
        self.ready.clear()
        if self.child is not None:
            status = await self.child.stop(*(() if crash else self.spec.stop_steps))
            _log.info(CHILD_STOPPED, child=self.spec.name, pid=self.child.pid, status=status)


class Supervisor:
    """Owns children for the time of an `async with` block.

    Whatever ends the block, at whatever point of a start, every child is stopped, last started first. The stop is
    bounded by the stop steps and a cancellation does not shorten it.
    """

    def __init__(self) -> None:
        self._supervised: dict[str, _Supervised] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await _finished(self._stop_all())

    async def start(self, spec: ChildSpec) -> Child:
        """Returns once the child is ready; from then on it is restarted when it dies.

        Raises ChildFailed if it ends before that and ChildNotReady if it takes too long; then it is not supervised.
        """
        if spec.name in self._supervised:
            raise ValueError(f"a child named {spec.name} is supervised already")
        supervised = self._supervised[spec.name] = _Supervised(spec)
        try:
            child = await supervised.bring_up()
        except BaseException:
            del self._supervised[spec.name]
            raise
        self._watch(supervised, child)
        return child

    def pid(self, name: str) -> int:
        """The process id of the current child, which may be dead and about to be replaced."""
        return self._child(name).pid

    def kill(self, name: str) -> int:
        """Kills it as a crash would; the restart follows by itself. Returns the pid that died."""
        child = self._child(name)
        # Cleared here, not by the watcher: `until_ready` right after `kill` must wait for the successor.
        self._supervised[name].ready.clear()
        child.send(signal.SIGKILL)
        return child.pid

    async def restart(self, name: str) -> Child:
        """Stops it in an orderly way and starts it again; returns once it is ready.

        If the start fails or is cancelled the child is down and stays down until the next `restart`.
        """
        supervised = self._supervised[name]
        await _finished(supervised.take_down())
        child = await supervised.bring_up()
        self._watch(supervised, child)
        return child

    async def stop(self, name: str) -> None:
        """Stops it in an orderly way; it stays down until `restart`."""
        await _finished(self._supervised[name].take_down())

    @asynccontextmanager
    async def down(self, name: str) -> AsyncGenerator[int, None]:
        """Kills it as a crash would and keeps it down within the block; it is up and ready again after it.

        Yields the pid that died; the process is gone by then, also if it was frozen.
        """
        supervised = self._supervised[name]
        pid = self.pid(name)
        await _finished(supervised.take_down(crash=True))
        try:
            yield pid
        finally:
            self._watch(supervised, await supervised.bring_up())

    async def until_ready(self, name: str) -> None:
        """Waits until the child is up (again)."""
        await self._supervised[name].ready.wait()

    def _watch(self, supervised: _Supervised, child: Child) -> None:
        name = supervised.spec.name
        supervised.watcher = asyncio.create_task(supervised.keep_up(child), name=f"supervisor[{name}].watch")

    def _child(self, name: str) -> Child:
        child = self._supervised[name].child
        if child is None:
            raise RuntimeError(f"{name} has not been spawned yet")
        return child

    async def _stop_all(self) -> None:
        while self._supervised:
            _, supervised = self._supervised.popitem()  # the last one first
            await supervised.take_down()


async def _until_ready(spec: ChildSpec, child: Child) -> None:
    try:
        async with asyncio.timeout(spec.ready_timeout_s):
            while child.status is None and not await spec.is_ready(child):  # noqa: ASYNC110 - another process tells
                await asyncio.sleep(_POLL_S)
    except TimeoutError as exc:
        log_tail = tail(child.command.log)
        raise ChildNotReady(spec.name, timeout_s=spec.ready_timeout_s, log_tail=log_tail) from exc
    if child.status is not None:
        raise ChildFailed(spec.name, status=child.status, log_tail=tail(child.command.log))


async def _finished(work: Coroutine[Any, Any, Any]) -> None:
    """Awaits the work to its end, whatever happens to the caller; a cancellation is raised afterwards."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled
    task.result()
