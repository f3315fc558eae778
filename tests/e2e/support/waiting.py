"""Waiting for what another process does: bounded, and never longer than needed."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Sized
from typing import Any, TypeVar, overload

T = TypeVar("T")

LONG_S = 20.0
"""Enough for what takes a second alone, beside another test on two slow cores; a feed heals what it missed after 30."""
_POLL_S = 0.05


@overload
async def eventually(
    look: Callable[[], Awaitable[T]],
    timeout_s: float = LONG_S,
    *,
    what: str = "",
    until: Callable[[T], object] = bool,
) -> T: ...
@overload
async def eventually(
    look: Callable[[], T], timeout_s: float = LONG_S, *, what: str = "", until: Callable[[T], object] = bool
) -> T: ...
async def eventually(
    look: Callable[[], Any],
    timeout_s: float = LONG_S,
    *,
    what: str = "",
    until: Callable[[Any], object] = bool,
) -> Any:
    """Return what *look* returns once *until* holds for it; fails with the last answer after *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = look()
        if inspect.isawaitable(value):
            value = await value
        if until(value):
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'it'} did not happen within {timeout_s:g} s; last seen: {value!r}")
        await asyncio.sleep(_POLL_S)


def are(number: int) -> Callable[[Sized], bool]:
    """Whether there are as many, or more."""
    return lambda found: len(found) >= number
