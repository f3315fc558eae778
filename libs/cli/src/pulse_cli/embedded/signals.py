"""Turns the usual ways of asking a program to stop into one cancellation."""

import asyncio
import contextlib
import signal
from collections.abc import Generator

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def cancelled_by_signals() -> Generator[None]:
    """Within the block SIGINT, SIGTERM and SIGHUP cancel the current task, at whatever it awaits.

    Only the first one does: an impatient second Ctrl-C does not break into the ordered stop.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("signals cancel a task, and there is none")
    loop = asyncio.get_running_loop()
    cancelled = False

    def cancel() -> None:
        nonlocal cancelled
        if not cancelled:
            cancelled = True
            task.cancel()

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, cancel)
    try:
        yield
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
