"""What a turn does at its edges: when it pauses, leaves or ends while messages are on their way to it."""

import asyncio

import pytest
from one_process import LIMITED, ROUTE, STEP_S, OneProcess, one_process
from server_in_memory import Consumer
from yard_in_memory import YardInMemory

from pulse_contracts.outcome import Failed
from pulse_contracts.routes import Rate
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.decide import HEAD_TRIES

ASKS = Failed(error="429", answered=True, retry_after_s=20.0)
LONG_S = 8.0


def test_a_turn_that_pauses_gives_back_what_came_meanwhile() -> None:
    with one_process(answer_s=0.1) as one:
        one.takes_s.update({2: 0.2, 3: 0.25, 4: 1.0, 5: 1.0})
        one.outcomes[2] = ASKS
        one.put_aside(*range(1, 10))
        turn = _turn(one, grown_to=4)
        one.until(lambda: turn.paused_until > one.loop.time())
        one.loop.advance(LONG_S)
        assert {3, 4, 5} <= set(one.tried())
        assert not turn.leases


def test_a_destination_that_asks_for_a_rest_gets_it_whatever_becomes_of_the_message() -> None:
    with one_process() as one:
        one.outcomes[1] = Failed(error="503", answered=True)
        one.put_aside(1, 2)
        one.until(lambda: one.tried() == [1] * HEAD_TRIES, 60)
        one.outcomes[1] = ASKS
        one.until(lambda: len(one.begun) > HEAD_TRIES, 60)
        asked, again = one.begun[HEAD_TRIES - 1 :]
        assert again[0] >= asked[0] + 20


def test_a_turn_that_leaves_gives_back_at_once_what_it_does_not_try() -> None:
    with one_process() as one:
        one.takes_s[2] = LONG_S
        one.put_aside(1, 2)
        turn = _turn(one, grown_to=4)
        one.until(lambda: 2 in one.tried())
        one.put_aside(3)
        one.process.turns[ROUTE].leave(close=False)
        one.loop.advance(LONG_S / 2)
        assert one.tried() == [1, 2]
        assert [one.server.siding[ROUTE][sequence].number for sequence in turn.leases] == [2]


@pytest.mark.parametrize("is_late", [False, True], ids=["while it counts", "while it closes"])
def test_a_turn_does_not_end_over_what_is_on_its_way_to_the_siding(
    monkeypatch: pytest.MonkeyPatch, *, is_late: bool
) -> None:
    with one_process() as one:
        one.ended[2], one.outcomes[2] = asyncio.Event(), ASKS
        one.send(2)
        one.until(lambda: one.tried() == [2])
        one.put_aside(1)

        async def close_turn(self: YardInMemory, name: str) -> None:
            one.ended[2].set()
            await asyncio.sleep(0.05)
            await closes(self, name)

        async def waiting_of(self: YardInMemory, address: RouteAddress) -> int:
            found = await counts(self, address)
            if not found:
                one.ended[2].set()
                await asyncio.sleep(0.05)
            return found

        closes, counts = YardInMemory.close_turn, YardInMemory.waiting_of
        monkeypatch.setattr(YardInMemory, *(("close_turn", close_turn) if is_late else ("waiting_of", waiting_of)))
        one.until(one.ended[2].is_set)
        asked_at = one.loop.time() - STEP_S
        one.loop.advance(LONG_S)
        assert one.tried() == [2, 1], "what the destination asked for was forgotten"
        assert one.server.happened["opened"] == 1 + is_late
        one.until(lambda: len(one.begun) > 2, 60)
        assert one.begun[2][0] >= asked_at + 20


def test_a_turn_counts_only_when_nothing_is_on_its_way_to_the_siding(monkeypatch: pytest.MonkeyPatch) -> None:
    with one_process(answer_s=0.1) as one:
        one.ended[2], one.outcomes[2] = asyncio.Event(), Failed(error="503", answered=True)
        one.send(2)
        one.until(lambda: one.tried() == [2])
        one.put_aside(1)
        asked: list[bool] = []

        async def waiting_of(self: YardInMemory, address: RouteAddress) -> int:
            asked.append(one.process.troubles.is_shunting(address))
            return await counts(self, address)

        counts = YardInMemory.waiting_of
        monkeypatch.setattr(YardInMemory, "waiting_of", waiting_of)
        one.until(lambda: 1 in one.tried())
        one.loop.advance(0.3)
        one.ended[2].set()
        one.until(lambda: len(one.begun) > 2)
        one.until(lambda: asked)
        assert not any(asked)


def test_a_message_that_lapsed_while_it_waited_for_its_permit_is_not_tried() -> None:
    with one_process(rate=Rate(per_s=0.1, burst=1)) as one:
        one.put_aside(1, 2, address=LIMITED)
        one.until(lambda: one.tried() == [1])
        one.loop.advance(1.0)
        one.stand_still(one.server.turns[LIMITED])
        assert one.tried() == [1]


def _turn(one: OneProcess, *, grown_to: int) -> Consumer:
    one.until(lambda: ROUTE in one.server.turns and one.server.turns[ROUTE].most_pending == grown_to)
    return one.server.turns[ROUTE]
