"""A network that fails on command: a TCP proxy between a client and a server on loopback."""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Final, Self

_LOOPBACK: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 65_536
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class TcpProxy:
    """Forwards every connection to one target, within its `async with` block, until told otherwise.

    It counts what it did: a test that breaks nothing would pass for nothing.
    """

    def __init__(self, target_port: int = 0, *, target_host: str = _LOOPBACK) -> None:
        self.port = 0
        self.accepted = 0
        """Connections taken so far, those of a cut network included."""
        self.broken = 0
        """Connections that were reset on command."""
        self.passed_bytes = 0
        """Both ways together."""
        self.latency_s = 0.0
        """By so much each piece is late; pieces keep their order."""
        self.slice_bytes = 0
        """Not 0: pieces are at most this long, each sent by itself."""
        self._target = (target_host, target_port)
        self._is_cut = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._servers: set[asyncio.StreamWriter] = set()
        self._finished: set[asyncio.StreamWriter] = set()
        """Clients that were told that nothing more comes."""
        self._serving: set[asyncio.Task[None] | None] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, _LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        serving = [task for task in self._serving if task is not None]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def aim(self, target_port: int) -> None:
        """Forward new connections to this port: the target may be started after its proxy."""
        self._target = (self._target[0], target_port)

    def cut(self) -> None:
        """Reset every connection, and each new one at once, until `heal`."""
        self._is_cut = True
        self.reset()

    def reset(self) -> None:
        """Reset every connection once; new ones pass."""
        self.broken += len(self._clients)
        for writer in (*self._clients, *self._servers):
            _reset(writer)

    def blackhole(self) -> None:
        """Keep every connection open, and accept new ones, but pass on nothing until `heal`: no end of one either."""
        self._flows.clear()

    def half_close(self) -> None:
        """Tell every client that the server says no more, while what the clients say goes on to it."""
        for writer in self._clients - self._finished:
            self._finished.add(writer)
            with suppress(OSError):
                writer.write_eof()

    def heal(self) -> None:
        """Forward again at once and whole, also what a black hole held back."""
        self._is_cut = False
        self.latency_s, self.slice_bytes = 0.0, 0
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        self._serving.add(task)
        self._clients.add(writer)
        try:
            if not self._is_cut:
                await self._connect(reader, writer)
        except OSError:
            pass  # the target refused, which the client sees as a reset
        finally:
            await self._drop(writer)
            self._serving.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        self._servers.add(back)
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            await self._drop(back)

    async def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._clients.discard(writer)
        self._servers.discard(writer)
        self._finished.discard(writer)
        _reset(writer)
        with suppress(OSError):
            await writer.wait_closed()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(_CHUNK_BYTES):
                await self._pass_on(data, sink)
            await self._flows.wait()  # a black hole swallows goodbyes too
            if sink not in self._finished:
                sink.write_eof()
        except OSError:
            await self._flows.wait()
            _reset(sink)

    async def _pass_on(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        size = self.slice_bytes or len(data)
        for start in range(0, len(data), size):
            await self._flows.wait()
            if sink in self._finished:
                return
            sink.write(data[start : start + size])
            await sink.drain()
            self.passed_bytes += len(data[start : start + size])
            if self.slice_bytes:
                await asyncio.sleep(0)  # or the kernel would be given the next one with it


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset: without the option the kernel says an orderly goodbye."""
    endpoint: socket.socket | None = writer.get_extra_info("socket")
    if endpoint is not None and endpoint.fileno() >= 0:
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
