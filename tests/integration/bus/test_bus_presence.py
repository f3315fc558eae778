"""Replicas hear each other live; who is silent does not, and nobody is taken for dead before it had time to speak."""

import asyncio
from collections.abc import Callable

import pytest

from pulse_bus.connection import Connection
from pulse_bus.presence import SILENCE_S, Presence, is_heard
from pulse_contracts.subjects import ALIVE
from pulse_testkit.background import running
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import TESTER, Bus
from pulse_testkit.proxy import TcpProxy


def _stays() -> bool:
    return False


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def _until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - a beat is seen in nothing else
            await asyncio.sleep(0.01)


async def _beats(connection: Connection) -> asyncio.Queue[bytes]:
    beats = asyncio.Queue[bytes]()
    await connection.subscribe(ALIVE, lambda message: beats.put_nowait(message.data))
    return beats


async def test_a_replica_is_heard_until_it_falls_silent(bus: Bus, clock: ManualClock) -> None:
    mine = Presence(await bus.connect("delivery"), "mine", clock, _stays)
    theirs = Presence(await bus.connect("delivery"), "theirs", clock, _stays)
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
        await clock.advance(SILENCE_S + 0.1)
        assert not mine.lives("theirs")


async def test_who_leaves_says_nothing_more(bus: Bus, clock: ManualClock) -> None:
    is_leaving = asyncio.Event()
    beats = await _beats(await bus.connect(TESTER))
    async with running(Presence(await bus.connect("delivery"), "mine", clock, is_leaving.is_set).run()):
        assert await beats.get() == b"mine"
        is_leaving.set()
        await clock.until_sleeping(1)
        await clock.advance(10)
        assert beats.empty()


async def test_everybody_has_time_to_speak_after_a_start_and_after_a_break(bus: Bus, clock: ManualClock) -> None:
    async with TcpProxy(bus.nats.port) as proxy:
        connection = await bus.connect("delivery", port=proxy.port)
        mine = Presence(connection, "mine", clock, _stays)
        async with running(mine.run()):
            await clock.until_sleeping(1)
            assert mine.lives("somebody")
            await clock.advance(SILENCE_S)
            assert not mine.lives("somebody")
            proxy.reset()
            await _until(lambda: connection.reconnects)
            assert mine.lives("somebody")
            await clock.advance(SILENCE_S)
            assert not mine.lives("somebody")


async def test_whoever_asks_hears_a_replica_that_lives(bus: Bus, clock: ManualClock) -> None:
    asking = await bus.connect("control")
    assert not await is_heard(asking, "mine")
    async with running(Presence(await bus.connect("delivery"), "mine", clock, _stays).run()):
        await clock.until_sleeping(1)
        hearing = asyncio.create_task(is_heard(asking, "mine"))
        while not hearing.done():
            await clock.advance(0.5)
            await asyncio.sleep(0.01)
        assert await hearing
