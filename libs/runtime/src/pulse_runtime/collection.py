"""When the garbage collector looks through everything: seldom, and not in the middle of a burst (ADR 0020)."""

import gc
from collections.abc import Callable
from typing import Final

from pulse_runtime.clock import Clock

_EVERY_S: Final = 600.0
_NEVER: Final = 1_000_000
"""Collections of the middle generation until a full one: some seven thousand million objects more made than freed."""


def collect_seldom() -> None:
    """Take what is there now out of the collector's sight, and let it begin no full collection by itself.

    A full collection stops the event loop: for 150 ms with what a start makes, for 37 ms without it, beside 180 routes
    in trouble. It came every few seconds there, because it comes once a quarter more objects have grown old. The
    younger generations are collected as ever; what little outlives them in cycles waits for `collect_now_and_then`.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)


async def collect_now_and_then(clock: Clock, collect: Callable[[], object] = gc.collect) -> None:
    """Collect fully every ten minutes until cancelled."""
    while True:
        await clock.sleep(_EVERY_S)
        collect()
