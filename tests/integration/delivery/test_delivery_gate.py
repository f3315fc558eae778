"""What two processes tell each other about a route, over a real server, and what follows when a word is lost."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from pulse_bus.notices import TurnNotices
from pulse_bus.publisher import Publisher
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.adapters.attempt_spans import AttemptSpans
from pulse_delivery.adapters.attempts import Attempts
from pulse_delivery.adapters.route_book import RouteBook
from pulse_delivery.adapters.settler import Settler
from pulse_delivery.adapters.shunts import Shunts
from pulse_delivery.domain.lanes import Lanes
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.memory import DeliveredMemory
from pulse_delivery.domain.rates import Rates
from pulse_delivery.domain.room import SidingRoom
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.lanes.fast_lane import FastLane, Held
from pulse_delivery.lanes.outage import Outage
from pulse_delivery.siding.gate import FastLaneGate
from pulse_runtime.metrics import BusMetrics, DeliveryMetrics
from pulse_runtime.spans import OFF
from pulse_storage.sealing import KeyRing
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import Bus

ONE = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("route-1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """As much of a delivery process as hears notices."""

    gate: FastLaneGate
    troubles: Troubles
    lanes: Lanes[Held]

    @property
    def gathers(self) -> bool:
        """Whether new messages of the route gather in its lane, though the siding holds others."""
        return not self.troubles.is_troubled(ONE) or self.lanes.is_held(ONE.route)


@pytest.fixture
async def processes(bus: Bus, manual_clock: ManualClock) -> AsyncGenerator[tuple[Process, Process]]:
    """Two processes that know the route as troubled; the first serves it."""
    async with AsyncExitStack() as stack:
        one, other = [await _process(bus, name, manual_clock, stack) for name in ("one", "other")]
        for speaker, listener in ((one, other), (other, one)):
            await until(lambda speaker=speaker, listener=listener: _hears(listener, speaker, manual_clock))
        yield one, other


def _hears(listener: Process, speaker: Process, clock: ManualClock) -> bool:
    speaker.gate.rest(ONE, clock.now())
    return listener.troubles.take_rest(ONE) is not None


async def _process(bus: Bus, owner: str, clock: ManualClock, stack: AsyncExitStack) -> Process:
    connection, registry = await bus.connect("delivery"), CollectorRegistry()
    metrics, troubles, limits = DeliveryMetrics(registry), Troubles(), LaneLimits()
    book = RouteBook("", KeyRing.parse(f"k:{'A' * 43}="), clock)
    lanes, outage = Lanes[Held](limits, Rates(book.rate_of, clock.monotonic, replicas=2)), Outage(clock, metrics)
    publisher = Publisher(connection, "SIDING", clock=clock, metrics=BusMetrics(registry))
    settler = Settler(
        shunts=Shunts(publisher, SidingRoom(0.5), troubles, metrics=metrics, clock=clock),
        dead_letters=publisher,
        attempts=publisher,
        descriptors={},
        secret_fields=book.secret_fields,
        metrics=metrics,
        clock=clock,
    )
    fast_lane = FastLane(
        {},
        lanes=lanes,
        limits=limits,
        troubles=troubles,
        book=book,
        attempts=Attempts({}, DeliveredMemory(), clock, outage.note, AttemptSpans(OFF, clock)),
        settler=settler,
        outage=outage,
        metrics=metrics,
        clock=clock,
        lag_s=lambda: 0.0,
    )
    notices = TurnNotices(connection, owner)
    gate = FastLaneGate(fast_lane, lanes, troubles, notices, clock)
    listening = asyncio.create_task(notices.run(gate.follow), name=f"test.notices[{owner}]")
    stack.push_async_callback(asyncio.wait, {listening})
    stack.callback(listening.cancel)
    troubles.replace({ONE: 1})
    return Process(gate=gate, troubles=troubles, lanes=lanes)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - the other process tells by a message of the server
            await asyncio.sleep(0)


async def hold(one: Process, other: Process) -> None:
    """Have both gather the route's messages."""
    one.gate.hold(ONE)
    await until(lambda: other.gathers)


async def test_new_messages_gather_with_every_process_while_one_delivers_the_last(
    processes: tuple[Process, Process],
) -> None:
    one, other = processes
    await hold(one, other)
    assert one.gathers
    one.gate.withdraw(ONE, "behind")
    await until(lambda: not other.gathers)
    assert not one.gathers


async def test_a_recovered_route_is_on_the_fast_lane_of_every_process(processes: tuple[Process, Process]) -> None:
    one, other = processes
    await hold(one, other)
    one.gate.release(ONE)
    await until(lambda: not other.troubles.all())
    assert other.gathers


async def test_a_process_that_says_nothing_more_is_followed_for_three_seconds(
    processes: tuple[Process, Process], manual_clock: ManualClock
) -> None:
    """It was killed, or its last word was lost."""
    one, other = processes
    await hold(one, other)
    await manual_clock.advance(3)
    other.gate.stop_following_the_silent()
    assert other.gathers
    await manual_clock.advance(0.1)
    other.gate.stop_following_the_silent()
    assert not other.gathers


async def test_what_a_destination_asked_of_one_process_is_kept_by_all(
    processes: tuple[Process, Process], manual_clock: ManualClock
) -> None:
    one, other = processes
    await hold(one, other)
    until_then = manual_clock.now() + timedelta(minutes=5)

    one.gate.rest(ONE, until_then)

    assert one.troubles.take_rest(ONE) == until_then
    await until(lambda: other.troubles.take_rest(ONE) == until_then)
