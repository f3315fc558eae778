"""Cancellations that something swallowed on their way."""

import asyncio


def heed_cancellation() -> None:
    """Raise `CancelledError` if this task has been asked to end and goes on all the same.

    Before Python 3.12 `asyncio.wait_for`, on which aiomqtt waits, swallows a cancellation that meets the answer; so
    does a `TaskGroup` that is ending because of an error. Who goes on for ever asks here after each such wait.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
