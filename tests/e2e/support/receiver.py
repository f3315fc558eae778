"""A customer's web server, as tame or as wild as a test wants it."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pulse_cli.embedded.ports import Ports


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    at: float
    """By the monotonic clock."""
    sender: int | None = None
    """The id of the process that it came from, if the receiver was told how to find that out."""

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message_id(self) -> str:
        return self.json["message_id"]

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    phrase: str | None = None
    """What stands behind the status; the usual words if None."""


Behaviour = Callable[[Request], Answer | Awaitable[Answer]]


class Receiver:
    """Listens on one port as long as it is open; the port stays reserved while it is closed, and refuses."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._host = host
        self._tls = tls
        self.received: list[Request] = []
        """Everything that came, whatever was answered."""
        self.accepted: list[Request] = []
        """What was answered with success."""
        self.behaviour: dict[str, Behaviour] = {}
        """By path; without one it is 204 at once."""
        self.concurrent = 0
        self.most_concurrent = 0
        self.sender_of: Callable[[int], int | None] = lambda _port: None
        """Says whose connection it is, by its port at the other end; asked once, while the connection is new."""
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def of(self, path: str) -> list[Request]:
        """What came to *path* and was answered with success."""
        return [request for request in self.accepted if request.path == path]

    def tried(self, path: str) -> list[Request]:
        """What came to *path*."""
        return [request for request in self.received if request.path == path]

    async def open(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, self._host, self.port, reuse_address=True, ssl=self._tls
        )

    async def close(self) -> None:
        """Refuse from now on; connections that stand are cut."""
        if self._server:
            self._server.close()
            self._server = None
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="test.receiver")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender = self.sender_of(writer.get_extra_info("peername")[1])
        try:
            while request := await _read(reader, sender):
                await self._answer(request, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender gave up, or we did
        finally:
            writer.transport.abort()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.received.append(request)
        self.concurrent += 1
        self.most_concurrent = max(self.most_concurrent, self.concurrent)
        try:
            behaviour = self.behaviour.get(request.path)
            answer = behaviour(request) if behaviour else Answer()
            if not isinstance(answer, Answer):
                answer = await answer
        finally:
            self.concurrent -= 1
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            self.accepted.append(request)
        fields = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        length = "" if answer.status == HTTPStatus.NO_CONTENT else f"content-length: {len(answer.body)}\r\n"
        phrase = HTTPStatus(answer.status).phrase if answer.phrase is None else answer.phrase
        writer.write(f"HTTP/1.1 {answer.status} {phrase}\r\n{length}{fields}\r\n".encode() + answer.body)
        await writer.drain()


async def _read(reader: asyncio.StreamReader, sender: int | None) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(path=first.split(" ")[1], headers=headers, body=body, at=time.monotonic(), sender=sender)


def always(status: int, **headers: str) -> Behaviour:
    """Answer the same to everything."""
    answer = Answer(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return lambda _request: answer


def hangs(until: asyncio.Event) -> Behaviour:
    """Answer nothing until the event is set, then 204."""

    async def wait(_request: Request) -> Answer:
        await until.wait()
        return Answer()

    return wait


def takes(seconds: float) -> Behaviour:
    """Answer 204 after so long."""

    async def wait(_request: Request) -> Answer:
        await asyncio.sleep(seconds)
        return Answer()

    return wait


@asynccontextmanager
async def open_receiver() -> AsyncGenerator[Receiver, None]:
    """Yield a receiver that listens on a port of its own."""
    with Ports() as ports:
        async with listening(Receiver(ports.hold("receiver").port)) as receiver:
            yield receiver


@asynccontextmanager
async def listening(receiver: Receiver) -> AsyncGenerator[Receiver, None]:
    await receiver.open()
    try:
        yield receiver
    finally:
        await receiver.close()
