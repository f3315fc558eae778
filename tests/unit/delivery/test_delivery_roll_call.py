"""The roll call asks the server for no more than this process does not know."""

import asyncio
from typing import cast

import pytest
from server_in_memory import Server
from whole_world import ROUTES
from yard_in_memory import YardInMemory

from pulse_bus.siding import Siding
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import TurnListing, TurnState
from pulse_delivery.siding.roll_call import RollCall

PROBING = TurnState(phase="probing", in_flight=1)
MINE, THEIRS = ROUTES[:2]


class Yard(YardInMemory):
    """Counts what it is asked for."""

    listed = 0

    async def turns(self) -> dict[RouteAddress, TurnListing]:
        self.listed += 1
        return await super().turns()


class Calls:
    """The roll call of one of two processes."""

    def __init__(self) -> None:
        server = Server(1000, lambda: 0.0)
        self.mine, self.theirs = Yard(server, "me"), Yard(server, "other")
        self.consumers: dict[str, RouteAddress] = {}
        self._roll_call = RollCall(cast("Siding", self.mine))

    async def open_mine(self) -> None:
        name = await self.mine.open_turn(MINE, PROBING)
        assert name
        self.consumers = {name: MINE}

    async def owners(self) -> dict[RouteAddress, str]:
        listed = await self._roll_call.turns(lambda: self.consumers)
        return {address: turn.owner for address, turn in listed.items()}


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_names_are_enough_while_all_turns_are_ours(calls: Calls) -> None:
    async def play() -> None:
        assert await calls.owners() == {}
        await calls.open_mine()
        assert await calls.owners() == {MINE: "me"}
        await calls.mine.close_turn(next(iter(calls.consumers)))
        assert await calls.owners() == {}

        await calls.open_mine()
        await calls.owners()
        calls.consumers = {}
        assert await calls.owners() == {MINE: "me"}, "what this process left behind is listed till it is gone"

    asyncio.run(play())
    assert not calls.mine.listed


def test_what_others_show_is_read_at_each_call(calls: Calls) -> None:
    async def play() -> None:
        await calls.open_mine()
        name = await calls.theirs.open_turn(THEIRS, PROBING)
        assert name
        for _ in range(2):
            assert await calls.owners() == {MINE: "me", THEIRS: "other"}
        assert calls.mine.listed == 2
        await calls.theirs.close_turn(name)
        assert await calls.owners() == {MINE: "me"}

    asyncio.run(play())
    assert calls.mine.listed == 2


def test_a_turn_of_ours_that_we_do_not_know_is_read(calls: Calls) -> None:
    async def play() -> None:
        await calls.open_mine()
        calls.consumers = {}
        assert await calls.owners() == {MINE: "me"}

    asyncio.run(play())
    assert calls.mine.listed == 1
