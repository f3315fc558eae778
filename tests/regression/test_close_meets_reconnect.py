"""A connection closed while it was being made anew came to life again, and tried for ever to reconnect after that.

`asyncio.wait_for`, before Python 3.12, swallows a cancellation that meets the answer: the client's attempt went on as
though nobody had closed it. A process at its end hung on such a one; and a start that was given up went on for seconds.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pulse_bus.address import BusAddress
from pulse_bus.connection import connect
from pulse_testkit.nats import TESTER, Bus
from pulse_testkit.proxy import TcpProxy

_open_connection = asyncio.open_connection


def _at_the_next_connection(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Call *act* when the network has answered, and the asker has not seen it."""

    async def open_connection(*args: Any, **more: Any) -> Any:
        monkeypatch.undo()
        try:
            return await _open_connection(*args, **more)
        finally:
            act()

    monkeypatch.setattr("nats.aio.transport.asyncio.open_connection", open_connection)


async def test_a_connection_closed_while_it_reconnects_stays_closed(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    before = asyncio.all_tasks()
    closing: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
    async with TcpProxy(bus.nats.port) as proxy:
        connecting = connect(bus.nats.address(TESTER, port=proxy.port))
        connection = await connecting.__aenter__()

        def close() -> None:
            closing.put_nowait(asyncio.create_task(connecting.__aexit__(None, None, None)))

        _at_the_next_connection(monkeypatch, close)
        proxy.reset()
        async with asyncio.timeout(10):
            await (await closing.get())
    left = asyncio.all_tasks() - before
    _, alive = await asyncio.wait(left, timeout=2) if left else ((), ())

    assert not connection.is_connected
    assert not alive


async def test_a_start_that_is_given_up_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start() -> None:
        async with connect(BusAddress(service="ingest", url="nats://127.0.0.1:1", user="ingest", password="x")):
            pass

    starting = asyncio.create_task(start())

    def give_up() -> None:
        starting.cancel()

    _at_the_next_connection(monkeypatch, give_up)
    _, alive = await asyncio.wait([starting], timeout=2)

    assert not alive
