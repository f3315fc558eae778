"""Who serves which troubled route. Synchronous; returns what is to be done, so that every schedule can be tried.

Each process looks about once a second at what waits in the siding and at everybody's turns. A route has one turn, of
one process; a turn whose owner is gone is adopted. A tenant may open another turn only while more places are free
than it holds already: one tenant takes at most half of them, and a newcomer always finds one.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from pulse_contracts.disposition import ProbeFailed
from pulse_contracts.ids import TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import HeadTries, TurnListing

_SILENT: Final = timedelta(seconds=0.7)
"""The owner of a turn is silent, and nobody pulls at it nor takes anything from it, for this long: it is gone.

Less than the shortest time between two looks, so that the second one always tells: with 1.75 s of silence, or
two of the pull request of a frozen process, and two looks of 1.25 s at most a route is adopted within 5 s."""
_STOOD_STILL: Final = timedelta(seconds=3)
"""Between two looks so far apart this process was frozen: what it saw before says nothing."""
_WORTH_RETIRING: Final = timedelta(seconds=2)
_MOST_RETIRED: Final = 32
_LISTED_BY_ALL: Final = timedelta(seconds=2)
"""A pause this old has been seen by every process: none of them cuts it short when its turn is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterLimits:
    """Bounds of the turns."""

    openings: int = 64
    """Turns that one process begins at a look, of routes that nobody is known to have served: a crowd that fails at
    once must not cost its neighbours the processor. An adoption, and a turn that was lost, are not delayed by it."""
    consumers: int = 1000
    """Consumers on the siding, of all processes and paused ones included: below what the stream allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What is remembered of a route's breaker, for the turn that comes after one that was lost or ended early."""

    failures: int
    """Failures in a row: of probes, and the one on the fast lane that the trouble began with."""
    not_before: datetime
    """No turn begins here before that."""
    paused_until: datetime | None = None
    """The next turn begins with what is left of this pause."""
    since: datetime | None = None
    """Since when the route is troubled."""
    error: str = ""
    """Of the last failed probe, if none has succeeded since."""
    heads: tuple[HeadTries, ...] = ()
    """Messages that were tried and given back; of another process's turn the latest only."""


def after_failure(failed: ProbeFailed, now: datetime) -> Rest:
    """Return the breaker of a route that failed on the fast lane: a probe right after it would be wasted mostly."""
    return Rest(failures=1, not_before=now, paused_until=failed.pause_until, since=now, error=failed.error)


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
    crowded: frozenset[TenantId] = frozenset()
    """Tenants of which routes wait for a consumer."""
    clear: Sequence[RouteAddress] = ()
    """Delete a consumer that nobody pulls at and nothing waits for."""


class Roster:
    """The turns of one process beside those of the others."""

    def __init__(
        self, me: str, limits: RosterLimits | None = None, *, lives: Callable[[str], bool] = lambda _owner: False
    ) -> None:
        """*lives* tells of another process whether it was heard of lately, so that its paused turns need no pulls."""
        self._me = me
        self._lives = lives
        self._limits = limits or RosterLimits()
        self._silent_since: dict[tuple[str, tuple[int, int]], datetime] = {}
        """By consumer and its progress: a route's next turn is not taken for the one before."""
        self._looked_at: datetime | None = None
        self._rests: dict[RouteAddress, Rest] = {}
        self._pauses: dict[RouteAddress, tuple[datetime, datetime]] = {}
        """Of our turns: the end of each pause, and when we saw it first."""
        self._last_begun: dict[RouteAddress, int] = {}
        self._begun = 0

    def remember(self, address: RouteAddress, rest: Rest) -> None:
        """Keep the state of a breaker whose turn ended here before the route recovered."""
        self._rests[address] = rest

    def recall(self, address: RouteAddress) -> Rest | None:
        """Return that state, of a turn of ours or of another process that was listed last; once."""
        return self._rests.pop(address, None)

    def plan(
        self,
        waiting: Mapping[RouteAddress, int],
        listed: Mapping[RouteAddress, TurnListing],
        mine: Mapping[RouteAddress, Serving],
        now: datetime,
        *,
        opening: Sequence[RouteAddress] = (),
        parked: Collection[RouteAddress] = (),
    ) -> Plan:
        """Return what to do. *waiting* holds what may be served, *parked* what may not although messages wait.

        *opening* are turns of ours still being made.
        """
        self._forget_all_but(waiting, parked)
        ours = {*mine, *opening}
        self._learn(listed, ours, now)
        self._watch_pauses(mine, now)
        leave = [address for address in mine if address not in listed or listed[address].owner != self._me]
        left_behind = self._left_behind(listed, ours, now)
        unserved = [
            address
            for address in waiting
            if address not in ours
            and (address not in listed or address in left_behind)
            and not ((rest := self._rests.get(address)) and rest.not_before > now)
        ]
        resting = {address for address in unserved if self._is_resting(address, now)}
        consumers = Counter(address.tenant for address in {*listed, *ours} - left_behind)
        chosen = self._choose(self._queues(unserved, resting, waiting), consumers, self._limits.openings - len(opening))
        blocked = self._blocked(set(unserved).difference(chosen, resting), consumers)
        return Plan(
            open=[address for address in chosen if address not in left_behind],
            adopt=[address for address in chosen if address in left_behind],
            leave=leave,
            retire=self._to_retire(len(blocked), consumers, now),
            crowded=frozenset(address.tenant for address in blocked),
            clear=[address for address in left_behind if address not in waiting],
        )

    def _learn(self, listed: Mapping[RouteAddress, TurnListing], ours: set[RouteAddress], now: datetime) -> None:
        """Remember the breakers of other processes, in case their turns are lost or left behind."""
        for address, turn in listed.items():
            if address not in ours and turn.owner != self._me:
                self._rests[address] = Rest(
                    failures=turn.failures,
                    not_before=now,
                    paused_until=turn.paused_until,
                    since=turn.since,
                    error=turn.error,
                    heads=(turn.head,) if turn.head else (),
                )

    def _watch_pauses(self, mine: Mapping[RouteAddress, Serving], now: datetime) -> None:
        """Note how long each of our turns has paused."""
        pauses = {address: turn.paused_until for address, turn in mine.items() if turn.paused_until}
        known = self._pauses
        self._pauses = {
            address: known[address] if address in known and known[address][0] == until else (until, now)
            for address, until in pauses.items()
        }

    def _is_resting(self, address: RouteAddress, now: datetime) -> bool:
        """Whether a turn of the route would only sit out a pause: it may have been ended to make room."""
        rest = self._rests.get(address)
        return bool(rest and rest.paused_until and rest.paused_until - now > _WORTH_RETIRING)

    def _left_behind(
        self, listed: Mapping[RouteAddress, TurnListing], ours: set[RouteAddress], now: datetime
    ) -> set[RouteAddress]:
        """Return the turns whose owner is gone; one of ours that we do not serve is one of them."""
        silent = {
            (turn.name, turn.progress): address
            for address, turn in listed.items()
            if address not in ours and not (turn.is_pulled or self._lives(turn.owner))
        }
        known = self._silent_since if self._looked_at and now - self._looked_at < _STOOD_STILL else {}
        self._looked_at = now
        self._silent_since = {turn: known.get(turn, now) for turn in silent}
        gone = {silent[turn] for turn, since in self._silent_since.items() if now - since >= _SILENT}
        return gone | {address for address, turn in listed.items() if address not in ours and turn.owner == self._me}

    def _choose(
        self,
        queues: Mapping[TenantId, list[RouteAddress]],
        consumers: Counter[TenantId],
        openings: int,
    ) -> list[RouteAddress]:
        """Round robin over tenants, then over their routes."""
        free = self._limits.consumers - consumers.total()
        order = [(consumers[tenant], tenant) for tenant in queues]
        heapq.heapify(order)
        chosen: list[RouteAddress] = []
        while order and free > 0:
            held, tenant = heapq.heappop(order)
            if held >= max(1, free):
                continue
            address = queues[tenant].pop()
            if address in self._rests or openings > 0:
                openings -= address not in self._rests
                chosen.append(address)
                self._begun += 1
                self._last_begun[address] = self._begun
                consumers[tenant] += 1
                held, free = held + 1, free - 1
            if queues[tenant]:
                heapq.heappush(order, (held, tenant))
        return chosen

    def _queues(
        self, unserved: Sequence[RouteAddress], resting: set[RouteAddress], waiting: Mapping[RouteAddress, int]
    ) -> dict[TenantId, list[RouteAddress]]:
        """Return each tenant's routes, the one to be served next at the end.

        Who was served longest ago comes first, then who has most waiting; those that rest come last.
        """
        by_tenant: defaultdict[TenantId, list[RouteAddress]] = defaultdict(list)
        for address in unserved:
            by_tenant[address.tenant].append(address)
        return {
            tenant: heapq.nsmallest(
                self._limits.consumers, routes, key=lambda a: (a in resting, self._last_begun.get(a, 0), -waiting[a])
            )[::-1]
            for tenant, routes in by_tenant.items()
        }

    def _blocked(self, unserved: set[RouteAddress], consumers: Counter[TenantId]) -> list[RouteAddress]:
        """Return the routes that find no place for a consumer."""
        free = self._limits.consumers - consumers.total()
        return [address for address in unserved if consumers[address.tenant] >= max(1, free)]

    def _to_retire(self, blocked: int, consumers: Counter[TenantId], now: datetime) -> list[RouteAddress]:
        """Return our turns that would pause longest, of the tenants with the most turns first.

        Only as many as there are routes that find no place for a consumer: no pause gives up its place for nothing.
        """
        paused = [
            (-consumers[address.tenant], -until.timestamp(), address.route, address)
            for address, (until, seen_at) in self._pauses.items()
            if until - now > _WORTH_RETIRING and now - seen_at >= _LISTED_BY_ALL
        ]
        return [address for *_, address in heapq.nsmallest(min(blocked, _MOST_RETIRED), paused)]

    def _forget_all_but(self, waiting: Mapping[RouteAddress, int], parked: Collection[RouteAddress]) -> None:
        resumed = {
            # An edit ends the pause; how often a message was tried stays true.
            address: replace(rest, failures=0, paused_until=None, since=None, error="")
            for address, rest in self._rests.items()
            if address in parked and rest.heads
        }
        self._rests = {address: rest for address, rest in self._rests.items() if address in waiting} | resumed
        self._last_begun = {address: n for address, n in self._last_begun.items() if address in waiting}
