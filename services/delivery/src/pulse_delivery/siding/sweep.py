"""The sweep: dead-letters what has waited longer than its route wants, also while nobody is being tried."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
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
from pulse_delivery.domain.decide import is_overdue, overdue, waits_until
from pulse_delivery.domain.heads import Heads
from pulse_delivery.domain.parcel import Parcel
from pulse_runtime.clock import Clock

PAGE: Final = 200
_PAGES_AT_ONCE: Final = 16
"""Of the turns of a process: what they publish, 3,200 dead letters, must leave room for everybody else's."""
_PAGES_A_PROBE: Final = 10
"""After each sweep that a probe began the next message comes two seconds later, with the turn's next pull."""
_FEW: Final = 16
"""Removed one by one: a purge would have the server forget what was given back of the others, until `ack_wait`."""
_AGAIN_S: Final = 1.0
"""Until the next sweep, if dead letters found no room."""
_AT_LEAST_EVERY_S: Final = 15.0
"""Somebody else may have removed the head."""


class Left(Enum):
    """What a sweep leaves of a route."""

    NOTHING = auto()
    WAITING = auto()
    """What is not too old, or finds no room among the dead letters."""
    OVERDUE = auto()
    """Perhaps: the page was full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What came of a sweep."""

    left: Left
    until: datetime | None = None
    """Till then the message at the head is not too old; None without one, or if it found no room."""
    through: int = 0
    """Up to this number nothing of the route waits any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lost:
    """A message at the head that becomes a dead letter, and why."""

    stream_seq: int
    parcel: Parcel
    reason: str
    error: str


class Sweep:
    """Looks at the heads of routes without taking them.

    Two processes may sweep one route: a dead letter has the id of its match, and messages are removed by their numbers.
    """

    def __init__(self, siding: Siding, book: RouteBook, settler: Settler, clock: Clock) -> None:
        self._siding = siding
        self._book = book
        self._settler = settler
        self._clock = clock
        self._pages = asyncio.Semaphore(_PAGES_AT_ONCE)

    def of_turn(self, address: RouteAddress, tried: Heads) -> "TurnSweeps":
        """Return the sweeps of a turn that tried those heads."""
        return TurnSweeps(self, address, tried, self._clock)

    async def page(self, address: RouteAddress, tried: Heads | None = None) -> Swept:
        """Dead-letter the heads of a route that are too old, or unreadable, `PAGE` of them at most.

        No attempt of the route may be in flight here. *tried* knows of attempts that their headers do not
        know of. May raise `ApiError` or `BusUnavailable`.
        """
        destination = self._book.get(address.route)
        if destination is None:
            return Swept(left=Left.WAITING)
        lost, left = await self._lost_heads(address, destination, tried or Heads())
        bury = self._settler.publish_dead_letter
        are_dead = await asyncio.gather(*(bury(e.parcel, destination.route, e.reason, e.error) for e in lost))
        # Without room for its dead letter a message stays until there is.
        alive = [n for n, is_dead in enumerate(are_dead) if not is_dead]
        dead = lost[: alive[0]] if alive else lost
        await self._remove(address, dead, [each for each, is_dead in zip(lost, are_dead, strict=True) if is_dead])
        through = dead[-1].stream_seq if dead else 0
        return Swept(left=Left.WAITING, through=through) if alive else replace(left, through=through)

    async def page_of_turn(self, address: RouteAddress, tried: Heads) -> Swept:
        """Sweep a page, `_PAGES_AT_ONCE` of them at a time."""
        async with self._pages:
            return await self.page(address, tried)

    async def _lost_heads(
        self, address: RouteAddress, destination: Destination, tried: Heads
    ) -> tuple[list[_Lost], Swept]:
        """Return the messages at the head that wait no longer, and what is left behind them."""
        lost: list[_Lost] = []
        sequence = 1
        while len(lost) < PAGE:
            head = await self._siding.peek(address, sequence)
            if head is None:
                return lost, Swept(left=Left.NOTHING)
            one = self._judge(head, destination, tried)
            if isinstance(one, datetime):
                return lost, Swept(left=Left.WAITING, until=one)
            lost.append(one)
            sequence = head.stream_seq + 1
        return lost, Swept(left=Left.OVERDUE)

    def _judge(self, head: Standing, destination: Destination, tried: Heads) -> _Lost | datetime:
        """Return until when a message goes on waiting if it does."""
        now, route = self._clock.now(), destination.route
        try:
            parcel = read_parcel(head.subject, head.data, head.headers, 0.0)
        except InvalidEnvelope as exc:
            note_unreadable(head.subject, head.stream_seq, str(exc))
            remains = remains_of(head.subject, head.data, head.headers, now)
            return _Lost(stream_seq=head.stream_seq, parcel=remains, reason=UNREADABLE, error=str(exc))
        if not is_overdue(parcel.routed_at, route, now):
            return waits_until(parcel.routed_at, route)
        return _Lost(stream_seq=head.stream_seq, parcel=tried.of(parcel), reason="max_age", error=overdue(route.policy))

    async def _remove(self, address: RouteAddress, first: Sequence[_Lost], dead: Sequence[_Lost]) -> None:
        """Remove what is dead; *first* of it are the first of the route's, without a gap."""
        singly = dead
        if len(first) > _FEW:
            await self._siding.remove_through(address, first[-1].stream_seq)
            singly = dead[len(first) :]
        for each in singly:
            await self._siding.remove(each.stream_seq)


class TurnSweeps:
    """The sweeps of one turn. Each may raise what `Sweep.page` raises."""

    def __init__(self, sweep: Sweep, address: RouteAddress, tried: Heads, clock: Clock) -> None:
        self._sweep = sweep
        self._address = address
        self._tried = tried
        self._clock = clock
        self._next_s = 0.0
        self._through = 0
        """Up to this number nothing of the route waits any more."""

    def took(self, stream_seq: int) -> bool:
        """Whether a message was buried by a sweep, though it was on its way to the turn meanwhile."""
        return stream_seq <= self._through

    async def takes(self, stream_seq: int) -> bool:
        """Sweep some pages; returns whether that buried the message, for which there may have been no room."""
        for _ in range(_PAGES_A_PROBE):
            swept = await self._sweep.page_of_turn(self._address, self._tried)
            self._through = max(self._through, swept.through)
            if swept.left is not Left.OVERDUE:
                break
        return self.took(stream_seq)

    def pause(self) -> None:
        """Begin a pause."""
        self._next_s = self._clock.monotonic()

    async def in_pause(self) -> bool:
        """Sweep page after page when the head grows too old, not at each look; returns whether anything may be left."""
        if self._clock.monotonic() < self._next_s:
            return True
        while (swept := await self._sweep.page_of_turn(self._address, self._tried)).left is Left.OVERDUE:
            pass
        wait_s = (swept.until - self._clock.now()).total_seconds() if swept.until else _AGAIN_S
        self._next_s = self._clock.monotonic() + min(wait_s, _AT_LEAST_EVERY_S)
        return swept.left is not Left.NOTHING
