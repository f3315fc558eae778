"""A way out that can be lost: a port at which connecting gets no answer at all, as behind a firewall that drops."""

import asyncio
import socket
from contextlib import suppress
from typing import Final, Self

_LOOPBACK: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 65_536
_OPEN_BACKLOG: Final = 1024
_FILLERS: Final = 4


class WayOut:
    """Forwards connections to one local port, within its `async with` block, while it is open.

    While it is shut nobody accepts and the queue of the listening socket is full, so that the kernel answers no SYN:
    a connect times out, as it does without a route. It needs no privilege.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._listener = socket.socket()
        self._fillers: list[socket.socket] = []
        self._accepting: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener.setblocking(False)
        self._listener.bind((_LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()
        self._listener.close()

    def open(self) -> None:
        """Answer again, those too that wait for it."""
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        self._listener.listen(_OPEN_BACKLOG)
        self._accepting = asyncio.create_task(self._accept(), name="testkit.way_out")

    async def shut(self) -> None:
        """Break every connection and answer no new one."""
        await self._stop()
        self._listener.listen(0)
        for _ in range(_FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect((_LOOPBACK, self.port))
            self._fillers.append(filler)

    async def _stop(self) -> None:
        tasks = {*self._serving, *({self._accepting} if self._accepting else ())}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            task = asyncio.create_task(self._serve(connection), name="testkit.way_out.connection")
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, connection: socket.socket) -> None:
        near_reader, near = await asyncio.open_connection(sock=connection)
        try:
            far_reader, far = await asyncio.open_connection(_LOOPBACK, self._target_port)
        except OSError:
            near.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(near_reader, far))
                group.create_task(_pump(far_reader, near))
        finally:
            near.transport.abort()
            far.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
