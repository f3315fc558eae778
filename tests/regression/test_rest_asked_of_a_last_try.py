"""A destination that asked for a rest was tried again at once, if what it answered was out of the way with that.

At its third failure the head of a siding moves to the tail, at its last it becomes a dead letter, and the next message
was tried in the same moment: the Retry-After of that answer was lost.
"""

from datetime import UTC, datetime, timedelta

import pytest

from pulse_contracts.disposition import DeadLetter, Shunt
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.outcome import Failed
from pulse_contracts.routes import RoutePolicy
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.decide import HEAD_TRIES, Attempt, decide
from pulse_delivery.domain.troubles import Troubles

NOW = datetime(2026, 1, 5, tzinfo=UTC)
POLICY = RoutePolicy(max_attempts=HEAD_TRIES + 2)
ASKS = Failed(error="429", answered=True, status=429, retry_after_s=600.0)
ROUTE = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("r-1"))


@pytest.mark.parametrize(
    ("answered", "routed_at", "what"),
    [
        (HEAD_TRIES, NOW, Shunt),
        (POLICY.max_attempts, NOW, DeadLetter),
        (1, NOW - timedelta(seconds=POLICY.max_age_s), DeadLetter),
    ],
    ids=["moved to the tail", "max_attempts", "max_age"],
)
def test_the_route_rests_as_its_destination_asked(
    answered: int, routed_at: datetime, what: type[Shunt | DeadLetter]
) -> None:
    attempt = Attempt(answered=answered, routed_at=routed_at, is_probe=True, answered_as_head=answered)
    disposition = decide(ASKS, attempt, POLICY, NOW, random=lambda: 1.0)
    assert isinstance(disposition, what)
    troubles = Troubles()
    troubles.heed(ROUTE, disposition)
    assert troubles.take_rest(ROUTE) == NOW + timedelta(seconds=600)
