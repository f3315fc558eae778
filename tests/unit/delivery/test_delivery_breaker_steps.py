"""A breaker grows on successes that came after its pause, not on those from before it."""

from datetime import timedelta

from joint_broker import Broker, at
from joint_process import done
from siding_in_memory import SidingInMemory

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.siding.breaker import Breaker

ROUTE = RouteAddress(kind="webhook", tenant=TenantId("t"), route=RouteId("r"))
MOST = 16


def test_a_success_of_before_the_pause_ended_makes_nothing_grow() -> None:
    breaker = Breaker(ROUTE, SidingInMemory(Broker(0), "me", lambda: 0.0), rest=None, now=at(0))
    assert done(breaker.open(None))
    assert done(breaker.trip(at(1), "503"))
    breaker.note_success()
    done(breaker.half_open(at(1) + timedelta(seconds=1)))
    done(breaker.grow(MOST))
    assert breaker.most_in_flight == 1
    breaker.note_success()
    done(breaker.grow(MOST))
    assert breaker.most_in_flight > 1


def test_of_failures_at_once_the_latest_moment_that_was_asked_for_holds() -> None:
    breaker = Breaker(ROUTE, SidingInMemory(broker := Broker(0), "me", lambda: 0.0), rest=None, now=at(0))
    done(breaker.open(None))
    assert done(breaker.trip(at(5), "503"))
    assert not done(breaker.trip(at(9), "503"))
    assert breaker.pause_until == at(5), "with jitter, the longest of many would be long"
    assert not done(breaker.trip(at(8), "429", at(8)))
    assert not done(breaker.trip(at(6), "429", at(6)))
    assert breaker.pause_until == at(8)
    assert broker.turns[ROUTE].paused_until == (at(8) - at(0)).total_seconds()
    assert breaker.failures == 1
