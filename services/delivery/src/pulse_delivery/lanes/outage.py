"""An outage on this side: what cannot leave stays in hand till it is known whose trouble that is, and till it ends.

Such messages are held with in-progress signals, so they count towards what this process may hold: pulling slows to a
trickle at once and stops at the bound. The trickle finds out whether a route that nobody tried can be reached.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from pulse_contracts.outcome import Outcome, Reach
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.uplink import Uplink, reach_of
from pulse_runtime.clock import Clock
from pulse_runtime.events import OUTAGE_BEGAN, OUTAGE_ENDED
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import DeliveryMetrics

_log = get_logger(__name__)
_SUSPENSE_S: Final = 2.0
"""So long a message waits for the verdict, which falls when many fail at once: at the cost of its own route only."""
_LOOK_S: Final = 0.1
_PROBE_S: Final = 1.0
_PATIENCE_S: Final = 10.0
"""So long nothing may be taken before it is theirs, if nobody was reached since the start: about ten probes."""


class Verdict(Enum):
    THEIRS = auto()
    """The destination's own trouble, or none at all: what follows follows from the outcome."""
    PROBE = auto()
    """Try this message again: somebody has to find out whether the outage is over."""
    OVER = auto()
    """The outage is over: offer the message to its lane again."""


class Outage:
    """The outages of all kinds, as one process sees them."""

    def __init__(self, clock: Clock, metrics: DeliveryMetrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._uplinks: dict[str, Uplink] = {}
        self._down_since: dict[str, float] = {}
        self._waiting: dict[RouteAddress, deque[asyncio.Future[Verdict]]] = {}
        """The route picked longest ago first: one that is dead besides must not keep the others from probing."""
        self._ended_at: dict[str, float] = {}
        self._stalled_since: dict[str, float] = {}
        self._on_end: list[Callable[[], None]] = []
        self._draining = False

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call *callback* whenever an outage ends, before anything that was held goes on."""
        self._on_end.append(callback)

    def is_down(self, kind: str) -> bool:
        """Whether no destination of the kind can be reached from here."""
        return kind in self._down_since

    def ended_since(self, kind: str, moment: float) -> bool:
        """Whether an outage of the kind has ended after *moment*, in monotonic seconds."""
        return self._ended_at.get(kind, float("-inf")) > moment

    def note(self, address: RouteAddress, outcome: Outcome) -> None:
        """Take an outcome into account, of the fast lane or of a turn."""
        self._uplink(address.kind).note(address, outcome, self._clock.monotonic())
        self._follow(address.kind)

    def suspect(self, address: RouteAddress) -> None:
        """Count a route that has not answered for suspiciously long as cut off."""
        self._uplink(address.kind).suspect(address, self._clock.monotonic())
        self._follow(address.kind)

    def stalled(self, kind: str, *, is_stalled: bool) -> None:
        """Say, every tick, whether nothing more of a kind that is down can be taken.

        Then only what is held can be probed. If nobody of it was ever reached, all of it may be dead: it is theirs.
        """
        if not is_stalled:
            self._stalled_since.pop(kind, None)
            return
        now = self._clock.monotonic()
        if now - self._stalled_since.setdefault(kind, now) >= _PATIENCE_S and self._uplink(kind).give_up():
            del self._stalled_since[kind]
            self._follow(kind, Verdict.THEIRS)

    async def verdict(self, address: RouteAddress, outcome: Outcome | None) -> Verdict:
        """Say what becomes of a message whose attempt came to *outcome*; waits as long as an outage lasts.

        None stands for a message that was not tried because nobody can be reached.
        """
        if outcome is None:
            return await self._until_over(address)
        if reach_of(outcome) is not Reach.NOWHERE:
            return Verdict.THEIRS
        began = self._clock.monotonic()
        while not self.is_down(address.kind):
            if self._draining or self.ended_since(address.kind, began):
                return Verdict.OVER
            if self._clock.monotonic() - began >= _SUSPENSE_S:
                return Verdict.THEIRS
            await self._clock.sleep(_LOOK_S)
            self._uplink(address.kind).remains(address, began, self._clock.monotonic())
            self._follow(address.kind)
        return await self._until_over(address)

    async def _until_over(self, address: RouteAddress) -> Verdict:
        """Wait until the outage is over, or until the message is picked to find out."""
        if self._draining or not self.is_down(address.kind):
            return Verdict.OVER
        told: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, deque()).append(told)
        return await told

    async def run(self) -> None:
        """Pick a waiting message about once a second, of each kind that is down, until cancelled."""
        while True:
            for kind in list(self._down_since):
                self._pick(kind)
            await self._clock.sleep(_PROBE_S)

    def drain(self) -> None:
        """Hand everything back: the process stops."""
        self._draining = True
        for kind in {address.kind for address in self._waiting}:
            self._let_go(kind, Verdict.OVER)

    def _uplink(self, kind: str) -> Uplink:
        if (known := self._uplinks.get(kind)) is None:
            known = self._uplinks[kind] = Uplink()
            self._metrics.outage.labels(kind=kind).set(0)
        return known

    def _let_go(self, kind: str, verdict: Verdict) -> int:
        addresses = [address for address in self._waiting if address.kind == kind]
        waiting = [told for address in addresses for told in self._waiting.pop(address) if not told.done()]
        for told in waiting:
            told.set_result(verdict)
        return len(waiting)

    def _pick(self, kind: str) -> None:
        for address in [address for address in self._waiting if address.kind == kind]:
            waiting = self._waiting.pop(address)
            told = waiting.popleft()
            if waiting:
                self._waiting[address] = waiting
            if not told.done():
                told.set_result(Verdict.PROBE)
                return

    def _follow(self, kind: str, at_end: Verdict = Verdict.OVER) -> None:
        """Begin or end an outage as the uplink says; *at_end* is told to what was held."""
        is_down = self._uplink(kind).is_down
        if is_down and kind not in self._down_since:
            self._down_since[kind] = self._clock.monotonic()
            self._metrics.outage.labels(kind=kind).set(1)
            _log.error(OUTAGE_BEGAN, kind=kind)
        elif not is_down and kind in self._down_since:
            now = self._clock.monotonic()
            self._ended_at[kind] = now
            lasted_s = now - self._down_since.pop(kind)
            for callback in self._on_end:
                callback()
            self._metrics.outage.labels(kind=kind).set(0)
            _log.warning(OUTAGE_ENDED, kind=kind, lasted_s=round(lasted_s, 3), held=self._let_go(kind, at_end))
