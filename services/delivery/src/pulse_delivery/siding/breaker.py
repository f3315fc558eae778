"""The breaker of a troubled route. The server enforces it, in the consumer of the route's turn; its owner moves it.

probing  --delivered--> growing (1 -> 4 -> 16 in flight)
   ^                        |
   +---- pause of the server <-- a failure
"""

from datetime import datetime
from typing import Final, Protocol

from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import TurnState
from pulse_delivery.domain.heads import Heads
from pulse_delivery.domain.roster import Rest

_GROWTH: Final = (1, 4, 16)


class TurnConsumers(Protocol):
    """The siding, as a breaker sees it. Every method may raise `ApiError` or `BusUnavailable`."""

    async def open_turn(
        self, address: RouteAddress, state: TurnState, paused_until: datetime | None = None
    ) -> str | None:
        """Make the route's consumer and return its name, a new one each time; None when the route has one."""
        ...

    async def change_turn(self, address: RouteAddress, name: str, state: TurnState) -> None:
        """Let as many messages be tried at once as *state* says, and show it."""
        ...

    async def pause(self, name: str, until: datetime) -> None:
        """Have nothing delivered before *until*; a moment that has passed resumes it."""
        ...

    async def close_turn(self, name: str) -> None:
        """Delete a consumer, if it is still there."""
        ...


class Breaker:
    """One turn's. Its state changes before anything is awaited; coroutines may raise `ApiError` or `BusUnavailable`."""

    def __init__(self, address: RouteAddress, siding: TurnConsumers, *, rest: Rest | None, now: datetime) -> None:
        self._address = address
        self._siding = siding
        self._step = 0
        self._successes = 0
        self.failures = rest.failures if rest else 0
        """In a row: of probes, and the one on the fast lane that the trouble began with."""
        self.pause_until = rest.paused_until if rest else None
        self.since = (rest.since if rest else None) or now
        """Since when the route is troubled."""
        self.heads = Heads(rest.heads if rest else ())
        self._error = rest.error if rest else ""
        self.consumer: str | None = None
        """The name of the turn's consumer while it is ours."""

    @property
    def name(self) -> str:
        """The same, of a turn that is open."""
        if self.consumer is None:
            raise RuntimeError(f"no turn of {self._address.route} is open")
        return self.consumer

    @property
    def most_in_flight(self) -> int:
        return _GROWTH[self._step]

    async def open(self, left_behind: str | None) -> bool:
        """Claim the route, as half open; False if another process has. *left_behind* is what one that is gone had."""
        if left_behind:
            # Whatever the other process had taken would be withheld for the rest of ack_wait.
            await self._siding.close_turn(left_behind)
        self.consumer = await self._siding.open_turn(self._address, self._state(1), self.pause_until)
        return self.consumer is not None

    async def rest(self, until: datetime) -> None:
        """Pause, or pause longer: the destination asked for it on the fast lane. One probe ends the pause."""
        self.pause_until = max(until, self.pause_until or until)
        if self._step:
            self._step = 0
            await self._change(1)
        await self._tell_pause()

    def note_success(self) -> None:
        self.failures, self._error = 0, ""
        self._successes += 1

    async def grow(self, most: int) -> None:
        """Grow in few steps: a consumer is changed on a change of state, not on each success."""
        if self.pause_until is not None:
            # It failed meanwhile, and goes on with one probe.
            return
        last = self._step == len(_GROWTH) - 1
        if not last and self._successes >= _GROWTH[self._step] and _GROWTH[self._step] < most:
            self._step, self._successes = self._step + 1, 0
            await self._change(min(_GROWTH[self._step], most))

    async def trip(self, until: datetime, error: str, asked_until: datetime | None = None) -> bool:
        """Have the server pause the route; several failures at once are one: False for all but the first.

        Of these the latest moment before which the destination *asked* not to be tried holds.
        """
        if self.pause_until is not None:
            if asked_until and asked_until > self.pause_until:
                await self.rest(asked_until)
            return False
        self.failures += 1
        self.pause_until, self._error, self._step = until, error, 0
        await self._change(1)
        await self._tell_pause()
        return True

    async def half_open(self, now: datetime) -> None:
        """End the pause; the server ends one that has run out by itself."""
        self._successes = 0
        if self.pause_until and self.pause_until > now:
            await self._siding.pause(self.name, now)
        self.pause_until = None

    async def close(self) -> None:
        """Give the route up: its consumer goes, if it is still there."""
        if self.consumer:
            await self._siding.close_turn(self.consumer)
        self.consumer = None

    def remembered(self, not_before: datetime) -> Rest:
        """Return what the next turn of the route has to know."""
        return Rest(
            failures=self.failures,
            not_before=not_before,
            paused_until=self.pause_until,
            since=self.since,
            error=self._error,
            heads=self.heads.all(),
        )

    async def _tell_pause(self) -> None:
        """Have the server keep the pause as it is: it may become longer while one request is on its way."""
        told = None
        while self.pause_until and told != self.pause_until:
            told = self.pause_until
            await self._siding.pause(self.name, told)

    async def _change(self, in_flight: int) -> None:
        await self._siding.change_turn(self._address, self.name, self._state(in_flight))

    def _state(self, in_flight: int) -> TurnState:
        return TurnState(
            phase="growing" if self._step else "probing",
            in_flight=in_flight,
            failures=self.failures,
            error=self._error,
            since=self.since.isoformat(),
            head=self.heads.latest,
        )
