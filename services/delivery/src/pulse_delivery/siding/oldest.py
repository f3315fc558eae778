"""How old the oldest message in the siding is: the main figure, for as many reads as can be afforded each second."""

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Final

from pulse_bus.ages import KnownAge
from pulse_bus.inspection import Standing
from pulse_bus.siding import Siding
from pulse_contracts import headers
from pulse_contracts.subjects import RouteAddress, parse_route_address
from pulse_contracts.tokens import InvalidToken
from pulse_runtime.clock import Clock
from pulse_runtime.metrics import DeliveryMetrics

_READ_AT_ONCE: Final = 20
_CONFIRMED_AT_MOST: Final = 5
_CAUSES: Final[Mapping[bool, str]] = {False: "siding", True: "parked"}


class OldestWaiting:
    """Remembers since when the head of each route is owed, and shows the oldest, parked and not.

    When a head is taken a younger one stands there, so what is remembered seldom makes a route look younger than it is,
    and only the one that is shown must be true now. (Seldom: what failed and moved to the tail is at the head again
    some day.) A look reads the first message of the siding, of any route; twenty routes, those not read yet before the
    others, which come in rotation; and whichever looks oldest. So with R routes all are seen within R/20 looks.
    """

    def __init__(
        self, siding: Siding, is_parked: Callable[[RouteAddress], bool], metrics: DeliveryMetrics, clock: Clock
    ) -> None:
        self._siding = siding
        self._is_parked = is_parked
        self._metrics = metrics
        self._clock = clock
        self._owed_since: dict[RouteAddress, float] = {}
        """In epoch seconds; whoever was read longest ago comes first."""
        self._ages = {cause: KnownAge(clock) for cause in _CAUSES.values()}

    async def measure(self, waiting: Iterable[RouteAddress]) -> None:
        """Look, and show it; *waiting* are the routes in the siding. Raises `ApiError` or `BusUnavailable`."""
        routes = dict.fromkeys(waiting)
        self._owed_since = {address: since for address, since in self._owed_since.items() if address in routes}
        await self._read_the_first(routes)
        unread = (address for address in routes if address not in self._owed_since)
        for address in [*islice(unread, _READ_AT_ONCE), *self._owed_since][:_READ_AT_ONCE]:
            await self._read(address)
        for parked, cause in _CAUSES.items():
            self._show(cause, self._ages[cause].measured(await self._oldest_age_s(parked=parked)))

    def could_not_look(self) -> None:
        """Show what it may be at most."""
        for cause, age in self._ages.items():
            self._show(cause, age.at_most_s())

    async def _oldest_age_s(self, *, parked: bool) -> float:
        """Return the oldest age of a cause, read until what looks oldest has turned out to be so."""
        mine = {address: since for address, since in self._owed_since.items() if self._is_parked(address) is parked}
        for _ in range(_CONFIRMED_AT_MOST):
            oldest = min(mine, key=mine.__getitem__, default=None)
            if oldest is None:
                return 0.0
            believed = mine.pop(oldest)
            since = await self._read(oldest)
            if since is not None:
                mine[oldest] = since
            if since == believed:
                break
        return max(0.0, self._clock.now().timestamp() - min(mine.values(), default=float("inf")))

    async def _read_the_first(self, routes: Collection[RouteAddress]) -> None:
        first = await self._siding.first()
        if first and (address := _address(first)) and address in routes:
            self._keep(address, first)

    async def _read(self, address: RouteAddress) -> float | None:
        return self._keep(address, await self._siding.peek(address))

    def _keep(self, address: RouteAddress, head: Standing | None) -> float | None:
        self._owed_since.pop(address, None)
        if head is None:
            return None
        routed_at = head.headers.get(headers.ROUTED_AT, "")
        is_known = routed_at.isascii() and routed_at.isdecimal()
        since = int(routed_at) / 1000 if is_known else self._clock.now().timestamp()
        self._owed_since[address] = since
        return since

    def _show(self, cause: str, age_s: float) -> None:
        self._metrics.oldest_undelivered_age_seconds.labels(cause=cause).set(age_s)


def _address(standing: Standing) -> RouteAddress | None:
    try:
        return parse_route_address(standing.subject)
    except InvalidToken:
        return None
