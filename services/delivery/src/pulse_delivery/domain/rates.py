"""How often each route may be tried, by the rate in its policy."""

from collections.abc import Callable
from typing import Final

from pulse_contracts.ids import RouteId
from pulse_contracts.routes import Rate
from pulse_delivery.domain.bucket import Bucket

_MAX_REMEMBERED: Final = 10_000
"""Buckets beyond which those that are full are forgotten: a new one is full too."""


class Rates:
    """The buckets of a process: both the lanes and the turns take their permits here.

    A destination sees the time that passes, not what this process makes of it, so permits come by the real clock. A
    route's rate is asked for each time: an edit takes effect with the next permit.
    """

    def __init__(
        self,
        rate_of: Callable[[RouteId], Rate | None],
        monotonic: Callable[[], float],
        *,
        replicas: int = 1,
    ) -> None:
        """Give this process its share of each rate: one of *replicas*, at least a burst of 1."""
        self._rate_of = rate_of
        self._monotonic = monotonic
        self._replicas = replicas
        self._buckets: dict[RouteId, tuple[Rate, Bucket]] = {}

    def take(self, route: RouteId) -> bool:
        """Take a permit for one attempt if one is here; a route without a rate always has one."""
        bucket = self._bucket(route)
        return bucket is None or bucket.take(self._monotonic())

    def owe(self, route: RouteId) -> None:
        """Count an attempt that was made without asking."""
        if bucket := self._bucket(route):
            bucket.owe(self._monotonic())

    def wait_s(self, route: RouteId, nth: int = 1) -> float:
        """Return in how long the *nth* permit from now on is due; 0 if it is here."""
        bucket = self._bucket(route)
        return 0.0 if bucket is None else bucket.wait_s(self._monotonic(), nth)

    @property
    def now(self) -> float:
        """The clock by which permits are due."""
        return self._monotonic()

    def _bucket(self, route: RouteId) -> Bucket | None:
        rate = self._rate_of(route)
        if rate is None:
            self._buckets.pop(route, None)
            return None
        known = self._buckets.get(route)
        if known and known[0] == rate:
            return known[1]
        per_s, burst = rate.per_s / self._replicas, max(1.0, rate.burst / self._replicas)
        if known:
            bucket = known[1]
            bucket.change(self._monotonic(), per_s=per_s, burst=burst)
        else:
            self._forget_full()
            bucket = Bucket(per_s=per_s, burst=burst)
        self._buckets[route] = (rate, bucket)
        return bucket

    def _forget_full(self) -> None:
        if len(self._buckets) >= _MAX_REMEMBERED:
            now = self._monotonic()
            for route in [route for route, (_, bucket) in self._buckets.items() if bucket.is_full(now)]:
                del self._buckets[route]
