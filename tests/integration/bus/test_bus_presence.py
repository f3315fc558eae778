"""Replicas hear each other live; who is silent does not, and nobody is taken for dead before it had time to speak."""

import asyncio

import pytest
from nats.aio.msg import Msg

from pulse_bus.connection import Connection
from pulse_bus.presence import Presence, is_heard
from pulse_contracts.subjects import ALIVE, LEAVING
from pulse_testkit.background import running
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import TESTER, Bus
from pulse_testkit.proxy import TcpProxy


def _serves() -> bool:
    return True


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Listening(Presence):
    """Lets a test wait for what it hears."""

    def __init__(self, connection: Connection, owner: str, clock: ManualClock) -> None:
        super().__init__(connection, owner, clock, _serves)
        self._heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def _hear(self, message: Msg) -> None:
        super()._hear(message)
        self._heard.put_nowait((message.subject, message.data))

    def _hear_goodbye(self, message: Msg) -> None:
        super()._hear_goodbye(message)
        self._heard.put_nowait((message.subject, message.data))

    async def until_heard(self, subject: str, owner: str) -> None:
        """Wait until it hears that from now on."""
        async with asyncio.timeout(10):
            while await self._heard.get() != (subject, owner.encode()):
                pass


async def _until_breaks(proxy: TcpProxy, connection: Connection) -> None:
    """Break the connection, and wait until it is there again."""
    reconnected = asyncio.Event()
    connection.on_reconnect(reconnected.set)
    proxy.reset()
    async with asyncio.timeout(10):
        await reconnected.wait()


async def _pass(mine: Listening, clock: ManualClock, beats: int) -> None:
    """Let the time of so many beats pass, and wait until *mine* has heard its own."""
    for _ in range(beats):
        await clock.until_sleeping(1)
        await clock.advance(0.5)
        await mine.until_heard(ALIVE, "mine")


async def _beats(connection: Connection) -> asyncio.Queue[bytes]:
    beats = asyncio.Queue[bytes]()
    await connection.subscribe(ALIVE, lambda message: beats.put_nowait(message.data))
    await connection.request("$JS.API.INFO", timeout_s=5)
    return beats


async def test_a_replica_is_heard_until_it_falls_silent(bus: Bus, clock: ManualClock) -> None:
    mine = Listening(await bus.connect("delivery"), "mine", clock)
    theirs = Presence(await bus.connect("delivery"), "theirs", clock, _serves)
    async with running(mine.run()):
        await mine.until_heard(ALIVE, "mine")
        async with running(theirs.run()):
            await mine.until_heard(ALIVE, "theirs")
            for _ in range(10):
                await clock.until_sleeping(2)
                await clock.advance(0.5)
                await mine.until_heard(ALIVE, "theirs")
            assert mine.lives("theirs")
            assert not mine.lives("somebody")
        await _pass(mine, clock, 4)
        assert not mine.lives("theirs")


async def test_who_does_not_serve_says_nothing(bus: Bus, clock: ManualClock) -> None:
    serving, connection = [True], await bus.connect("delivery")
    beats = await _beats(await bus.connect(TESTER))
    presence = Presence(connection, "mine", clock, lambda: serving[0])
    async with running(presence.run()):
        assert await beats.get() == b"mine"
        serving[0] = False
        for _ in range(10):
            await clock.until_sleeping(1)
            await clock.advance(0.5)
        await connection.publish(ALIVE, b"after all")
        assert await beats.get() == b"after all"
        assert not presence.is_deaf


async def test_who_leaves_is_not_waited_for_and_says_nothing_more(bus: Bus, clock: ManualClock) -> None:
    mine = Listening(await bus.connect("delivery"), "mine", clock)
    theirs = Presence(await bus.connect("delivery"), "theirs", clock, _serves)
    async with running(mine.run()):
        await mine.until_heard(ALIVE, "mine")
        async with running(theirs.run()):
            await mine.until_heard(ALIVE, "theirs")
            assert mine.lives("theirs")
            await theirs.leave()
            await mine.until_heard(LEAVING, "theirs")
            assert not mine.lives("theirs")
            for _ in range(2):
                await clock.until_sleeping(2)
                await clock.advance(0.5)
                await mine.until_heard(ALIVE, "mine")
            assert not mine.lives("theirs")


async def test_who_does_not_even_hear_itself_takes_nobody_for_dead(bus: Bus, clock: ManualClock) -> None:
    async with TcpProxy(bus.nats.port) as proxy:
        mine = Listening(await bus.connect("delivery", port=proxy.port), "mine", clock)
        async with running(mine.run()):
            await mine.until_heard(ALIVE, "mine")
            proxy.blackhole()
            for _ in range(10):
                await clock.until_sleeping(1)
                await clock.advance(0.5)
            assert mine.is_deaf
            assert mine.lives("theirs")
            proxy.heal()
            await mine.until_heard(ALIVE, "mine")
            assert not mine.is_deaf
            assert not mine.lives("theirs")


async def test_everybody_has_time_to_speak_after_a_start_and_after_a_break(bus: Bus, clock: ManualClock) -> None:
    async with TcpProxy(bus.nats.port) as proxy:
        connection = await bus.connect("delivery", port=proxy.port)
        mine = Listening(connection, "mine", clock)
        async with running(mine.run()):
            await mine.until_heard(ALIVE, "mine")
            assert mine.lives("somebody")
            await _pass(mine, clock, 4)
            assert not mine.lives("somebody")
            await _until_breaks(proxy, connection)
            assert mine.lives("somebody")
            await _pass(mine, clock, 4)
            assert not mine.lives("somebody")


async def test_who_left_before_a_break_does_not_live_after_it(bus: Bus, clock: ManualClock) -> None:
    async with TcpProxy(bus.nats.port) as proxy:
        connection = await bus.connect("delivery", port=proxy.port)
        mine = Listening(connection, "mine", clock)
        theirs = Presence(await bus.connect("delivery"), "theirs", clock, _serves)
        async with running(mine.run()):
            await mine.until_heard(ALIVE, "mine")
            await theirs.leave()
            await mine.until_heard(LEAVING, "theirs")
            await _until_breaks(proxy, connection)
            assert mine.lives("somebody")
            assert not mine.lives("theirs")


async def test_whoever_asks_hears_a_replica_that_lives(bus: Bus, clock: ManualClock) -> None:
    asking = await bus.connect("control")
    assert not await is_heard(asking, "mine")
    mine = Listening(await bus.connect("delivery"), "mine", clock)
    async with running(mine.run()):
        await mine.until_heard(ALIVE, "mine")
        hearing = asyncio.create_task(is_heard(asking, "mine"))
        while not hearing.done():
            await _pass(mine, clock, 1)
        assert await hearing
