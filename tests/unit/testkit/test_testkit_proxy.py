import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import pytest

from pulse_testkit.proxy import TcpProxy
from pulse_testkit.receiver import closed_port


@pytest.fixture
async def proxy() -> AsyncGenerator[TcpProxy]:
    """A proxy before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1000):
                writer.write(data)
        await close(writer)

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, TcpProxy(server.sockets[0].getsockname()[1]) as made:
        yield made


async def ask(proxy: TcpProxy, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(text)
        return await asyncio.wait_for(reader.read(1000), 5)
    finally:
        await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def test_bytes_pass_both_ways(proxy: TcpProxy) -> None:
    assert await ask(proxy, b"hello") == b"hello"
    assert proxy.accepted == 1


async def test_an_end_of_stream_passes(proxy: TcpProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"last")
    writer.write_eof()

    assert await asyncio.wait_for(reader.read(), 5) == b"last"
    await close(writer)


async def test_a_cut_resets_what_is_open_and_what_comes(proxy: TcpProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"x")
    await reader.read(1)

    proxy.cut()

    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), 5)
    with pytest.raises(ConnectionResetError):
        await ask(proxy, b"y")
    await close(writer)


async def test_a_healed_cut_lets_new_connections_through(proxy: TcpProxy) -> None:
    proxy.cut()
    proxy.heal()

    assert await ask(proxy, b"again") == b"again"


async def test_a_black_hole_keeps_connections_open_and_gives_back_what_it_held(proxy: TcpProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.blackhole()
    writer.write(b"held")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.05)
    proxy.heal()

    assert await asyncio.wait_for(reader.read(4), 5) == b"held"
    await close(writer)


async def test_a_black_hole_swallows_the_end_of_a_connection_until_it_is_healed() -> None:
    ended = asyncio.Event()

    async def note_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()
        await close(writer)

    server = await asyncio.start_server(note_the_end, "127.0.0.1", 0)
    async with server, TcpProxy(server.sockets[0].getsockname()[1]) as proxy:
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        proxy.blackhole()
        writer.write_eof()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ended.wait(), 0.05)
        proxy.heal()
        await asyncio.wait_for(ended.wait(), 5)
        await close(writer)


async def test_a_target_that_refuses_is_a_reset() -> None:
    with closed_port() as port:
        async with TcpProxy(port) as proxy:
            with pytest.raises(ConnectionResetError):
                await ask(proxy, b"x")


async def test_a_reset_breaks_what_is_open_and_lets_new_connections_through(proxy: TcpProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"x")
    await reader.read(1)

    proxy.reset()

    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), 5)
    assert await ask(proxy, b"again") == b"again"
    assert proxy.broken == 1
    await close(writer)


async def test_latency_delays_and_keeps_the_order(proxy: TcpProxy) -> None:
    proxy.latency_s = 0.05
    started = asyncio.get_running_loop().time()

    assert await ask(proxy, b"hello") == b"hello"
    assert asyncio.get_running_loop().time() - started >= 2 * 0.05


async def test_slices_arrive_one_by_one_and_are_whole_together(proxy: TcpProxy) -> None:
    proxy.slice_bytes = 1
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")

    assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"
    assert proxy.passed_bytes >= 2 * 5
    await close(writer)


async def test_a_half_closed_connection_says_no_more_and_still_listens() -> None:
    heard = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            writer.write(b"answer")
            heard.set()
        await close(writer)

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server, TcpProxy(server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.read(6), 5) == b"answer"
        heard.clear()

        proxy.half_close()

        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.write(b"y")
        await asyncio.wait_for(heard.wait(), 5)
        await close(writer)


async def test_a_proxy_may_be_aimed_after_its_start(proxy: TcpProxy) -> None:
    async with TcpProxy() as before:
        before.aim(proxy.port)
        assert await ask(before, b"found") == b"found"
