"""A network that fails on command: a TCP proxy between a client and a server on loopback."""

import asyncio
from typing import Final, Self

_LOOPBACK: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 65_536


class TcpProxy:
    """Forwards every connection to one target, within its `async with` block, until told otherwise."""

    def __init__(self, target_port: int, *, target_host: str = _LOOPBACK) -> None:
        self.port = 0
        self.accepted = 0
        """Connections taken so far, those of a cut network included."""
        self._target = (target_host, target_port)
        self._is_cut = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, _LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._flows.set()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def cut(self) -> None:
        """Reset every connection, and each new one at once, until `heal`."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def blackhole(self) -> None:
        """Keep every connection open, and accept new ones, but pass on nothing until `heal`."""
        self._flows.clear()

    def heal(self) -> None:
        """Forward again, also what a black hole held back."""
        self._is_cut = False
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, back}
        self._writers |= ends
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(_CHUNK_BYTES):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
            sink.write_eof()
        except OSError:
            sink.transport.abort()
