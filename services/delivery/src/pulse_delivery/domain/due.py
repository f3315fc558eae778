"""Routes by the moment at which each is due."""

from heapq import heappop, heappush

from pulse_contracts.ids import RouteId


class DueRoutes:
    """Says which routes are due and when the next one is, at a cost that hardly grows with their number."""

    def __init__(self) -> None:
        self._at: dict[RouteId, float] = {}
        self._heap: list[tuple[float, RouteId]] = []
        """Also holds moments that were changed or discarded: they are skipped when they come up."""

    def __contains__(self, route: RouteId) -> bool:
        return route in self._at

    def put(self, route: RouteId, at: float) -> None:
        """Say when a route is due, in place of what was said before."""
        if self._at.get(route) != at:
            self._at[route] = at
            heappush(self._heap, (at, route))

    def discard(self, route: RouteId) -> None:
        self._at.pop(route, None)

    @property
    def next_at(self) -> float | None:
        """When the next route is due; None if there is none."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> list[RouteId]:
        """Remove and return the routes that are due, the longest due first."""
        due: list[RouteId] = []
        while (next_at := self.next_at) is not None and next_at <= now:
            _, route = heappop(self._heap)
            del self._at[route]
            due.append(route)
        return due
