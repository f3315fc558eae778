import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse_contracts.routes import RoutePolicy, parse_policy
from pulse_delivery.domain.backoff import pause_s

POLICIES = st.fixed_dictionaries(
    {
        "first_s": st.floats(0.05, 3600),
        "factor": st.floats(1, 10) | st.integers(1, 10),
        "cap_s": st.floats(0.05, 3600),
    }
).map(lambda backoff: parse_policy({"backoff": backoff}))
FAILURES = st.integers(1, 10**9)
RANDOM = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 64), (8, 128), (9, 256), (10, 300), (11, 300), (10**9, 300)],
)
def test_the_default_schedule_is_the_documented_one(failures: int, longest: float) -> None:
    assert pause_s(failures, RoutePolicy(), None, lambda: 1.0) == longest
    assert pause_s(failures, RoutePolicy(), None, lambda: 0.5) == longest / 2
    assert pause_s(failures, RoutePolicy(), None, lambda: 0.0) == pytest.approx(longest / 10)


@given(FAILURES, POLICIES, RANDOM)
def test_without_retry_after_a_pause_never_exceeds_the_cap_and_is_never_nothing(
    failures: int, policy: RoutePolicy, chance: float
) -> None:
    pause = pause_s(failures, policy, None, lambda: chance)
    assert 0 < pause <= policy.backoff_cap_s
    assert pause <= policy.backoff_first_s * policy.backoff_factor ** min(failures - 1, 64)


@given(st.integers(1, 10**6), POLICIES, RANDOM)
def test_with_the_same_luck_another_failure_never_shortens_the_pause(
    failures: int, policy: RoutePolicy, chance: float
) -> None:
    now, after = (pause_s(n, policy, None, lambda: chance) for n in (failures, failures + 1))
    assert after >= now


@given(FAILURES, POLICIES, RANDOM, st.floats(0, 1e9))
def test_retry_after_is_honoured_up_to_an_hour_and_never_shortens_a_pause(
    failures: int, policy: RoutePolicy, chance: float, asked: float
) -> None:
    own = pause_s(failures, policy, None, lambda: chance)
    pause = pause_s(failures, policy, asked, lambda: chance)
    assert pause == max(own, min(asked, 3600))
    assert math.isfinite(pause)
