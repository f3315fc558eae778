"""From an outcome to what follows. The one place where it is decided whether to try again.

| outcome   | on the fast lane          | head of the siding                                                  |
|-----------|---------------------------|---------------------------------------------------------------------|
| Delivered | Settle                    | Settle                                                              |
| Rejected  | DeadLetter                | DeadLetter                                                          |
| Failed    | Shunt to the siding, the  | ProbeFailed: the message waits, the route is paused                 |
|           | first failure of the route|                                                                     |
|           |                           | Shunt to the tail, once the destination *answered* it `HEAD_TRIES`  |
|           |                           | times: a poison message must not block its route                    |
| … too old, or answered `max_attempts` times: DeadLetter, on either                                            |
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

from pulse_contracts.disposition import DeadLetter, Disposition, ProbeFailed, Settle, Shunt
from pulse_contracts.outcome import Delivered, Failed, Outcome, Rejected
from pulse_contracts.routes import Route, RoutePolicy
from pulse_delivery.domain.backoff import asked_s, pause_s

HEAD_TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is known about the attempt that an outcome belongs to."""

    answered: int
    """Attempts that were answered with failure, this one included."""
    routed_at: datetime
    is_probe: bool = False
    """Whether the message came from the siding."""
    answered_as_head: int = 0
    """Those of them since the message became the head of its siding, this one included."""
    failures: int = 0
    """Failures of the route in a row, before this outcome."""


def decide(
    outcome: Outcome, attempt: Attempt, policy: RoutePolicy, now: datetime, *, random: Callable[[], float]
) -> Disposition:
    """Return what follows from *outcome*. Pure: the edge carries it out."""
    match outcome:
        case Delivered():
            return Settle()
        case Rejected(reason=reason, error=error):
            return DeadLetter(reason=reason, error=error)
        case Failed() as failed:
            return _after_failure(failed, attempt, policy, now, random)
        case _:
            assert_never(outcome)


def is_expired(routed_at: datetime, policy: RoutePolicy, now: datetime) -> bool:
    """Whether a message has waited longer than its route wants it to."""
    return now - routed_at >= timedelta(seconds=policy.max_age_s)


def waits_since(routed_at: datetime, route: Route) -> datetime:
    """Return when a message began to wait for its destination: parked time does not count."""
    return max(routed_at, route.enabled_at)


def is_overdue(routed_at: datetime, route: Route, now: datetime) -> bool:
    """Whether a message that was routed then has waited longer than *route* wants it to."""
    return is_expired(waits_since(routed_at, route), route.policy, now)


def waits_until(routed_at: datetime, route: Route) -> datetime:
    """Return when a message that was routed then is overdue."""
    return waits_since(routed_at, route) + timedelta(seconds=route.policy.max_age_s)


def overdue(policy: RoutePolicy) -> str:
    """Say that a message has waited too long."""
    return f"not delivered within {policy.max_age_s:g} s"


def _after_failure(
    failed: Failed, attempt: Attempt, policy: RoutePolicy, now: datetime, random: Callable[[], float]
) -> Disposition:
    asked = asked_s(failed.retry_after_s)
    rest_until = now + timedelta(seconds=asked) if asked else None
    if is_expired(attempt.routed_at, policy, now):
        return DeadLetter(reason="max_age", error=f"{overdue(policy)}: {failed.error}", rest_until=rest_until)
    if failed.answered and attempt.answered >= policy.max_attempts:
        error = f"answered with failure {attempt.answered} times: {failed.error}"
        return DeadLetter(reason="max_attempts", error=error, rest_until=rest_until)
    if attempt.is_probe and failed.answered and attempt.answered_as_head >= HEAD_TRIES:
        return Shunt(reason="head_failed", rest_until=rest_until)
    pause = pause_s(attempt.failures + 1, policy, failed.retry_after_s, random)
    paused = ProbeFailed(pause_until=now + timedelta(seconds=pause), error=failed.error, rest_until=rest_until)
    if attempt.is_probe:
        return paused
    return Shunt(reason="attempt_failed", rest_until=rest_until, failed=paused)
