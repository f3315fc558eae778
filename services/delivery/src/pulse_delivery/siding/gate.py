"""Joins the turns to the fast lanes of all replicas: who holds a lane, who lends a slot, who makes the next attempt."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from pulse_bus.notices import TurnNotices
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import AskedRest, Notice
from pulse_delivery.domain.lanes import Lanes
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.lanes.fast_lane import FastLane, Held
from pulse_delivery.siding.pace import ProbePace
from pulse_delivery.siding.places import Places
from pulse_runtime.clock import Clock

_SLOT_RETRY_S: Final = 0.05
_LONGEST_SLEEP_S: Final = 0.25
"""So soon a wait notices that it is called off, or that the route's rate was edited."""
_FOLLOW_S: Final = 3.0
"""A lane held for a turn of another process is held this long at most after the last word of it."""
_REMIND_S: Final = 1.0


class FastLaneGate:
    """The fast lane, as the turns of this process and the notices of the others see it."""

    def __init__(
        self,
        fast_lane: FastLane,
        lanes: Lanes[Held],
        troubles: Troubles,
        notices: TurnNotices,
        clock: Clock,
        *,
        places: Places | None = None,
    ) -> None:
        self._places = places or Places()
        self._pace = ProbePace(clock)
        self._fast_lane = fast_lane
        self._lanes = lanes
        self._troubles = troubles
        self._notices = notices
        self._clock = clock
        self._told: dict[RouteAddress, float] = {}
        self._followed: dict[RouteAddress, float] = {}
        fast_lane.on_rest(self.rest)

    def hold(self, address: RouteAddress) -> None:
        now = self._clock.monotonic()
        # Each time: a failure or a stuck attempt of the fast lane empties the lane, and it is held no longer.
        self._lanes.hold(address.route)
        if (told := self._told.get(address)) is None or now - told > _REMIND_S:
            self._told[address] = now
            self._notices.tell(address, Notice.HOLD)

    def withdraw(self, address: RouteAddress, reason: str) -> None:
        if self._told.pop(address, None) is not None:
            self._notices.tell(address, Notice.WITHDRAW)
            self._fast_lane.withdraw(address, reason)

    def release(self, address: RouteAddress) -> None:
        self._told.pop(address, None)
        self._notices.tell(address, Notice.RELEASE)
        self._release_here(address)

    def permit_wait_s(self, address: RouteAddress, nth: int = 1) -> float:
        return self._lanes.permit_wait_s(address.route, nth)

    async def slot(self, address: RouteAddress, is_called_off: Callable[[], bool], *, is_probe: bool = False) -> bool:
        # Both at once: a slot kept while waiting for a permit is one that others lack, and permits gathered while
        # waiting for slots would be spent in one burst.
        while not is_called_off():
            if wait_s := self._lanes.permit_wait_s(address.route):
                # Without a place: it may be far away.
                await self._clock.sleep(min(wait_s, _LONGEST_SLEEP_S))
            elif not self._places.may_grow(address):
                await self._clock.sleep(_SLOT_RETRY_S)
            elif is_probe:
                is_probe = not await self._pace.wait(address, is_called_off)
            elif await self._places.enter(address, is_called_off):
                if not is_called_off() and self._lanes.borrow_slot(address.route, address.tenant):
                    return True
                self._places.leave(address)
                await self._clock.sleep(_SLOT_RETRY_S)
        return False

    def return_slot(self, address: RouteAddress) -> None:
        self._lanes.return_slot(address.tenant)
        self._places.leave(address)

    @property
    def probes_waiting(self) -> int:
        """How many turns wait for the moment of their probe."""
        return self._pace.waiting

    def was_no_waste(self) -> None:
        self._pace.was_no_waste()

    def rest(self, address: RouteAddress, until: datetime) -> None:
        """Have the route's next turn begin with a pause, whichever process it will be of."""
        self._troubles.rest(address, until)
        self._notices.tell(address, AskedRest(until=until))

    def follow(self, address: RouteAddress, notice: Notice | AskedRest) -> None:
        """Do as another process says: the one that serves the route, or one that tried it on the fast lane."""
        match notice:
            case AskedRest(until=until):
                self._troubles.rest(address, until)
            case Notice.HOLD:
                self._followed[address] = self._clock.monotonic()
                self._lanes.hold(address.route)
            case Notice.WITHDRAW:
                self._followed.pop(address, None)
                self._fast_lane.withdraw(address, "behind")
            case Notice.RELEASE:
                self._followed.pop(address, None)
                self._release_here(address)

    def stop_following_the_silent(self) -> None:
        """Hold no lane for a process that says nothing any more."""
        late = self._clock.monotonic() - _FOLLOW_S
        for address in [address for address, heard in self._followed.items() if heard < late]:
            del self._followed[address]
            self._fast_lane.withdraw(address, "behind")

    def _release_here(self, address: RouteAddress) -> None:
        self._troubles.recovered(address)
        self._fast_lane.release(address)
