"""Which routes are troubled. The truth is the siding's own contents; this is what a process knows of it."""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from pulse_contracts.disposition import DeadLetter, Disposition, ProbeFailed, Shunt
from pulse_contracts.ids import TenantId
from pulse_contracts.subjects import RouteAddress

_CROWDED_PAUSE: Final = timedelta(seconds=5)
"""Two seconds until all processes have seen a pause, and two that are worth making room for (`domain.roster`)."""


class Troubles:
    """Troubled routes, as read from the siding about once a second and as this process's own shunts make them."""

    def __init__(self) -> None:
        self._waiting: dict[RouteAddress, int] = {}
        self._shunting: Counter[RouteAddress] = Counter()
        self._rest_until: dict[RouteAddress, datetime] = {}
        self._failed: dict[RouteAddress, ProbeFailed] = {}
        self._fresh: Counter[RouteAddress] = Counter()
        """Shunts committed since the last account was asked for: it may or may not contain them."""
        self._crowded = frozenset[TenantId]()
        self._emptied: set[RouteAddress] = set()
        """Routes of which the siding held nothing at some moment since then."""

    def is_troubled(self, address: RouteAddress) -> bool:
        """Whether new messages of the route go behind the others in the siding, unless its lane is held."""
        return address in self._waiting or address in self._shunting

    def shunt_begins(self, address: RouteAddress) -> None:
        """From now on the route is troubled: what comes next goes behind this message."""
        self._shunting[address] += 1

    def shunt_ends(self, address: RouteAddress, *, waits: bool) -> None:
        """The shunt is committed (*waits*) or came to nothing."""
        if waits:
            self._waiting[address] = self._waiting.get(address, 0) + 1
            self._fresh[address] += 1
        self._shunting[address] -= 1
        if not self._shunting[address]:
            del self._shunting[address]

    def rest(self, address: RouteAddress, until: datetime) -> None:
        """The destination asked not to be tried before: the route's next turn begins with a pause."""
        self._rest_until[address] = max(until, self._rest_until.get(address, until))

    def heed(self, address: RouteAddress, disposition: Disposition) -> None:
        """Rest as the destination asked of a turn whose message goes out of its way: with that it is not paused."""
        if isinstance(disposition, Shunt | DeadLetter) and disposition.rest_until:
            self.rest(address, disposition.rest_until)

    def crowd(self, tenants: Collection[TenantId]) -> None:
        """Routes of these tenants find no place for a turn."""
        self._crowded = frozenset(tenants)

    def stretched(self, address: RouteAddress, until: datetime, now: datetime) -> datetime:
        """Return the end of a pause, long enough that another route of a crowded tenant gets the place meanwhile."""
        return max(until, now + _CROWDED_PAUSE) if address.tenant in self._crowded else until

    def take_rest(self, address: RouteAddress) -> datetime | None:
        """Return the end of that pause, once."""
        return self._rest_until.pop(address, None)

    def note_failure(self, address: RouteAddress, failed: ProbeFailed) -> None:
        """An attempt on the fast lane failed, the latest of the route."""
        self._failed[address] = failed

    def take_failure(self, address: RouteAddress) -> ProbeFailed | None:
        """Return that failure, once."""
        return self._failed.pop(address, None)

    def is_shunting(self, address: RouteAddress) -> bool:
        """Whether a message of the route is on its way to the siding."""
        return address in self._shunting

    def count_begins(self) -> None:
        """The siding is asked now: what happens from here on its account may or may not contain."""
        self._fresh.clear()
        self._emptied.clear()

    def replace(self, waiting: Mapping[RouteAddress, int]) -> None:
        """Take the siding's own account, but for what happened since it was asked for."""
        self._waiting = {address: count for address, count in waiting.items() if address not in self._emptied}
        for address, count in self._fresh.items():
            self._waiting[address] = max(count, self._waiting.get(address, 0))
        self._failed = {address: failed for address, failed in self._failed.items() if self.is_troubled(address)}

    def recovered(self, address: RouteAddress) -> None:
        """The siding holds nothing of the route any more."""
        self._waiting.pop(address, None)
        self._fresh.pop(address, None)
        self._emptied.add(address)
        self._rest_until.pop(address, None)
        self._failed.pop(address, None)

    def all(self) -> dict[RouteAddress, int]:
        """Return the troubled routes with the number of messages known to wait."""
        return dict(self._waiting)
