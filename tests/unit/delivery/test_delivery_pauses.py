"""A pause costs next to nothing while it lasts, and ends when something changes for its route, not for another."""

from collections.abc import Generator
from dataclasses import replace

import pytest
from one_process import LIMITED, ROUTE, OneProcess, one_process
from whole_world import standing, stored_routes

from pulse_bus.siding import PULL_EXPIRES_S
from pulse_contracts import headers
from pulse_contracts.outcome import Delivered, Failed
from pulse_contracts.routes import RoutePolicy
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.siding.sweep import TurnSweeps

PAUSE_S = 40.0


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each time that a pause looks about."""
    made: list[None] = []
    in_pause = TurnSweeps.in_pause

    async def counted(self: TurnSweeps) -> bool:
        made.append(None)
        return await in_pause(self)

    monkeypatch.setattr(TurnSweeps, "in_pause", counted)
    return made


@pytest.fixture
def paused() -> Generator[OneProcess]:
    """A process whose route has just begun a pause."""
    with one_process() as one:
        one.outcomes[1] = Failed(error="429", answered=True, retry_after_s=PAUSE_S)
        one.put_aside(1, 2)
        one.until(lambda: ROUTE in one.server.turns and one.server.turns[ROUTE].paused_until > one.loop.time())
        yield one


def _edit(one: OneProcess, address: RouteAddress) -> None:
    routes = [
        replace(stored, route=replace(stored.route, revision=stored.route.revision + (stored.route.address == address)))
        for stored in stored_routes(RoutePolicy(), None)
    ]
    one.loop.create_task(one.process.book.learn(routes), context=one.process.owner.context)


def test_a_pause_is_left_alone(paused: OneProcess, looks: list[None]) -> None:
    paused.loop.advance(PULL_EXPIRES_S)
    looks.clear()
    paused.loop.advance(PAUSE_S - 2 * PULL_EXPIRES_S)
    assert not paused.server.turns[ROUTE].is_pulled(paused.loop.time())
    assert len(looks) <= 2, "more often than the head may have grown too old"
    assert paused.tried() == [1]
    paused.until(lambda: len(paused.begun) > 1)


def test_nothing_is_asked_for_that_may_not_be_tried_beside_a_probe() -> None:
    with one_process() as one:
        one.takes_s[1] = 8.0
        one.put_aside(1, 2)
        one.until(lambda: one.tried() == [1])
        one.loop.advance(2 * PULL_EXPIRES_S)
        assert not one.server.turns[ROUTE].is_pulled(one.loop.time())
        one.until(lambda: one.tried() == [1, 2], 5)


def test_what_is_too_old_is_buried_though_its_revision_of_the_route_is_not_known_here() -> None:
    with one_process() as one:
        old = standing(ROUTE, 1, one.loop.time() - RoutePolicy().max_age_s - 1)
        one.server.put_aside(ROUTE, replace(old, headers={**old.headers, headers.ROUTE_REVISION: "2"}))
        one.until(lambda: one.server.dead == {1: "max_age"}, 15)


def test_an_edit_of_its_route_ends_a_pause_at_once(paused: OneProcess) -> None:
    _edit(paused, ROUTE)
    paused.until(lambda: len(paused.begun) > 1, 0.5)


def test_an_edit_of_another_route_leaves_it_alone(paused: OneProcess, looks: list[None]) -> None:
    paused.loop.advance(1.0)
    looks.clear()
    for _ in range(3):
        _edit(paused, LIMITED)
        paused.loop.advance(0.1)
    assert not looks
    assert paused.tried() == [1]


def test_an_edit_while_the_others_in_flight_come_to_their_end_ends_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    with one_process() as one:
        one.takes_s.update({2: 0.2, 3: 5.0})
        one.outcomes[2] = Failed(error="429", answered=True, retry_after_s=PAUSE_S)
        one.put_aside(*range(1, 5))
        one.until(lambda: {2, 3} <= set(one.tried()))
        turn = one.process.turns[ROUTE]
        one.until(lambda: turn.paused_until)
        monkeypatch.setitem(one.outcomes, 2, Delivered())
        _edit(one, ROUTE)
        one.until(lambda: one.tried().count(2) > 1, 6)


def test_the_end_of_an_outage_on_this_side_ends_a_pause(paused: OneProcess) -> None:
    outage = paused.process.keeper._tools.outage  # pyright: ignore[reportPrivateUsage] - an outage of all would need ten routes
    paused.loop.advance(1.0)
    outage._ended_at[ROUTE.kind] = paused.loop.time()  # pyright: ignore[reportPrivateUsage] - see above
    for callback in outage._on_end:  # pyright: ignore[reportPrivateUsage] - see above
        callback()
    paused.until(lambda: len(paused.begun) > 1, 0.5)


def test_a_process_that_stops_does_not_wait_for_the_ends_of_pauses(paused: OneProcess) -> None:
    draining = paused.loop.create_task(paused.process.keeper.drain(), context=paused.process.owner.context)
    paused.until(draining.done, 0.5)
    assert ROUTE in paused.server.turns, "whoever comes next keeps the pause"


def test_the_pause_of_a_failure_is_kept_though_the_route_was_parked_meanwhile() -> None:
    with one_process() as one:
        one.takes_s[1] = 5.0
        one.outcomes[1] = Failed(error="429", answered=True, retry_after_s=PAUSE_S)
        one.put_aside(1)
        one.until(lambda: one.tried() == [1])
        for is_enabled in (False, True):
            routes = [
                replace(stored, route=replace(stored.route, revision=2 + is_enabled, enabled=is_enabled))
                for stored in stored_routes(RoutePolicy(), None)
            ]
            one.loop.create_task(one.process.book.learn(routes), context=one.process.owner.context)
            one.loop.advance(1.5)
        assert one.tried() == [1]
        one.loop.advance(PAUSE_S - 5)
        assert one.tried() == [1], "the pause was forgotten"
