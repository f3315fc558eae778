"""The consumers of turns, as a breaker manages them: the models' sidings pass what the server's does."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest
from joint_broker import EPOCH, Broker
from server_in_memory import Server
from siding_in_memory import SidingInMemory
from turn_rig import eventually
from yard_in_memory import YardInMemory

from pulse_bus.errors import ApiError
from pulse_bus.siding import Siding
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import TurnListing, TurnState
from pulse_delivery.siding.breaker import TurnConsumers
from pulse_testkit.nats import Bus

ONE = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("route-1"))
SINCE = datetime(2026, 1, 5, 12, tzinfo=UTC)
PROBING = TurnState(phase="probing", in_flight=1, since=SINCE.isoformat())
FAILED = TurnState(phase="probing", in_flight=1, failures=3, error="answered 503", since=SINCE.isoformat())


class ListedConsumers(TurnConsumers, Protocol):
    async def turns(self) -> dict[RouteAddress, TurnListing]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """The siding of one and of another process."""

    mine: ListedConsumers
    other: ListedConsumers

    async def open(self) -> str:
        name = await self.mine.open_turn(ONE, PROBING)
        assert name
        return name

    async def listed(self) -> TurnListing:
        [turn] = (await self.other.turns()).values()
        return turn


@pytest.fixture(params=["server", "joint model", "whole model"])
async def rig(request: pytest.FixtureRequest, bus: Bus) -> Rig:
    if request.param == "server":
        connection = await bus.connect("delivery")
        return Rig(mine=Siding(connection, "me"), other=Siding(connection, "other"))

    def now() -> float:
        return (datetime.now(UTC) - EPOCH).total_seconds()

    if request.param == "whole model":
        server = Server(1000, now)
        return Rig(mine=YardInMemory(server, "me"), other=YardInMemory(server, "other"))
    broker = Broker(1000)
    return Rig(mine=SidingInMemory(broker, "me", now), other=SidingInMemory(broker, "other", now))


async def test_a_route_has_one_turn_which_all_can_see(rig: Rig) -> None:
    name = await rig.open()
    assert await rig.other.open_turn(ONE, PROBING) is None
    turn = await rig.listed()
    assert (turn.name, turn.owner, turn.since, turn.paused_until) == (name, "me", SINCE, None)


async def test_a_pause_is_listed_until_it_ends(rig: Rig) -> None:
    name, until = await rig.open(), datetime.now(UTC) + timedelta(minutes=5)
    await rig.mine.pause(name, until)
    assert (await rig.listed()).paused_until == until
    await rig.mine.pause(name, datetime.now(UTC))

    async def is_over() -> bool:
        return (await rig.listed()).paused_until is None

    await eventually(is_over)


async def test_a_turn_that_begins_with_a_pause_is_never_listed_without(rig: Rig) -> None:
    until = datetime.now(UTC) + timedelta(minutes=5)
    assert await rig.mine.open_turn(ONE, PROBING, until)
    assert (await rig.listed()).paused_until == until
    await rig.mine.pause((await rig.listed()).name, datetime.now(UTC))

    async def is_over() -> bool:
        return (await rig.listed()).paused_until is None

    await eventually(is_over)


async def test_a_change_is_listed_and_leaves_the_pause(rig: Rig) -> None:
    name, until = await rig.open(), datetime.now(UTC) + timedelta(minutes=5)
    await rig.mine.pause(name, until)
    await rig.mine.change_turn(ONE, name, FAILED)
    turn = await rig.listed()
    assert (turn.failures, turn.error, turn.paused_until) == (3, "answered 503", until)


async def test_who_was_replaced_can_do_nothing_to_the_turn_that_follows(rig: Rig) -> None:
    gone = await rig.open()
    await rig.other.close_turn(gone)
    mine = await rig.other.open_turn(ONE, PROBING)
    assert mine not in {None, gone}
    with pytest.raises(ApiError):
        await rig.mine.change_turn(ONE, gone, FAILED)
    with pytest.raises(ApiError):
        await rig.mine.pause(gone, datetime.now(UTC) + timedelta(minutes=5))
    await rig.mine.close_turn(gone)
    turn = await rig.listed()
    assert (turn.name, turn.owner, turn.failures, turn.paused_until) == (mine, "other", 0, None)
