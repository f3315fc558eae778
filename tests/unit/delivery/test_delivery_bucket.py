from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from pulse_contracts.ids import RouteId
from pulse_delivery.domain.bucket import Bucket
from pulse_delivery.domain.due import DueRoutes

A, B, C = RouteId("a"), RouteId("b"), RouteId("c")
PER_S = st.floats(0.01, 10_000)
BURST = st.integers(1, 50)


def takes(bucket: Bucket, now: float, most: int = 100) -> int:
    """How many permits can be taken at once."""
    return next(count for count in range(most + 1) if count == most or not bucket.take(now))


def test_a_new_bucket_gives_its_burst_and_then_one_at_a_time() -> None:
    bucket = Bucket(per_s=10, burst=5)
    assert [takes(bucket, now) for now in (0.0, 0.05, 0.1, 0.3)] == [5, 0, 1, 2]


def test_a_quiet_time_fills_it_to_the_burst_and_no_further() -> None:
    bucket = Bucket(per_s=10, burst=5)
    assert [takes(bucket, now) for now in (0.0, 3600.0)] == [5, 5]


def test_it_says_when_each_of_the_next_is_due() -> None:
    bucket = Bucket(per_s=4, burst=2)
    assert [bucket.wait_s(0.0, nth) for nth in (0, 1, 2, 3, 4)] == [0, 0, 0, 0.25, 0.5]
    takes(bucket, 0.0)
    assert [bucket.wait_s(0.125, nth) for nth in (0, 1, 2)] == [0, 0.125, 0.375]


def test_a_part_of_a_permit_is_none() -> None:
    bucket = Bucket(per_s=10, burst=2.5)
    assert [takes(bucket, now) for now in (0.0, 0.04, 0.05)] == [2, 0, 1]


def test_a_clock_that_went_back_makes_it_stricter() -> None:
    bucket = Bucket(per_s=10, burst=1)
    assert takes(bucket, 5.0) == 1
    assert [takes(bucket, now) for now in (4.0, 5.05, 5.1)] == [0, 0, 1]


def test_an_attempt_without_a_permit_is_made_up_for_by_the_next() -> None:
    bucket = Bucket(per_s=10, burst=2)
    assert takes(bucket, 0.0) == 2
    bucket.owe(0.0)
    assert [takes(bucket, now) for now in (0.1, 0.19, 0.2)] == [0, 0, 1]


def test_another_rate_goes_on_with_the_permits_that_are_there() -> None:
    bucket = Bucket(per_s=1, burst=4)
    assert [bucket.take(0.0), bucket.take(0.0)] == [True, True]
    bucket.change(0.0, per_s=10, burst=100)
    assert [takes(bucket, now) for now in (0.0, 0.05, 0.1)] == [2, 0, 1]
    bucket.change(60.0, per_s=1, burst=3)
    assert [takes(bucket, now) for now in (60.0, 60.5, 61.0)] == [3, 0, 1]


@given(PER_S, BURST, st.floats(0, 1e6))
def test_rounding_costs_no_permit(per_s: float, burst: int, now: float) -> None:
    bucket = Bucket(per_s=per_s, burst=burst)
    assert takes(bucket, now) == burst
    for _ in range(20):
        now += bucket.wait_s(now)
        assert bucket.take(now)


@given(PER_S, BURST, st.lists(st.floats(0, 3), max_size=60), st.floats(0, 1e6))
def test_no_stretch_of_time_sees_more_than_the_rate(per_s: float, burst: int, pauses: list[float], now: float) -> None:
    bucket = Bucket(per_s=per_s, burst=burst)
    taken: list[float] = []
    for pause in pauses:
        now += pause / per_s
        taken += [now] * bucket.take(now)
    for first, begin in enumerate(taken):
        for end in taken[first:]:
            count = bisect_right(taken, end) - first
            assert count <= burst + per_s * (end - begin) + 0.02  # a microsecond at 10,000 a second, and rounding


def test_the_route_that_is_due_longest_comes_first() -> None:
    due = DueRoutes()
    for route, at in ((A, 3.0), (B, 1.0), (C, 2.0)):
        due.put(route, at)
    assert due.next_at == 1.0
    assert due.take(2.0) == [B, C]
    assert due.take(2.9) == []
    assert (due.next_at, A in due, B in due) == (3.0, True, False)


def test_only_the_last_moment_said_of_a_route_counts() -> None:
    due = DueRoutes()
    due.put(A, 1.0)
    due.put(A, 2.0)
    assert due.take(1.0) == []
    due.put(A, 0.5)
    assert due.take(3.0) == [A]
    assert due.next_at is None


def test_a_discarded_route_is_not_due() -> None:
    due = DueRoutes()
    due.put(A, 1.0)
    due.discard(A)
    assert due.next_at is None
    due.put(A, 1.0)
    assert due.take(1.0) == [A]
    assert due.take(1.0) == []
