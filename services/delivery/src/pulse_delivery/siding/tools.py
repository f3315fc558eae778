"""What the turns of a process work with."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pulse_bus.consumer import PullConsumer
from pulse_bus.siding import Siding
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.adapters.attempts import Attempts
from pulse_delivery.adapters.route_book import RouteBook
from pulse_delivery.adapters.settler import Settler
from pulse_delivery.domain.bodies import Bodies
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.lanes.outage import Outage
from pulse_delivery.siding.sweep import Sweep
from pulse_runtime.clock import Clock
from pulse_runtime.metrics import DeliveryMetrics


class Gate(Protocol):
    """The fast lane, as a turn sees it."""

    def hold(self, address: RouteAddress) -> None:
        """Gather the route's new messages in its lane."""
        ...

    def withdraw(self, address: RouteAddress, reason: str) -> None:
        """Shunt what gathered: the route is troubled after all."""
        ...

    def release(self, address: RouteAddress) -> None:
        """Run what gathered: the route is back on the fast lane."""
        ...

    def permit_wait_s(self, address: RouteAddress, nth: int = 1) -> float:
        """Return in how long the route may make its *nth* attempt from now by its rate; 0 if it may now."""
        ...

    async def slot(self, address: RouteAddress, is_called_off: Callable[[], bool], *, is_probe: bool = False) -> bool:
        """Wait for a working place, a slot of the process's budget and a permit of the route's rate.

        A probe, of a route that failed last, waits besides till its moment comes. False if it is called off.
        """
        ...

    def return_slot(self, address: RouteAddress) -> None: ...

    def was_no_waste(self) -> None:
        """A message of a route that had failed waits no longer: let the next probe of any route begin."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTools:
    """What every turn of a process works with."""

    siding: Siding
    sweep: Sweep
    book: RouteBook
    troubles: Troubles
    attempts: Attempts
    outage: Outage
    settler: Settler
    gate: Gate
    bodies: Bodies
    metrics: DeliveryMetrics
    clock: Clock
    random: Callable[[], float]
    stopping: asyncio.Event
    """Set when the process stops: turns finish what is in flight and leave the rest to whoever comes next."""
    open_consumer: Callable[[str], PullConsumer]
    """Pulls from the consumer of that name."""
