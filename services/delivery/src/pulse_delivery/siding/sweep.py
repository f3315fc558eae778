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
from pulse_contracts.routes import Route
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.adapters.attempts import Attempts
from pulse_delivery.adapters.parcels import read_parcel
from pulse_delivery.adapters.remains import UNREADABLE, remains_of
from pulse_delivery.adapters.route_book import Destination, RouteBook
from pulse_delivery.adapters.settler import Settler, note_unreadable
from pulse_delivery.domain.decide import is_overdue, overdue, waits_until
from pulse_delivery.domain.heads import Heads
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.siding.places import Places
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
_SHORT_PAUSE_S: Final = 5.0
_AT_LEAST_EVERY_S: Final = 45.0
"""The time of day may jump: what is too old is buried within a minute all the same."""


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
class _Death:
    """Why a message becomes a dead letter."""

    reason: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """A message at the head that waits no longer."""

    stream_seq: int
    parcel: Parcel
    death: _Death | None
    """None for one that was delivered: the server, that crashed, has forgotten the acknowledgement."""


class Sweep:
    """Looks at the heads of routes without taking them.

    Two processes may sweep one route: a dead letter has the id of its match, and messages are removed by their numbers.
    """

    def __init__(self, siding: Siding, book: RouteBook, attempts: Attempts, settler: Settler, clock: Clock) -> None:
        self._siding = siding
        self._book = book
        self._attempts = attempts
        self._settler = settler
        self._clock = clock
        self._pages = Places(_PAGES_AT_ONCE)

    def of_turn(self, address: RouteAddress, tried: Heads) -> "TurnSweeps":
        """Return the sweeps of a turn that tried those heads."""
        return TurnSweeps(self, address, tried, self._clock)

    async def page(self, address: RouteAddress, tried: Heads | None = None) -> Swept:
        """Dead-letter the heads of a route that are too old, or unreadable, `PAGE` of them at most.

        One that this process has delivered goes without a dead letter. No attempt of the route may be in flight here.
        *tried* knows of attempts that their headers do not know of. May raise `ApiError` or `BusUnavailable`.
        """
        if (destination := self._book.get(address.route)) is None:
            return Swept(left=Left.WAITING)
        done, left = await self._done_heads(address, destination, tried or Heads())
        may_go = await asyncio.gather(*(self._bury(each, destination.route) for each in done))
        # Without room for its dead letter a message stays until there is.
        staying = [n for n, goes in enumerate(may_go) if not goes]
        first = done[: staying[0]] if staying else done
        await self._remove(address, first, [each for each, goes in zip(done, may_go, strict=True) if goes])
        through = first[-1].stream_seq if first else 0
        return Swept(left=Left.WAITING, through=through) if staying else replace(left, through=through)

    async def page_of_turn(self, address: RouteAddress, tried: Heads) -> Swept:
        """Sweep a page, `_PAGES_AT_ONCE` of them at a time and half of them of one tenant.

        Who has nothing to bury waits for nobody.
        """
        if (left := await self._left_at_head(address, tried)) is not None:
            return left
        await self._pages.enter(address, lambda: False)
        try:
            return await self.page(address, tried)
        finally:
            self._pages.leave(address)

    async def _left_at_head(self, address: RouteAddress, tried: Heads) -> Swept | None:
        """Say what is left of a route whose head waits on; None if the head does not."""
        if (destination := self._book.get(address.route)) is None:
            return Swept(left=Left.WAITING)
        if (head := await self._siding.peek(address)) is None:
            return Swept(left=Left.NOTHING)
        until = self._judge(head, destination, tried)
        return Swept(left=Left.WAITING, until=until) if isinstance(until, datetime) else None

    async def _bury(self, each: _Done, route: Route) -> bool:
        """Dead-letter what is lost; returns whether the message may be removed."""
        if each.death is None:
            return True
        return await self._settler.publish_dead_letter(each.parcel, route, each.death.reason, each.death.error)

    async def _done_heads(
        self, address: RouteAddress, destination: Destination, tried: Heads
    ) -> tuple[list[_Done], Swept]:
        """Return the messages at the head that wait no longer, and what is left behind them."""
        done: list[_Done] = []
        sequence = 1
        while len(done) < PAGE:
            head = await self._siding.peek(address, sequence)
            if head is None:
                return done, Swept(left=Left.NOTHING)
            one = self._judge(head, destination, tried)
            if isinstance(one, datetime):
                return done, Swept(left=Left.WAITING, until=one)
            if one.death and one.death.reason == UNREADABLE:
                note_unreadable(head.subject, head.stream_seq, one.death.error)
            done.append(one)
            sequence = head.stream_seq + 1
        return done, Swept(left=Left.OVERDUE)

    def _judge(self, head: Standing, destination: Destination, tried: Heads) -> _Done | datetime:
        """Return until when a message goes on waiting if it does."""
        now, route = self._clock.now(), destination.route
        try:
            parcel = read_parcel(head.subject, head.data, head.headers, 0.0)
        except InvalidEnvelope as exc:
            remains = remains_of(head.subject, head.data, head.headers, now)
            return _Done(stream_seq=head.stream_seq, parcel=remains, death=_Death(reason=UNREADABLE, error=str(exc)))
        if self._attempts.was_delivered(parcel):
            return _Done(stream_seq=head.stream_seq, parcel=parcel, death=None)
        if not is_overdue(parcel.routed_at, route, now):
            return waits_until(parcel.routed_at, route)
        death = _Death(reason="max_age", error=overdue(route.policy))
        return _Done(stream_seq=head.stream_seq, parcel=tried.of(parcel), death=death)

    async def _remove(self, address: RouteAddress, first: Sequence[_Done], done: Sequence[_Done]) -> None:
        """Remove what is done with; *first* of it are the first of the route's, without a gap."""
        singly = done
        if len(first) > _FEW:
            await self._siding.remove_through(address, first[-1].stream_seq)
            singly = done[len(first) :]
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

    @property
    def wait_s(self) -> float:
        """In how long `in_pause` has something to do again."""
        return max(0.0, self._next_s - self._clock.monotonic())

    def pause(self) -> None:
        """Begin a pause. The probe that ends a short one meets what a sweep would bury."""
        self._next_s = self._clock.monotonic() + _SHORT_PAUSE_S

    async def in_pause(self) -> bool:
        """Sweep page after page when the head grows too old, not at each look; returns whether anything may be left."""
        if self._clock.monotonic() < self._next_s:
            return True
        while (swept := await self._sweep.page_of_turn(self._address, self._tried)).left is Left.OVERDUE:
            pass
        wait_s = (swept.until - self._clock.now()).total_seconds() if swept.until else _AGAIN_S
        self._next_s = self._clock.monotonic() + min(wait_s, _AT_LEAST_EVERY_S)
        return swept.left is not Left.NOTHING
