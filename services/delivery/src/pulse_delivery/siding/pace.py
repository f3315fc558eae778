"""The pace of probes: they yield to whatever else the process has to do, tenants in turn (ADR 0021).

A probe of a destination that failed costs as much as a delivery and mostly brings nothing. They begin one after the
other, so far apart that the event loop comes round in between, and further apart while the loop is late: a crowd of
dead destinations takes what is left of the processor, and no message of a healthy one waits behind it. One that is no
waste lets the next begin at once, so a crowd that has healed is found as fast as it answers.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pulse_contracts.ids import TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_runtime.clock import Clock

_APART_S: Final = 0.025
_YIELD: Final = 10.0
"""So many times as long as the loop was late no probe begins …"""
_LONGEST_S: Final = 0.1
"""… but no longer than this, however long the process stood still."""
_LOOK_S: Final = 1.0
"""So soon one who waits notices that it is called off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    called: asyncio.Future[bool]
    is_called_off: Callable[[], bool]


class ProbePace:
    """Says when a turn may begin to try a destination that has failed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: OrderedDict[TenantId, OrderedDict[RouteAddress, _Waiting]] = OrderedDict()
        """Who waits, by tenant; whose probe began longest ago comes first."""
        self._next_at = float("-inf")
        self._looked_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait for their moment."""
        return sum(map(len, self._lines.values()))

    async def wait(self, address: RouteAddress, is_called_off: Callable[[], bool]) -> bool:
        """Wait for the moment of a probe; False if it is called off before."""
        now = self._clock.monotonic()
        if not self._lines and now >= self._next_at:
            self._next_at = now + _APART_S
            return True
        called: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(called=called, is_called_off=is_called_off)
        self._lines.setdefault(address.tenant, OrderedDict())[address] = waiting
        if self._timer is None:
            self._call_in(max(0.0, self._next_at - now))
        try:
            return await called
        finally:
            line = self._lines.get(address.tenant)
            if called.cancelled() and line and line.get(address) is waiting:
                self._step_out(address)

    def was_no_waste(self) -> None:
        """Let the next one begin: a message waits no longer."""
        if self._lines:
            self._call_one()
        else:
            self._next_at = float("-inf")

    def _step_out(self, address: RouteAddress) -> None:
        line = self._lines[address.tenant]
        del line[address]
        if not line:
            del self._lines[address.tenant]

    def _call_in(self, seconds: float) -> None:
        self._next_at = self._clock.monotonic() + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        now = self._clock.monotonic()
        late_s = max(0.0, now - self._next_at)
        self._timer = None
        if now - self._looked_at >= _LOOK_S:
            # One looks for all: of a thousand that wait each would wake every second.
            self._looked_at = now
            self._dismiss_called_off()
        if self._lines:
            self._call_one()
            self._call_in(min(_APART_S + _YIELD * late_s, _LONGEST_S))

    def _call_one(self) -> None:
        while self._lines:
            tenant, line = self._lines.popitem(last=False)
            _, waiting = line.popitem(last=False)
            if line:
                self._lines[tenant] = line
            # One that is cancelled may not have stepped out yet.
            if not waiting.called.done():
                waiting.called.set_result(True)
                return

    def _dismiss_called_off(self) -> None:
        every = [each for line in self._lines.values() for each in line.items()]
        for address, waiting in every:
            if not waiting.called.done() and waiting.is_called_off():
                self._step_out(address)
                waiting.called.set_result(False)
