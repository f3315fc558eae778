"""Working places: so many turns of a process try something at once, and each tenant's share of them is fair.

A turn takes a place for as long as attempts of it are in flight, so those that wake together, after an outage or a
restart, take turns; a dead destination costs its tenant a place, never another tenant's last one.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from pulse_contracts.ids import TenantId
from pulse_contracts.subjects import RouteAddress

_MOST: Final = 256
_MOST_ATTEMPTS: Final = 2048
_LOOK_S: Final = 1.0
"""So soon one who waits notices that it is called off."""


class Places:
    """A tenant may take another place only while more are free than it has, as with consumers (ADR 0021).

    The same holds for the attempts of routes that grow.
    """

    def __init__(self, most_attempts: int = _MOST_ATTEMPTS, most: int = _MOST) -> None:
        """*most_attempts*: so many slots may turns borrow together."""
        self._most = min(most, most_attempts)
        self._most_attempts = most_attempts
        self._tried: Counter[TenantId] = Counter()
        self._attempts: dict[RouteAddress, int] = {}
        """In flight, of each route at work."""
        self._taken: Counter[TenantId] = Counter()
        self._lines: dict[TenantId, dict[RouteAddress, asyncio.Future[None]]] = {}
        """Who waits, by tenant; who was called longest ago comes first."""

    @property
    def at_work(self) -> int:
        """Routes that have a place."""
        return len(self._attempts)

    def may_grow(self, address: RouteAddress) -> bool:
        """Whether the route may have one attempt more than it has, or has none."""
        free = self._most_attempts - self._tried.total()
        return address not in self._attempts or self._tried[address.tenant] < max(1, free)

    async def enter(self, address: RouteAddress, is_called_off: Callable[[], bool]) -> bool:
        """Begin an attempt, once the route has a place; False if it is called off before. `leave` ends it."""
        if address in self._attempts or (address.tenant not in self._lines and self._has_room(address.tenant)):
            self._begin(address)
            return True
        return await self._stand_in_line(address, is_called_off)

    def leave(self, address: RouteAddress) -> None:
        """End an attempt; after its last one the route's place is another's."""
        self._attempts[address] -= 1
        self._tried[address.tenant] -= 1
        if not self._attempts[address]:
            del self._attempts[address]
            self._taken[address.tenant] -= 1
            self._call()

    async def _stand_in_line(self, address: RouteAddress, is_called_off: Callable[[], bool]) -> bool:
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(address.tenant, {})[address] = called
        has_place = False
        try:
            while not (called.done() or is_called_off()):
                await asyncio.wait({called}, timeout=_LOOK_S)
            has_place = called.done()
            return has_place
        finally:
            if not has_place:
                self._step_out(address, called)

    def _step_out(self, address: RouteAddress, called: asyncio.Future[None]) -> None:
        if called.done():
            self.leave(address)
            return
        line = self._lines[address.tenant]
        del line[address]
        if not line:
            del self._lines[address.tenant]

    def _call(self) -> None:
        """Give what is free to who waits: the tenant with the fewest places first, then in turn."""
        while tenant := min(filter(self._has_room, self._lines), key=self._taken.__getitem__, default=None):
            line = self._lines.pop(tenant)
            address = next(iter(line))
            called = line.pop(address)
            if line:
                self._lines[tenant] = line
            self._begin(address)
            called.set_result(None)

    def _begin(self, address: RouteAddress) -> None:
        attempts = self._attempts.get(address, 0)
        self._attempts[address] = attempts + 1
        self._tried[address.tenant] += 1
        self._taken[address.tenant] += not attempts

    def _has_room(self, tenant: TenantId) -> bool:
        free = self._most - self.at_work
        return self._taken[tenant] < max(1, free) and free > 0
