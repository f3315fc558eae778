import gc

from pulse_contracts.ids import RouteId
from pulse_contracts.routes import Rate
from pulse_delivery.domain.bucket import Bucket
from pulse_delivery.domain.rates import Rates

A, B, C = RouteId("a"), RouteId("b"), RouteId("c")


class Buckets:
    """Rates that a test edits, and the time."""

    def __init__(self, *, replicas: int = 1, **rates: Rate) -> None:
        self.now = 0.0
        self.rates = {RouteId(name): rate for name, rate in rates.items()}
        self.made = Rates(self.rates.get, lambda: self.now, replicas=replicas)

    def takes(self, route: RouteId, most: int = 100) -> int:
        return next(count for count in range(most + 1) if count == most or not self.made.take(route))


def buckets_in_memory() -> int:
    gc.collect()
    return sum(isinstance(found, Bucket) for found in gc.get_objects())


def test_a_route_without_a_rate_always_has_a_permit() -> None:
    buckets = Buckets()
    assert buckets.takes(A) == 100
    assert buckets.made.wait_s(A, 10_000) == 0


def test_routes_do_not_share_permits() -> None:
    buckets = Buckets(a=Rate(per_s=1, burst=3), b=Rate(per_s=1, burst=2))
    assert [buckets.takes(A), buckets.takes(B), buckets.takes(C)] == [3, 2, 100]


def test_an_edited_rate_takes_effect_with_the_next_permit() -> None:
    buckets = Buckets(a=Rate(per_s=1, burst=1))
    assert [buckets.takes(A), buckets.made.wait_s(A)] == [1, 1]
    buckets.rates[A] = Rate(per_s=4, burst=1)
    assert buckets.made.wait_s(A) == 0.25
    buckets.now = 0.25
    assert buckets.takes(A) == 1
    del buckets.rates[A]
    assert buckets.takes(A) == 100


def test_replicas_together_keep_the_rate() -> None:
    rate = Rate(per_s=10, burst=5)
    replicas = [Buckets(replicas=2, a=rate) for _ in range(2)]
    assert sum(each.takes(A) for each in replicas) <= rate.burst
    for each in replicas:
        each.now = 60.0
        each.takes(A)
        each.now = 61.0
    assert sum(each.takes(A) for each in replicas) <= rate.burst
    assert [each.made.wait_s(A, 11) - each.made.wait_s(A, 1) for each in replicas] == [2, 2]


def test_each_of_many_replicas_has_at_least_one_permit() -> None:
    assert Buckets(replicas=8, a=Rate(per_s=1, burst=2)).takes(A) == 1


def test_buckets_that_are_full_are_forgotten_and_no_others() -> None:
    buckets = Buckets()
    for number in range(10_000):
        route = RouteId(f"r{number}")
        buckets.rates[route] = Rate(per_s=1, burst=1)
        buckets.now = 0.5 if number >= 5_000 else 0.0
        buckets.made.take(route)
    buckets.now = 1.0
    buckets.rates[A] = Rate(per_s=1, burst=1)
    before = buckets_in_memory()
    buckets.made.take(A)
    assert before - buckets_in_memory() == 5_000 - 1
    assert buckets.made.wait_s(RouteId("r9999")) == 0.5
