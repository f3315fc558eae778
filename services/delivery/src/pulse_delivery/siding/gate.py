"""Joins the turns to the fast lane: who holds a lane, who lends a slot."""

from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.lanes import Lanes
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.lanes.fast_lane import FastLane, Held
from pulse_runtime.clock import Clock

_SLOT_RETRY_S = 0.05


class FastLaneGate:
    """The fast lane, as the turns see it."""

    def __init__(self, fast_lane: FastLane, lanes: Lanes[Held], troubles: Troubles, clock: Clock) -> None:
        self._fast_lane = fast_lane
        self._lanes = lanes
        self._troubles = troubles
        self._clock = clock

    def hold(self, address: RouteAddress) -> None:
        self._lanes.hold(address.route)
        self._troubles.hold(address)

    def withdraw(self, address: RouteAddress, reason: str) -> None:
        self._troubles.unhold(address)
        self._fast_lane.withdraw(address, reason)

    def release(self, address: RouteAddress) -> None:
        self._fast_lane.release(address)

    async def slot(self) -> None:
        while not self._lanes.borrow_slot():
            await self._clock.sleep(_SLOT_RETRY_S)

    def return_slot(self) -> None:
        self._lanes.return_slot()
