"""Who serves which troubled route. Synchronous; returns what is to be done, so that every schedule can be tried.

Each process looks about once a second at what waits in the siding and at everybody's turns. A route has one turn, of
one process; a turn whose owner is gone is adopted. A tenant may open another turn only while more places are free
than it holds already: one tenant takes at most half of them, and a newcomer always finds one.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pulse_contracts.ids import TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import TurnListing

_SILENT: Final = timedelta(seconds=0.9)
"""Nobody pulls at a turn for this long, so at two looks: its owner is gone."""
_WORTH_RETIRING: Final = timedelta(seconds=2)
_MOST_RETIRED: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterLimits:
    """Bounds of the turns."""

    working: int = 256
    """Turns of one process at work at once: bounds probes and sockets. One that sits out a pause does not count."""
    consumers: int = 1000
    """Consumers on the siding, of all processes and paused ones included: below what the stream allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What is remembered of a route's breaker while nobody serves it."""

    failures: int
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One turn of this process."""

    paused_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What follows from a look."""

    open: Sequence[RouteAddress] = ()
    """Begin a turn."""
    adopt: Sequence[RouteAddress] = ()
    """Begin a turn in place of the one that a process left behind."""
    leave: Sequence[RouteAddress] = ()
    """End our turn without touching its consumer: that is another's now, or gone."""
    retire: Sequence[RouteAddress] = ()
    """End our paused turn to make room; its rest is remembered."""
    clear: Sequence[RouteAddress] = ()
    """Delete a consumer that nobody pulls at and nothing waits for."""


class Roster:
    """The turns of one process beside those of the others."""

    def __init__(self, me: str, limits: RosterLimits | None = None) -> None:
        self._me = me
        self._limits = limits or RosterLimits()
        self._silent_since: dict[RouteAddress, datetime] = {}
        self._rests: dict[RouteAddress, Rest] = {}
        self._last_begun: dict[RouteAddress, int] = {}
        self._begun = 0

    def remember(self, address: RouteAddress, rest: Rest) -> None:
        """Keep the state of a breaker whose turn has ended before the route recovered."""
        self._rests[address] = rest

    def recall(self, address: RouteAddress) -> Rest | None:
        """Return that state, once."""
        return self._rests.pop(address, None)

    def plan(
        self,
        waiting: Mapping[RouteAddress, int],
        listed: Mapping[RouteAddress, TurnListing],
        mine: Mapping[RouteAddress, Serving],
        now: datetime,
        *,
        opening: Sequence[RouteAddress] = (),
    ) -> Plan:
        """Return what to do. *waiting* holds what may be served; *opening* are turns of ours still being made."""
        self._forget_all_but(waiting)
        ours = {*mine, *opening}
        leave = [address for address in mine if address not in listed or listed[address].owner != self._me]
        left_behind = self._left_behind(listed, ours, now)
        unserved = [
            address
            for address in waiting
            if address not in ours
            and (address not in listed or address in left_behind)
            and not ((rest := self._rests.get(address)) and rest.until > now)
        ]
        consumers = Counter(address.tenant for address in {*listed, *ours} - left_behind)
        chosen = self._choose(unserved, waiting, consumers, mine, len(opening))
        return Plan(
            open=[address for address in chosen if address not in left_behind],
            adopt=[address for address in chosen if address in left_behind],
            leave=leave,
            retire=self._to_retire(set(unserved).difference(chosen), mine, consumers, now),
            clear=[address for address in left_behind if address not in waiting],
        )

    def _left_behind(
        self, listed: Mapping[RouteAddress, TurnListing], ours: set[RouteAddress], now: datetime
    ) -> set[RouteAddress]:
        """Return the turns whose owner is gone; one of ours that we do not serve is one of them."""
        silent = {address for address, turn in listed.items() if address not in ours and not turn.is_pulled}
        self._silent_since = {address: self._silent_since.get(address, now) for address in silent}
        gone = {address for address, since in self._silent_since.items() if now - since >= _SILENT}
        return gone | {address for address, turn in listed.items() if address not in ours and turn.owner == self._me}

    def _choose(
        self,
        unserved: Sequence[RouteAddress],
        waiting: Mapping[RouteAddress, int],
        consumers: Counter[TenantId],
        mine: Mapping[RouteAddress, Serving],
        opening: int,
    ) -> list[RouteAddress]:
        """Round robin over tenants, then over their routes: who was served longest ago, then who has most waiting."""
        working = Counter(address.tenant for address, turn in mine.items() if turn.paused_until is None)
        free = self._limits.working - working.total() - opening
        free_consumers = self._limits.consumers - consumers.total()
        queues = self._queues(unserved, waiting, max(free, 0))
        order = [(consumers[tenant], tenant) for tenant in queues]
        heapq.heapify(order)
        chosen: list[RouteAddress] = []
        while order and free > 0 and free_consumers > 0:
            held, tenant = heapq.heappop(order)
            if working[tenant] >= max(1, free) or held >= max(1, free_consumers):
                continue
            chosen.append(address := queues[tenant].pop())
            self._begun += 1
            self._last_begun[address] = self._begun
            working[tenant] += 1
            consumers[tenant] += 1
            free, free_consumers = free - 1, free_consumers - 1
            if queues[tenant]:
                heapq.heappush(order, (held + 1, tenant))
        return chosen

    def _queues(
        self, unserved: Sequence[RouteAddress], waiting: Mapping[RouteAddress, int], most: int
    ) -> dict[TenantId, list[RouteAddress]]:
        """Return each tenant's routes, the one to be served next at the end."""
        by_tenant: defaultdict[TenantId, list[RouteAddress]] = defaultdict(list)
        for address in unserved:
            by_tenant[address.tenant].append(address)
        return {
            tenant: heapq.nsmallest(most, routes, key=lambda a: (self._last_begun.get(a, 0), -waiting[a]))[::-1]
            for tenant, routes in by_tenant.items()
            if most
        }

    def _to_retire(
        self,
        unserved: set[RouteAddress],
        mine: Mapping[RouteAddress, Serving],
        consumers: Counter[TenantId],
        now: datetime,
    ) -> list[RouteAddress]:
        """Return our turns that would pause longest, of the tenants with the most turns first.

        Only as many as there are routes that find no place for a consumer: no pause gives up its place for nothing.
        """
        free = self._limits.consumers - consumers.total()
        blocked = sum(consumers[address.tenant] >= max(1, free) for address in unserved)
        paused = [
            (-consumers[address.tenant], -turn.paused_until.timestamp(), address.route, address)
            for address, turn in mine.items()
            if turn.paused_until and turn.paused_until - now > _WORTH_RETIRING
        ]
        return [address for *_, address in heapq.nsmallest(min(blocked, _MOST_RETIRED), paused)]

    def _forget_all_but(self, waiting: Mapping[RouteAddress, int]) -> None:
        self._rests = {address: rest for address, rest in self._rests.items() if address in waiting}
        self._last_begun = {address: n for address, n in self._last_begun.items() if address in waiting}
