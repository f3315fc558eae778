"""Replicas hear each other live; who is silent does not, and nobody is taken for dead before it had time to speak."""

import asyncio
from collections.abc import Callable

import pytest

from pulse_bus.connection import Connection
from pulse_bus.presence import Presence, is_heard
from pulse_contracts.subjects import ALIVE
from pulse_testkit.background import running
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import TESTER, Bus
from pulse_testkit.proxy import TcpProxy


def _serves() -> bool:
    return True


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def _until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - a beat is seen in nothing else
            await asyncio.sleep(0.01)


async def _pass(clock: ManualClock, beats: int) -> None:
    for _ in range(beats):
        await clock.until_sleeping(1)
        await clock.advance(0.5)


async def _until_heard(mine: Presence, clock: ManualClock) -> None:
    """Let time pass until the other has been heard for certain: it is taken to live from the start on."""
    async with asyncio.timeout(10):
        while "theirs" not in mine._heard_at:  # pyright: ignore[reportPrivateUsage] - see above
            await clock.advance(0.1)
            await asyncio.sleep(0.01)


async def _beats(connection: Connection) -> asyncio.Queue[bytes]:
    beats = asyncio.Queue[bytes]()
    await connection.subscribe(ALIVE, lambda message: beats.put_nowait(message.data))
    await connection.request("$JS.API.INFO", timeout_s=5)
    return beats


async def test_a_replica_is_heard_until_it_falls_silent(bus: Bus, clock: ManualClock) -> None:
    mine = Presence(await bus.connect("delivery"), "mine", clock, _serves)
    theirs = Presence(await bus.connect("delivery"), "theirs", clock, _serves)
    beats = await _beats(await bus.connect(TESTER))
    async with running(mine.run()):
        await clock.until_sleeping(1)
        assert await beats.get() == b"mine"
        async with running(theirs.run()):
            assert await beats.get() == b"theirs"
            for _ in range(10):
                await clock.until_sleeping(2)
                await clock.advance(0.5)
                assert {await beats.get(), await beats.get()} == {b"mine", b"theirs"}
            assert mine.lives("theirs")
            assert not mine.lives("somebody")
        await _pass(clock, 4)
        await _until(lambda: not mine.lives("theirs"))


async def test_who_does_not_serve_says_nothing(bus: Bus, clock: ManualClock) -> None:
    serving, mine = [True], await bus.connect("delivery")
    beats = await _beats(await bus.connect(TESTER))
    presence = Presence(mine, "mine", clock, lambda: serving[0])
    async with running(presence.run()):
        assert await beats.get() == b"mine"
        serving[0] = False
        await _pass(clock, 10)
        await mine.publish(ALIVE, b"after all")
        assert await beats.get() == b"after all"
        assert not presence.is_deaf


async def test_who_leaves_is_not_waited_for(bus: Bus, clock: ManualClock) -> None:
    mine = Presence(await bus.connect("delivery"), "mine", clock, _serves)
    theirs = Presence(await bus.connect("delivery"), "theirs", clock, _serves)
    async with running(mine.run()), running(theirs.run()):
        await _until_heard(mine, clock)
        left_at = clock.monotonic()
        await theirs.leave()
        await _until(lambda: not mine.lives("theirs"))
    assert clock.monotonic() == left_at


async def test_who_does_not_even_hear_itself_takes_nobody_for_dead(bus: Bus, clock: ManualClock) -> None:
    async with TcpProxy(bus.nats.port) as proxy:
        mine = Presence(await bus.connect("delivery", port=proxy.port), "mine", clock, _serves)
        async with running(mine.run()):
            await clock.until_sleeping(1)
            proxy.blackhole()
            await _pass(clock, 10)
            assert mine.is_deaf
            assert mine.lives("theirs")
            proxy.heal()
            await _until(lambda: not mine.is_deaf)
            assert not mine.lives("theirs")


async def test_everybody_has_time_to_speak_after_a_start_and_after_a_break(bus: Bus, clock: ManualClock) -> None:
    async with TcpProxy(bus.nats.port) as proxy:
        connection = await bus.connect("delivery", port=proxy.port)
        mine = Presence(connection, "mine", clock, _serves)
        async with running(mine.run()):
            assert mine.lives("somebody")
            await _pass(clock, 4)
            await _until(lambda: not mine.lives("somebody"))
            proxy.reset()
            await _until(lambda: connection.reconnects)
            assert mine.lives("somebody")
            await _pass(clock, 4)
            await _until(lambda: not mine.lives("somebody"))


async def test_who_left_before_a_break_does_not_live_after_it(bus: Bus, clock: ManualClock) -> None:
    async with TcpProxy(bus.nats.port) as proxy:
        connection = await bus.connect("delivery", port=proxy.port)
        mine = Presence(connection, "mine", clock, _serves)
        theirs = Presence(await bus.connect("delivery"), "theirs", clock, _serves)
        async with running(mine.run()), running(theirs.run()):
            await _until_heard(mine, clock)
            await theirs.leave()
            await _until(lambda: not mine.lives("theirs"))
            proxy.reset()
            await _until(lambda: connection.reconnects)
            assert mine.lives("somebody")
            assert not mine.lives("theirs")


async def test_whoever_asks_hears_a_replica_that_lives(bus: Bus, clock: ManualClock) -> None:
    asking = await bus.connect("control")
    assert not await is_heard(asking, "mine")
    async with running(Presence(await bus.connect("delivery"), "mine", clock, _serves).run()):
        await clock.until_sleeping(1)
        hearing = asyncio.create_task(is_heard(asking, "mine"))
        while not hearing.done():
            await clock.advance(0.5)
            await asyncio.sleep(0.01)
        assert await hearing
