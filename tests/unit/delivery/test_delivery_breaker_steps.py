"""A breaker grows on successes that came after its pause, not on those from before it."""

import asyncio
from datetime import datetime, timedelta

import pytest
from joint_broker import Broker, at
from joint_process import done
from siding_in_memory import SidingInMemory

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import TurnState
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


@pytest.mark.parametrize("late", ["change_turn", "pause"])
def test_the_server_is_told_of_the_longer_pause_whatever_is_late(late: str) -> None:
    waits, told, broker = asyncio.Event(), asyncio.Event(), Broker(0)

    class Late(SidingInMemory):
        async def change_turn(self, address: RouteAddress, name: str, state: TurnState) -> None:
            await self._wait("change_turn")
            await super().change_turn(address, name, state)

        async def pause(self, name: str, until: datetime) -> None:
            await self._wait("pause")
            await super().pause(name, until)

        async def _wait(self, request: str) -> None:
            if request == late and not waits.is_set():
                waits.set()
                await told.wait()

    async def fail_twice() -> None:
        first = asyncio.create_task(breaker.trip(at(5), "503"))
        await waits.wait()
        await breaker.trip(at(8), "429", at(8))
        told.set()
        await first

    breaker = Breaker(ROUTE, Late(broker, "me", lambda: 0.0), rest=None, now=at(0))
    done(breaker.open(None))
    asyncio.run(fail_twice())
    assert broker.turns[ROUTE].paused_until == (at(8) - at(0)).total_seconds()
