"""The sweep: dead-letters what has waited longer than its route wants, also while nobody is being tried."""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pulse_bus.inspection import Standing
from pulse_bus.siding import Siding
from pulse_contracts.envelope import InvalidEnvelope
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.adapters.parcels import read_parcel
from pulse_delivery.adapters.remains import UNREADABLE, remains_of
from pulse_delivery.adapters.route_book import Destination, RouteBook
from pulse_delivery.adapters.settler import Settler, note_unreadable
from pulse_delivery.domain.decide import is_overdue, overdue
from pulse_delivery.domain.heads import Heads
from pulse_delivery.domain.parcel import Parcel
from pulse_runtime.clock import Clock

PAGE: Final = 200


class Left(Enum):
    """What a sweep leaves of a route."""

    NOTHING = auto()
    WAITING = auto()
    """What is not too old, or finds no room among the dead letters."""
    OVERDUE = auto()
    """Perhaps: the page was full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lost:
    """A message at the head that becomes a dead letter, and why."""

    stream_seq: int
    parcel: Parcel
    reason: str
    error: str


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
        """Sweep page after page; returns whether any message may be left."""
        while (left := await self.page(address, tried)) is Left.OVERDUE:
            pass
        return left is not Left.NOTHING

    async def page(self, address: RouteAddress, tried: Heads | None = None) -> Left:
        """Dead-letter the heads of a route that are too old, or unreadable, `PAGE` of them at most.

        Nothing of the route may be in flight here. *tried* knows of attempts that their headers do not
        know of. May raise `ApiError` or `BusUnavailable`.
        """
        destination = self._book.get(address.route)
        if destination is None:
            return Left.WAITING
        lost, is_empty = await self._lost_heads(address, destination, tried or Heads())
        buried = await asyncio.gather(*(self._bury(each, destination) for each in lost))
        if not all(buried):
            return Left.WAITING
        if len(lost) == PAGE:
            return Left.OVERDUE
        return Left.NOTHING if is_empty else Left.WAITING

    async def _lost_heads(
        self, address: RouteAddress, destination: Destination, tried: Heads
    ) -> tuple[list[_Lost], bool]:
        """Return the messages at the head that wait no longer, and whether nothing is left behind them."""
        lost: list[_Lost] = []
        sequence = 1
        while len(lost) < PAGE:
            head = await self._siding.peek(address, sequence)
            if head is None:
                return lost, True
            if (one := self._judge(head, destination, tried)) is None:
                return lost, False
            lost.append(one)
            sequence = head.stream_seq + 1
        return lost, False

    def _judge(self, head: Standing, destination: Destination, tried: Heads) -> _Lost | None:
        """Return None for a message that goes on waiting."""
        now, route = self._clock.now(), destination.route
        try:
            parcel = read_parcel(head.subject, head.data, head.headers, 0.0)
        except InvalidEnvelope as exc:
            note_unreadable(head.subject, head.stream_seq, str(exc))
            remains = remains_of(head.subject, head.data, head.headers, now)
            return _Lost(stream_seq=head.stream_seq, parcel=remains, reason=UNREADABLE, error=str(exc))
        if not is_overdue(parcel.routed_at, route, now):
            return None
        return _Lost(stream_seq=head.stream_seq, parcel=tried.of(parcel), reason="max_age", error=overdue(route.policy))

    async def _bury(self, lost: _Lost, destination: Destination) -> bool:
        """Return False when there is no room for the dead letter: the message stays until there is."""
        if not await self._settler.publish_dead_letter(lost.parcel, destination.route, lost.reason, lost.error):
            return False
        await self._siding.remove(lost.stream_seq)
        return True
