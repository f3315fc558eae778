"""The sweep: dead-letters what has waited longer than its route wants, also while nobody is being tried."""

import asyncio
from typing import Final

from pulse_bus.siding import Siding
from pulse_contracts.envelope import InvalidEnvelope
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.adapters.parcels import read_parcel
from pulse_delivery.adapters.route_book import Destination, RouteBook
from pulse_delivery.adapters.settler import Settler
from pulse_delivery.domain.decide import is_overdue, overdue
from pulse_delivery.domain.heads import Heads
from pulse_delivery.domain.parcel import Parcel
from pulse_runtime.clock import Clock

_AT_ONCE: Final = 200


class Sweep:
    """Looks at the heads of routes without taking them.

    Two processes may sweep one route: a dead letter has the id of its match, and a message is removed by its number.
    """

    def __init__(self, siding: Siding, book: RouteBook, settler: Settler, clock: Clock) -> None:
        self._siding = siding
        self._book = book
        self._settler = settler
        self._clock = clock

    async def sweep(self, address: RouteAddress, tried: Heads | None = None) -> bool:
        """Dead-letter the heads of a route that are too old; returns whether any message may be left.

        Nothing of the route may be in flight here. *tried* knows of attempts that their headers do not
        know of. May raise `ApiError` or `BusUnavailable`.
        """
        destination = self._book.get(address.route)
        if destination is None:
            return True
        while True:
            expired, is_empty = await self._expired_heads(address, destination, tried or Heads())
            buried = await asyncio.gather(*(self._bury(sequence, parcel, destination) for sequence, parcel in expired))
            if len(expired) < _AT_ONCE or not all(buried):
                return not is_empty or not all(buried)

    async def _expired_heads(
        self, address: RouteAddress, destination: Destination, tried: Heads
    ) -> tuple[list[tuple[int, Parcel]], bool]:
        """Return the messages at the head that are too old, and whether nothing is left behind them."""
        expired: list[tuple[int, Parcel]] = []
        sequence = 1
        while len(expired) < _AT_ONCE:
            head = await self._siding.peek(address, sequence)
            if head is None:
                return expired, True
            try:
                parcel = read_parcel(head.subject, head.data, head.headers, 0.0)
            except InvalidEnvelope:
                return expired, False
            if not is_overdue(parcel.routed_at, destination.route, self._clock.now()):
                return expired, False
            expired.append((head.stream_seq, tried.of(parcel)))
            sequence = head.stream_seq + 1
        return expired, False

    async def _bury(self, sequence: int, parcel: Parcel, destination: Destination) -> bool:
        """Return False when there is no room for the dead letter: the message stays until there is."""
        route = destination.route
        if not await self._settler.publish_dead_letter(parcel, route, "max_age", overdue(route.policy)):
            return False
        await self._siding.remove(sequence)
        return True
