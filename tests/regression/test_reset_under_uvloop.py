"""A broker that reset the connection of ingest was never noticed under uvloop: ingest heard nothing any more."""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from pulse_runtime.socket_watch import socket_watch

uvloop = pytest.importorskip("uvloop", reason="uvloop has no wheel for this platform")
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
LOOPS = pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])


def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(work)


@contextmanager
def connected() -> Generator[tuple[socket.socket, socket.socket]]:
    """Yield our end and the peer's, which resets the connection when it is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    ours.setblocking(False)
    with ours, peer:
        yield ours, peer


@LOOPS
def test_who_reads_hears_of_a_reset(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def work() -> None:
        watch, heard = socket_watch(), asyncio.Event()
        with connected() as (ours, peer):
            watch.add_reader(ours.fileno(), heard.set)
            peer.close()
            async with asyncio.timeout(5):
                await heard.wait()
            assert watch.remove_reader(ours.fileno())

    run(loop_factory, work())


@LOOPS
def test_a_descriptor_can_be_watched_again_after_a_reset(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def work() -> None:
        numbers: set[int] = set()
        for _ in range(3):
            watch, heard, may_write = socket_watch(), asyncio.Event(), asyncio.Event()
            with connected() as (ours, peer):
                numbers.add(ours.fileno())
                watch.add_reader(ours.fileno(), heard.set)
                watch.add_writer(ours.fileno(), may_write.set)
                async with asyncio.timeout(5):
                    await may_write.wait()
                assert watch.remove_writer(ours.fileno())
                assert not heard.is_set()
                peer.close()
                async with asyncio.timeout(5):
                    await heard.wait()
                watch.remove_reader(ours.fileno())
        assert len(numbers) == 1

    run(loop_factory, work())


def test_asking_to_write_to_a_closed_socket_does_nothing() -> None:
    async def work() -> None:
        watch = socket_watch()
        with connected() as (ours, _):
            number = ours.fileno()
            watch.add_reader(number, print)
            assert watch.remove_reader(number)
        watch.add_writer(number, print)
        assert not watch.remove_writer(number)

    run(uvloop.new_event_loop, work())
