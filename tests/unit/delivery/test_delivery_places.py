import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

from delivery_builders import address

from pulse_contracts.ids import TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.siding.places import Places

MOST = 16


def of(tenant: str, count: int) -> list[RouteAddress]:
    return [replace(address(f"{tenant}-{n}"), tenant=TenantId(tenant)) for n in range(count)]


class Crowd:
    """Turns that ask for places, and those of them that have one."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.at_work: list[RouteAddress] = []
        self.called_off = False
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, *routes: RouteAddress) -> None:
        self.tasks += [asyncio.create_task(self._enter(route), name="test.turn") for route in routes]
        await self.settle()

    async def settle(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def leave(self, *routes: RouteAddress) -> None:
        for route in routes:
            self.at_work.remove(route)
            self.places.leave(route)
        await self.settle()

    def of(self, tenant: str) -> int:
        return sum(route.tenant == tenant for route in self.at_work)

    async def _enter(self, route: RouteAddress) -> None:
        if await self.places.enter(route, lambda: self.called_off):
            self.at_work.append(route)


@asynccontextmanager
async def crowd(most: int = MOST) -> AsyncGenerator[Crowd]:
    made = Crowd(Places(most=most))
    try:
        yield made
    finally:
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_a_tenant_whose_turns_all_wake_at_once_leaves_half_of_the_places() -> None:
    async with crowd() as turns:
        await turns.come(*of("greedy", 500))
        assert turns.of("greedy") == MOST // 2
        await turns.come(*of("modest", 2))
        assert turns.of("modest") == 2


async def test_there_are_never_more_at_work_than_places() -> None:
    async with crowd() as turns:
        for number in range(50):
            await turns.come(*of(f"t{number}", 20))
            assert len(turns.at_work) == turns.places.at_work <= MOST


async def test_those_of_a_tenant_take_turns() -> None:
    async with crowd() as turns:
        routes = of("a", 40)
        await turns.come(*routes)
        seen: list[RouteAddress] = []
        while turns.at_work:
            seen += (now := list(turns.at_work))
            await turns.leave(*now)
        assert seen == routes


async def test_a_place_that_is_given_back_goes_to_the_tenant_that_has_fewest() -> None:
    async with crowd(5) as turns:
        for tenant in "abc":
            await turns.come(*of(tenant, 9))
        assert [turns.of(tenant) for tenant in "abc"] == [3, 1, 1]
        await turns.leave(*of("a", 3))
        assert [turns.of(tenant) for tenant in "abc"] == [1, 2, 1]


async def test_a_route_at_work_keeps_its_place_until_its_last_attempt_ends() -> None:
    async with crowd(1) as turns:
        one, other = of("a", 2)
        await turns.come(one, one, other)
        assert turns.at_work == [one, one]
        await turns.leave(one)
        assert turns.at_work == [one]
        await turns.leave(one)
        assert turns.at_work == [other]


async def test_who_is_called_off_or_cancelled_stands_in_nobodys_way() -> None:
    async with crowd(1) as turns:
        one, off, gone, last = of("a", 4)
        await turns.come(one)
        turns.called_off = True
        await turns.come(off)
        turns.called_off = False
        await turns.come(gone, last)
        turns.tasks[2].cancel()
        await turns.settle()
        await turns.leave(one)
        assert turns.at_work == [last]


async def test_who_is_cancelled_just_when_called_gives_the_place_on() -> None:
    async with crowd(1) as turns:
        one, gone, last = of("a", 3)
        await turns.come(one, gone, last)
        turns.tasks[1].cancel()
        await turns.leave(one)
        assert turns.at_work == [last]


async def test_the_growing_routes_of_a_tenant_leave_half_of_the_attempts() -> None:
    places = Places(most_attempts=10)
    one, other = of("a", 1)[0], of("b", 1)[0]
    for route, most in ((one, 5), (other, 3)):
        assert await places.enter(route, lambda: False)
        tried = 1
        while places.may_grow(route):
            await places.enter(route, lambda: False)
            tried += 1
        assert tried == most


async def test_a_process_with_few_slots_has_few_places() -> None:
    places = Places(most_attempts=4)
    entered = [await places.enter(route, lambda: True) for route in of("a", 9)]
    assert entered.count(True) == 2
