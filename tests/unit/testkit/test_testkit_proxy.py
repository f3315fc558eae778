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


async def test_a_target_that_refuses_is_a_reset() -> None:
    with closed_port() as port:
        async with TcpProxy(port) as proxy:
            with pytest.raises(ConnectionResetError):
                await ask(proxy, b"x")
