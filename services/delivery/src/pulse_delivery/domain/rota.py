"""Who is swept next: everybody in turn, and whoever is not done goes to the end of the queue. Synchronous and pure."""

from collections import OrderedDict
from collections.abc import Iterable

from pulse_contracts.subjects import RouteAddress


class Rota:
    """A queue of routes, each in it at most once, and those that are being visited."""

    def __init__(self) -> None:
        self._queue: OrderedDict[RouteAddress, None] = OrderedDict()
        self._visited: set[RouteAddress] = set()

    def begin_round(self, everybody: Iterable[RouteAddress]) -> None:
        """Put *everybody* behind those who still wait for their visit; who waits and is not named goes."""
        wanted = dict.fromkeys(everybody)
        for address in self._queue.keys() - wanted.keys():
            del self._queue[address]
        for address in wanted:
            if address not in self._visited:
                self._queue.setdefault(address)

    def next(self) -> RouteAddress | None:
        """Return whom to visit now, None if nobody waits."""
        if not self._queue:
            return None
        address, _ = self._queue.popitem(last=False)
        self._visited.add(address)
        return address

    def visited(self, address: RouteAddress, *, again: bool) -> None:
        """The visit that `next` asked for has ended; *again* puts the route behind all others."""
        self._visited.discard(address)
        if again:
            self._queue.setdefault(address)
