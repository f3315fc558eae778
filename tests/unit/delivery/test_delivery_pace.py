import asyncio
import random
from collections.abc import Generator
from dataclasses import replace

import pytest
from delivery_builders import address
from virtual_loop import Owner, VirtualLoop
from whole_process import VirtualClock

from pulse_contracts.ids import TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.siding.pace import ProbePace

APART_S, LONGEST_S = 0.025, 0.1
LATE_S = 0.005


def of(tenant: str, count: int) -> list[RouteAddress]:
    return [replace(address(f"{tenant}-{n}"), tenant=TenantId(tenant)) for n in range(count)]


class Probes:
    """Turns of one process that want to probe, and when each of them might."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.process: Owner = loop.new_owner()
        self.pace = ProbePace(VirtualClock(loop))
        self.began: list[tuple[float, str]] = []
        self.refused: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.called_off = set[str]()

    def come(self, *routes: RouteAddress) -> None:
        self.tasks += [self.loop.create_task(self._probe(route), context=self.process.context) for route in routes]
        self.loop.advance(0)

    @property
    def order(self) -> list[str]:
        return [route for _, route in self.began]

    async def _probe(self, route: RouteAddress) -> None:
        if await self.pace.wait(route, lambda: route.route in self.called_off):
            self.began.append((self.loop.time(), route.route))
        else:
            self.refused.append(route.route)


@pytest.fixture
def probes() -> Generator[Probes]:
    with VirtualLoop(random.Random(1)) as loop:  # noqa: S311 - one process: there is nothing to choose
        yield Probes(loop)


def test_the_first_begins_at_once_and_the_others_one_after_the_other(probes: Probes) -> None:
    probes.come(*of("a", 4))
    assert probes.order == ["a-0"]
    assert probes.pace.waiting == 3
    probes.loop.advance(1)
    assert probes.pace.waiting == 0
    assert [at for at, _ in probes.began] == pytest.approx([0, APART_S, 2 * APART_S, 3 * APART_S])

    probes.come(*of("a", 1))
    assert probes.began[-1] == (1, "a-0")


def test_tenants_take_turns_however_many_routes_one_has(probes: Probes) -> None:
    probes.come(*of("a", 50))
    probes.come(*of("b", 2))
    probes.loop.advance(5 * APART_S)
    assert probes.order[1:5] == ["a-1", "b-0", "a-2", "b-1"]


def test_the_later_the_loop_is_the_further_apart_they_are(probes: Probes) -> None:
    probes.come(*of("a", 40))
    probes.process.is_frozen = True
    probes.loop.advance(APART_S + LATE_S)
    probes.process.is_frozen = False
    probes.loop.advance(0)
    assert len(probes.began) == 2

    probes.loop.advance(APART_S + 10 * LATE_S - 0.001)
    assert len(probes.began) == 2
    probes.loop.advance(0.002)
    assert len(probes.began) == 3


@pytest.mark.parametrize("stood_still_s", [0.2, 15, 3600])
def test_a_process_that_stood_still_goes_on_at_once(probes: Probes, stood_still_s: float) -> None:
    probes.come(*of("a", 60))
    probes.process.is_frozen = True
    probes.loop.advance(stood_still_s)
    probes.process.is_frozen = False
    probes.loop.advance(1)
    assert len(probes.began) > 1 / LONGEST_S


def test_one_that_is_no_waste_lets_the_next_begin_at_once(probes: Probes) -> None:
    probes.come(*of("a", 40))
    for _ in range(20):
        probes.pace.was_no_waste()
        probes.loop.advance(0.001)
    assert len(probes.began) == 21
    probes.loop.advance(APART_S)
    assert len(probes.began) == 22


def test_so_it_does_if_the_next_one_has_yet_to_come(probes: Probes) -> None:
    """As where an endpoint is gone, and every message of its backlog is answered with that, one after the other."""
    for number, route in enumerate(of("a", 20)):
        probes.come(route)
        assert len(probes.began) == number + 1
        probes.pace.was_no_waste()
        probes.loop.advance(0.001)


def test_who_is_called_off_leaves_the_line(probes: Probes) -> None:
    probes.come(*of("a", 200))
    probes.called_off = {f"a-{n}" for n in range(100, 200)}
    probes.loop.advance(1.1)
    assert len(probes.refused) == 100
    probes.loop.advance(2)
    assert len(probes.began) == 100


def test_one_that_is_cancelled_leaves_the_line(probes: Probes) -> None:
    probes.come(*of("a", 2))
    _waiting(probes).cancel()
    probes.loop.advance(0)
    assert probes.pace.waiting == 0
    probes.come(*of("b", 1))
    probes.loop.advance(APART_S)
    assert probes.order == ["a-0", "b-0"]


def test_one_whose_moment_comes_as_it_is_cancelled_leaves_it_to_the_next(probes: Probes) -> None:
    probes.come(*of("a", 2), *of("b", 1))
    _waiting(probes).cancel()
    probes.pace.was_no_waste()
    probes.loop.advance(0)
    assert probes.order == ["a-0", "b-0"]
    probes.loop.advance(1)
    assert not probes.loop.errors


def _waiting(probes: Probes) -> asyncio.Task[None]:
    """Return the task of a-1."""
    return next(task for task in probes.tasks if not task.done())
