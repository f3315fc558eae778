"""How late the event loop is, and where it was when it was very late."""

import faulthandler
import sys
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

from pulse_runtime.clock import Clock
from pulse_runtime.events import EVENT_LOOP_BLOCKED
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)

_INTERVAL_S: Final = 0.1
_RECENT: Final = 10
"""Samples that `lag_s` looks back on: about a second."""


class LoopWatchdog:
    """Measures how much later than asked the loop wakes a sleeper.

    One per process: the dump of stacks uses the interpreter's only timer for it.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        report: Callable[[float], None],
        dump_after_s: float = 5.0,
        dump_to: TextIO | None = None,
    ) -> None:
        """`report` receives the recent lag after each sample, for the gauge; `dump_to` must be a real file."""
        self._clock = clock
        self._report = report
        self._dump_after_s = dump_after_s
        self._dump_to = sys.stderr if dump_to is None else dump_to
        self._samples: deque[float] = deque(maxlen=_RECENT)
        self._total_s = 0.0
        self._due: float | None = None
        self._armed_at: float | None = None

    def lag_s(self) -> float:
        """The worst lag of the last second, the present one included, in seconds.

        Also right in the moment after the loop was blocked, before the watchdog itself ran again.
        """
        return max(self._overdue(), *self._samples, 0.0)

    def total_lag_s(self) -> float:
        """All lag since the start; the difference of two readings is what an age must be reduced by."""
        return self._total_s + self._overdue()

    async def run(self) -> None:
        """Sample until cancelled."""
        try:
            while True:
                self._arm()
                self._due = self._clock.monotonic() + _INTERVAL_S
                await self._clock.sleep(_INTERVAL_S)
                self._sample()
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._due = None

    def _overdue(self) -> float:
        return 0.0 if self._due is None else max(self._clock.monotonic() - self._due, 0.0)

    def _sample(self) -> None:
        lag = self._overdue()
        self._due = None
        self._samples.append(lag)
        self._total_s += lag
        self._report(self.lag_s())
        if lag >= self._dump_after_s:
            _log.warning(EVENT_LOOP_BLOCKED, blocked_s=round(lag, 3))

    def _arm(self) -> None:
        """Push the dump back; not on each sample, because each time costs a thread.

        So a block of `dump_after_s` is always caught, one of less than three quarters of it never.
        """
        now = self._clock.monotonic()
        if self._armed_at is not None and now - self._armed_at < self._dump_after_s / 4:
            return
        self._armed_at = now
        faulthandler.dump_traceback_later(self._dump_after_s, file=self._dump_to)
