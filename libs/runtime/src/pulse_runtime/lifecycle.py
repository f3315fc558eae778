"""The life of a process: every task has an owner, every stop has one written order.

`main` connects, spawns its tasks, registers how to undo each step, and returns. From then on the process runs until a
signal arrives or a task fails; then the registered steps run in reverse, each bounded in time and all of them together
by `Lifecycle.stop_bound_s`, and what is left is cancelled.

| what happens                                    | exit code |
|-------------------------------------------------|-----------|
| SIGTERM or SIGINT, or `stop`                    | 0         |
| `main` or an owned task failed                  | 1         |
| `main` raised `StartRefused`                    | 2         |
| a second signal: ends at once, nothing drained  | 128 + n   |
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from pulse_runtime import events, failpoints
from pulse_runtime.logging import configure, get_logger
from pulse_runtime.refusal import StartRefused

T = TypeVar("T")

_log = get_logger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_CANCEL_GRACE_S: Final = 2.0
"""How long a cancelled task or stop step may still take to clean up."""
_CLOSE_STEP_S: Final = 5.0
"""What a step may take that only closes something."""
_CLOSING_S: Final = 8.0
"""What all those steps may take together: a healthy one is done at once, and if many hang waiting helps nobody."""
CLOSING_BOUND_S: Final = _CLOSING_S + 2 * _CANCEL_GRACE_S
"""What stopping may take beyond the time of the steps that wait for work: the last of them, and then the tasks, may
still clean up."""

FAILED: Final = 1
REFUSED: Final = 2


class TaskReturned(Exception):
    """An essential task came to its end while the process was meant to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _StopStep:
    name: str
    callback: Callable[[], Awaitable[None]]
    work_s: float | None
    """Its own time, if it waits for work; None if it only closes something."""

    @property
    def timeout_s(self) -> float:
        return _CLOSE_STEP_S if self.work_s is None else self.work_s


class Lifecycle:
    """Owner of the tasks of one process and of the order in which it stops."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        """Set when the process begins to stop; never cleared."""
        self.exit_code = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._steps: list[_StopStep] = []
        self._closed = False

    def spawn(self, name: str, coro: Coroutine[Any, Any, T], *, essential: bool = True) -> asyncio.Task[T]:
        """Start a task that the process owns.

        An exception that leaves the task stops the process with exit code 1. So does any other end of an essential
        one, also by a cancellation that is not part of stopping; pass `essential=False` for what may come to an end.
        """
        if self._closed:
            coro.close()
            raise RuntimeError(f"cannot spawn {name}: the process has stopped")
        task = asyncio.create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, essential=essential))
        return task

    @property
    def stop_bound_s(self) -> float:
        """How long stopping may take at most, with the steps registered so far: a supervisor must wait longer."""
        return self._work_s + CLOSING_BOUND_S

    @property
    def _work_s(self) -> float:
        return sum(step.work_s for step in self._steps if step.work_s is not None)

    def on_stop(self, name: str, callback: Callable[[], Awaitable[None]], work_s: float | None = None) -> None:
        """Register a step of stopping; steps run in reverse order.

        One that waits for work names its time, which adds to `stop_bound_s`; those that only close something have five
        seconds each, and eight together. A step that fails or runs out of time is logged, and the next one runs. When
        the time of all is over those that are left do not run, which is logged too.
        """
        self._steps.append(_StopStep(name=name, callback=callback, work_s=work_s))

    def stop(self, reason: str) -> None:
        """Begin to stop; returns at once and may be called again."""
        if not self.stopping.is_set():
            _log.info(events.SERVICE_STOPPING, reason=reason)
            self.stopping.set()

    def fail(self, task: str, error: BaseException) -> None:
        """Log the failure of `task` and begin to stop with exit code 1."""
        _log.error(events.TASK_FAILED, task=task, exc_info=error)
        self.exit_code = FAILED
        self.stop(f"{task} failed")

    def refuse(self, refusal: StartRefused) -> None:
        """Log why the process does not start and begin to stop with exit code 2."""
        _log.error(events.START_REFUSED, error=str(refusal))
        self.exit_code = REFUSED
        self.stop("start refused")

    async def close(self) -> None:
        """Run the stop steps, then cancel what is left; bounded, and never raises what a step or task raised."""
        self.stopping.set()
        now = asyncio.get_running_loop().time
        ends = now() + self._work_s + _CLOSING_S
        while self._steps and (left_s := ends - now()) > 0:
            step = self._steps.pop()
            await self._take(step, min(step.timeout_s, left_s))
        if self._steps:
            _log.error(events.STOP_STEPS_SKIPPED, steps=[step.name for step in reversed(self._steps)])
            self._steps.clear()
        self._closed = True
        await _cancel(self._tasks)

    async def _take(self, step: _StopStep, timeout_s: float) -> None:
        task = asyncio.ensure_future(_call(step.callback))
        try:
            await asyncio.wait({task}, timeout=timeout_s)
        finally:
            on_time = task.done()
            await _cancel({task})
        if not on_time:
            _log.error(events.STOP_STEP_TIMED_OUT, step=step.name, timeout_s=round(timeout_s, 3))
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            _log.error(events.STOP_STEP_FAILED, step=step.name, exc_info=error)

    def _ended(self, task: asyncio.Task[Any], *, essential: bool) -> None:
        self._tasks.discard(task)
        name = task.get_name()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(name, error)
        elif essential and not self.stopping.is_set():
            how = "was cancelled" if task.cancelled() else "returned"
            self.fail(name, TaskReturned(f"{name} {how} while the process was running"))


async def run(main: Callable[[Lifecycle], Awaitable[None]], *, handle_signals: bool = True) -> int:
    """Run `main`, wait for the end, stop in order; return the exit code.

    A signal during `main` cancels it. What `main` had registered before it failed or was cancelled is undone as usual.
    Signals can only be handled in the main thread. If this coroutine itself is cancelled it stops in order, then
    raises `CancelledError`.
    """
    lifecycle = Lifecycle()
    with _signals_handled(lifecycle) if handle_signals else _no_signals_handled():
        failpoints.announce()
        try:
            await _set_up(lifecycle, main)
            await lifecycle.stopping.wait()
        finally:
            await lifecycle.close()
            _log.info(events.SERVICE_STOPPED, exit_code=lifecycle.exit_code)
    return lifecycle.exit_code


def run_process(main: Callable[[Lifecycle], Awaitable[None]], *, service: str = "pulse") -> int:
    """Run a service in a new event loop, uvloop's where present; meant for `sys.exit(run_process(main))`.

    Events before `main` configures logging appear under the name `service`.
    """
    if not structlog.is_configured():
        configure(service, "info")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(run(main))


async def _set_up(lifecycle: Lifecycle, main: Callable[[Lifecycle], Awaitable[None]]) -> None:
    setup = asyncio.create_task(_call(lambda: main(lifecycle)), name="main")
    stopped = asyncio.create_task(lifecycle.stopping.wait(), name="main.stopping")
    try:
        await asyncio.wait({setup, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancel({setup, stopped})
    _judge(lifecycle, setup)


def _judge(lifecycle: Lifecycle, setup: asyncio.Task[None]) -> None:
    if not setup.done() or setup.cancelled():
        if not lifecycle.stopping.is_set():
            lifecycle.fail("main", TaskReturned("main was cancelled before it returned"))
        return
    match setup.exception():
        case None:
            return
        case StartRefused() as refusal:
            lifecycle.refuse(refusal)
        case error:
            lifecycle.fail("main", error)


async def _call(callback: Callable[[], Awaitable[None]]) -> None:
    await callback()


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end, not longer than the grace; who is still there is named in the log."""
    pending = {task for task in tasks if not task.done()}
    if not pending:
        return
    for task in pending:
        task.cancel()
    _, abandoned = await asyncio.wait(pending, timeout=_CANCEL_GRACE_S)
    if abandoned:
        _log.error(events.TASKS_ABANDONED, tasks=sorted(task.get_name() for task in abandoned))


@contextmanager
def _signals_handled(lifecycle: Lifecycle) -> Generator[None]:
    loop = asyncio.get_running_loop()
    seen: set[int] = set()

    def handle(number: signal.Signals) -> None:
        if seen:
            sys.stderr.flush()
            os._exit(128 + number)
        seen.add(number)
        lifecycle.stop(number.name)

    for number in _SIGNALS:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


@contextmanager
def _no_signals_handled() -> Generator[None]:
    yield


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 -- no wheel for every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
