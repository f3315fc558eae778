from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from delivery_builders import NOW, parcel
from hypothesis import given
from hypothesis import strategies as st

from pulse_contracts.disposition import DeadLetter, Disposition, ProbeFailed, Settle, Shunt
from pulse_contracts.outcome import Delivered, Failed, Outcome, Rejected
from pulse_contracts.routes import RoutePolicy
from pulse_delivery.domain.decide import HEAD_TRIES, Attempt, decide, is_expired

POLICY = RoutePolicy(max_age_s=60, max_attempts=5, backoff_first_s=1, backoff_factor=2, backoff_cap_s=300)
UNREACHED = Failed(error="connection refused", answered=False)
ANSWERED = Failed(error="answered 503", answered=True, status=503)
GONE = Rejected(error="answered 410", reason="status_410", status=410)
FRESH = NOW - timedelta(seconds=59)
OLD = NOW - timedelta(seconds=60)


def decided(outcome: Outcome, attempt: Attempt) -> Disposition:
    return decide(outcome, attempt, POLICY, NOW, random=lambda: 1.0)


def fast(*, answered: int = 1, routed_at: datetime = FRESH) -> Attempt:
    return Attempt(answered=answered, routed_at=routed_at)


def head(*, answered: int = 1, as_head: int = 1, failures: int = 0, routed_at: datetime = FRESH) -> Attempt:
    return Attempt(answered=answered, routed_at=routed_at, is_probe=True, answered_as_head=as_head, failures=failures)


DEAD_410 = DeadLetter(reason="status_410", error="answered 410")
PAUSED_1_S = ProbeFailed(pause_until=NOW + timedelta(seconds=1), error="connection refused")
FIRST_FAILURE = Shunt(reason="attempt_failed", failed=PAUSED_1_S)
FIRST_ANSWER = Shunt(reason="attempt_failed", failed=replace(PAUSED_1_S, error="answered 503"))


@pytest.mark.parametrize(
    ("outcome", "attempt", "expected"),
    [
        pytest.param(Delivered(status=204), fast(), Settle(), id="delivered on the fast lane"),
        pytest.param(Delivered(), head(), Settle(), id="delivered from the siding"),
        pytest.param(Delivered(), fast(routed_at=OLD), Settle(), id="delivered though too old"),
        pytest.param(Delivered(), fast(answered=99), Settle(), id="delivered though tried too often"),
        pytest.param(GONE, fast(), DEAD_410, id="rejected on the fast lane"),
        pytest.param(GONE, head(), DEAD_410, id="rejected as head"),
        pytest.param(UNREACHED, fast(answered=0), FIRST_FAILURE, id="unreached on the fast lane"),
        pytest.param(ANSWERED, fast(answered=4), FIRST_ANSWER, id="answered on the fast lane"),
        pytest.param(UNREACHED, head(answered=0, as_head=0), PAUSED_1_S, id="unreached as head: it waits"),
        pytest.param(
            UNREACHED, head(answered=4, as_head=HEAD_TRIES), PAUSED_1_S, id="unreached as head: never to the tail"
        ),
        pytest.param(
            UNREACHED, head(answered=99, as_head=0), PAUSED_1_S, id="unreached attempts do not count against a message"
        ),
        pytest.param(
            ANSWERED,
            head(as_head=HEAD_TRIES - 1, answered=4),
            ProbeFailed(pause_until=NOW + timedelta(seconds=1), error="answered 503"),
            id="answered as head, not often enough",
        ),
        pytest.param(
            ANSWERED,
            head(as_head=HEAD_TRIES, answered=4),
            Shunt(reason="head_failed"),
            id="answered as head",
        ),
        pytest.param(
            UNREACHED,
            head(answered=0, as_head=0, failures=3),
            ProbeFailed(pause_until=NOW + timedelta(seconds=8), error="connection refused"),
            id="the pause grows with the route's failures in a row",
        ),
        pytest.param(
            Failed(error="answered 429", answered=True, retry_after_s=30),
            head(),
            ProbeFailed(
                pause_until=NOW + timedelta(seconds=30), error="answered 429", rest_until=NOW + timedelta(seconds=30)
            ),
            id="the destination says when",
        ),
    ],
)
def test_each_row_of_the_table(outcome: Outcome, attempt: Attempt, expected: Disposition) -> None:
    assert decided(outcome, attempt) == expected


@pytest.mark.parametrize("outcome", [UNREACHED, ANSWERED])
@pytest.mark.parametrize("attempt", [fast(routed_at=OLD), head(routed_at=OLD), head(routed_at=OLD, as_head=HEAD_TRIES)])
def test_what_failed_and_is_too_old_is_dead(outcome: Failed, attempt: Attempt) -> None:
    expected = DeadLetter(reason="max_age", error=f"not delivered within 60 s: {outcome.error}")
    assert decided(outcome, attempt) == expected


@pytest.mark.parametrize("attempt", [fast(answered=5), fast(answered=6), head(answered=5, as_head=HEAD_TRIES)])
def test_what_was_answered_with_failure_as_often_as_may_be_is_dead(attempt: Attempt) -> None:
    disposition = decided(ANSWERED, attempt)
    assert isinstance(disposition, DeadLetter)
    assert disposition.reason == "max_attempts"
    assert "answered 503" in disposition.error


OUTCOMES = st.sampled_from([Delivered(), UNREACHED, ANSWERED, GONE])
ATTEMPTS = st.builds(
    Attempt,
    answered=st.integers(0, 10),
    routed_at=st.sampled_from([FRESH, OLD, NOW]),
    is_probe=st.booleans(),
    answered_as_head=st.integers(0, 5),
    failures=st.integers(0, 1000),
)


@given(OUTCOMES, ATTEMPTS)
def test_a_message_leaves_the_fast_lane_after_one_attempt(outcome: Outcome, attempt: Attempt) -> None:
    disposition = decided(outcome, attempt)
    assert attempt.is_probe or not isinstance(disposition, ProbeFailed)


@given(OUTCOMES, ATTEMPTS)
def test_only_what_was_delivered_is_settled(outcome: Outcome, attempt: Attempt) -> None:
    assert isinstance(decided(outcome, attempt), Settle) == isinstance(outcome, Delivered)


@given(ATTEMPTS)
def test_an_unreachable_destination_kills_only_by_age(attempt: Attempt) -> None:
    disposition = decided(UNREACHED, attempt)
    assert isinstance(disposition, DeadLetter) == (attempt.routed_at == OLD)


@pytest.mark.parametrize(("age_s", "expected"), [(0, False), (59.999, False), (60, True), (86_400, True), (-5, False)])
def test_a_message_expires_at_its_routes_age(age_s: float, *, expected: bool) -> None:
    assert is_expired(NOW - timedelta(seconds=age_s), POLICY, NOW) == expected


@pytest.mark.parametrize(
    ("outcome", "attempts", "answered"), [(Delivered(), 3, 1), (UNREACHED, 3, 1), (ANSWERED, 3, 2), (GONE, 3, 1)]
)
def test_a_parcel_counts_every_attempt_and_apart_those_answered_with_failure(
    outcome: Outcome, attempts: int, answered: int
) -> None:
    after = parcel(attempts=2, answered=1).after(outcome)
    assert (after.attempts, after.answered) == (attempts, answered)


def test_the_webhook_id_is_the_same_at_every_attempt() -> None:
    assert parcel().delivery_id == parcel().after(ANSWERED).after(UNREACHED).delivery_id == "m-1:r-1"
