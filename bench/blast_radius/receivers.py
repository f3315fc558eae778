"""The receivers, in a process of their own: ``python -m blast_radius.receivers COUNT``.

Speaks lines of JSON. It says ``{"port": …}`` first; then each line it reads is a command, answered by one line:

    {"become": {"17": "hang"}}   these receivers change their temper; {}
    {"take": true}               what happened since the last time; {"arrived": [[id, at], …], "accepted": [id, …]}

Times are of the monotonic clock, which on Linux all processes share.
"""

import asyncio
import gc
import json
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from aiohttp import web

from blast_radius.tempers import Temper
from blast_radius.world import addresses
from pulse_runtime.collection import collect_seldom

_SLOW_S: Final = 2.0
_DRIP_S: Final = 1.0
_BACKLOG: Final = 256
_PORT_HOLDER: Final = "127.0.0.1"


class Diary:
    """What happened since it was last taken."""

    def __init__(self) -> None:
        self._arrived: list[tuple[str, float]] = []
        self._accepted: list[str] = []

    def arrived(self, message_id: str) -> None:
        """A receiver has the whole request."""
        self._arrived.append((message_id, time.monotonic()))

    def accepted(self, message_id: str) -> None:
        """A receiver answers with success."""
        self._accepted.append(message_id)

    def take(self) -> dict[str, Any]:
        taken = {"arrived": self._arrived, "accepted": self._accepted}
        self._arrived, self._accepted = [], []
        return taken


class Receiver:
    """A customer's web server, of changing temper."""

    def __init__(self, address: str, port: int, diary: Diary) -> None:
        self._address = address
        self._port = port
        self._diary = diary
        self._temper = Temper.CALM
        self._calmed = asyncio.Event()
        self._calmed.set()
        self._web = web.Server(self._handle, access_log=None)
        self._listening: asyncio.Server | None = None

    async def become(self, temper: Temper) -> None:
        """Change the temper. Calmed, it at once answers everything that it kept waiting."""
        self._temper = temper
        if temper is Temper.CALM:
            self._calmed.set()
        else:
            self._calmed.clear()
        if temper is Temper.REFUSE:
            await self._close()
        elif self._listening is None:
            await self.open()

    async def open(self) -> None:
        listening = socket.create_server((self._address, self._port), backlog=_BACKLOG)
        self._listening = await asyncio.get_running_loop().create_server(self._web, sock=listening)

    async def _close(self) -> None:
        if self._listening:
            self._listening.close()
            self._listening = None
        for connection in self._web.connections:
            connection.force_close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        message_id = json.loads(await request.read())["message_id"]
        self._diary.arrived(message_id)
        match self._temper:
            case Temper.ERROR:
                return web.Response(status=500)
            case Temper.DRIP:
                return await self._drip(request, message_id)
            case Temper.HANG:
                await self._calmed.wait()
            case Temper.SLOW:
                await self._wait(_SLOW_S)
            case Temper.CALM | Temper.REFUSE:
                pass
        self._note_accepted(request, message_id)
        return web.Response(status=204)

    async def _drip(self, request: web.BaseRequest, message_id: str) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        # The sender gives up, sooner or later.
        with suppress(ConnectionResetError):
            while not self._calmed.is_set():
                await answer.write(b".")
                await self._wait(_DRIP_S)
            await answer.write_eof()
            # What is written just after the sender gave up raises nothing yet.
            self._note_accepted(request, message_id)
        return answer

    def _note_accepted(self, request: web.BaseRequest, message_id: str) -> None:
        """Note it unless the sender has gone, which then sends it again."""
        if request.transport is not None and not request.transport.is_closing():
            self._diary.accepted(message_id)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._calmed.wait(), seconds)


async def serve(count: int) -> None:
    """Serve until the commands end."""
    with socket.create_server((_PORT_HOLDER, 0)) as holder:
        port: int = holder.getsockname()[1]
        diary = Diary()
        receivers = [Receiver(address, port, diary) for address in addresses(count)]
        for receiver in receivers:
            await receiver.open()
        # A full collection takes 120 ms of a round, in which healthy receivers seem slow.
        collect_seldom()
        _say({"port": port})
        while line := await asyncio.to_thread(sys.stdin.readline):
            _say(await _obey(json.loads(line), receivers, diary))


async def _obey(command: Mapping[str, Any], receivers: list[Receiver], diary: Diary) -> dict[str, Any]:
    if "take" in command:
        return diary.take()
    for index, temper in command["become"].items():
        await receivers[int(index)].become(Temper(temper))
    gc.collect()
    return {}


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
