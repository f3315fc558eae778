from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pulse_bus.errors import ApiError
from pulse_bus.siding import Siding
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.roster import Rest
from pulse_delivery.siding.breaker import Breaker
from pulse_testkit.nats import Bus

ONE = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("route-1"))
BEGAN = datetime(2026, 1, 5, 12, tzinfo=UTC)
MOST = 16


@pytest.fixture
async def siding(bus: Bus) -> Siding:
    return Siding(await bus.connect("delivery"), "me")


def breaker(siding: Siding, rest: Rest | None = None) -> Breaker:
    return Breaker(ONE, siding, rest=rest, now=BEGAN)


async def info(siding: Siding) -> dict[str, Any]:
    found = await siding.turn_info(ONE)
    assert found is not None
    return found


async def in_flight(siding: Siding) -> int:
    return (await info(siding))["config"]["max_ack_pending"]


async def succeed(breaker: Breaker, times: int, most: int = MOST) -> None:
    for _ in range(times):
        breaker.note_success()
        await breaker.grow(most)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)


async def test_one_probe_then_four_then_sixteen_at_once(siding: Siding) -> None:
    half_open = breaker(siding)
    assert await half_open.open(None)
    seen: list[int] = []
    for successes in (0, 1, 3, 1, 20):
        await succeed(half_open, successes)
        seen.append(await in_flight(siding))
    assert seen == [1, 4, 4, 16, 16]


async def test_no_more_at_once_than_the_route_allows(siding: Siding) -> None:
    half_open = breaker(siding)
    await half_open.open(None)
    await succeed(half_open, 30, most=2)
    assert await in_flight(siding) == 2


async def test_a_failure_pauses_the_route_and_ends_its_growth(siding: Siding) -> None:
    growing, until = breaker(siding), soon()
    await growing.open(None)
    await succeed(growing, 30)

    assert await growing.trip(until, "answered 503")

    [turn] = (await siding.turns()).values()
    assert (turn.paused_until, turn.failures, turn.since) == (until, 1, BEGAN)
    assert (await info(siding))["config"]["metadata"]["error"] == "answered 503"
    assert (await in_flight(siding), growing.most_in_flight) == (1, 1)


async def test_failures_at_once_are_one(siding: Siding) -> None:
    growing, until = breaker(siding), soon()
    await growing.open(None)
    assert await growing.trip(until, "first")
    assert not await growing.trip(until + timedelta(hours=1), "second")
    assert (growing.failures, growing.pause_until) == (1, until)


async def test_a_success_that_comes_after_the_failure_beside_it_does_not_let_a_paused_route_grow(
    siding: Siding,
) -> None:
    growing = breaker(siding)
    await growing.open(None)
    await succeed(growing, 1)
    await growing.trip(soon(), "answered 503")
    await succeed(growing, 3)
    assert (await in_flight(siding), growing.most_in_flight) == (1, 1)


async def test_a_pause_that_ran_out_costs_no_request(siding: Siding) -> None:
    half_open, until = breaker(siding), soon()
    assert await half_open.open(None)
    await half_open.trip(until, "answered 503")
    await siding.close_turn(half_open.name)
    with pytest.raises(ApiError):
        await half_open.half_open(until - timedelta(seconds=1))
    await half_open.half_open(until)
    assert half_open.pause_until is None


async def test_a_growing_route_that_was_asked_to_wait_goes_on_with_one_probe(siding: Siding) -> None:
    growing, until = breaker(siding), soon()
    await growing.open(None)
    await succeed(growing, 30)

    await growing.rest(until)

    [turn] = (await siding.turns()).values()
    assert (turn.paused_until, turn.failures) == (until, 0)
    assert (await in_flight(siding), growing.most_in_flight) == (1, 1)
    await growing.half_open(datetime.now(UTC))
    assert (await in_flight(siding), growing.most_in_flight) == (1, 1)


async def test_a_success_ends_the_row_of_failures(siding: Siding) -> None:
    tried = breaker(siding)
    await tried.open(None)
    for failures in (1, 2):
        await tried.trip(soon(), "answered 503")
        assert tried.failures == failures
        await tried.half_open(datetime.now(UTC))
    tried.note_success()
    await tried.trip(soon(), "answered 503")
    assert tried.failures == 1


async def test_a_turn_begins_with_what_is_left_of_its_routes_pause(siding: Siding) -> None:
    until = soon()
    rest = Rest(failures=7, not_before=BEGAN, paused_until=until, since=BEGAN - timedelta(hours=1))
    assert await breaker(siding, rest).open(None)
    [turn] = (await siding.turns()).values()
    assert (turn.paused_until, turn.failures, turn.since) == (until, 7, BEGAN - timedelta(hours=1))


async def test_of_two_that_adopt_a_turn_one_gets_it(bus: Bus, siding: Siding) -> None:
    gone, other = breaker(Siding(await bus.connect("delivery"), "gone")), breaker(Siding(await bus.connect("delivery")))
    await gone.open(None)
    mine = breaker(siding)

    assert await mine.open(gone.consumer)
    assert not await other.open(gone.consumer)

    [turn] = (await siding.turns()).values()
    assert (turn.owner, turn.name) == ("me", mine.consumer)


async def test_whoever_was_replaced_can_do_nothing_to_the_turn_that_follows(bus: Bus, siding: Siding) -> None:
    frozen, mine = breaker(Siding(await bus.connect("delivery"), "frozen")), breaker(siding)
    await frozen.open(None)
    await mine.open(frozen.consumer)

    with pytest.raises(ApiError):
        await frozen.trip(soon(), "woke too late")
    await frozen.close()

    [turn] = (await siding.turns()).values()
    assert (turn.owner, turn.paused_until, turn.failures) == ("me", None, 0)
