"""Raw TCP receivers on loopback, so that a test decides every byte, and canaries that count contacts."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from pulse_egress.engine import HttpAnswer, HttpEngine, HttpLimits
from pulse_egress.guard import CheckedUrl, check_url
from pulse_egress.policy import AddressPolicy

LOOPBACK = AddressPolicy.from_ranges(["127.0.0.0/8", "::1/128"], allow_http=True, ports=None)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(slots=True)
class Receiver:
    host: str
    port: int = 0
    contacts: int = 0
    """Accepted connections."""
    requests: list[bytes] = field(default_factory=list[bytes])
    """Every request that was read, head and body."""
    scheme: str = "http"

    def url(self, target: str = "/hook", *, host: str | None = None) -> str:
        return f"{self.scheme}://{host or self.host}:{self.port}{target}"


@dataclass(slots=True)
class Peer:
    """One accepted connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    receiver: Receiver

    async def request(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await self.reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
        self.receiver.requests.append(head + body)
        return head + body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes) -> None:
        for byte in data:
            await self.send(bytes([byte]))
            await asyncio.sleep(0.05)

    async def pour(self, data: bytes) -> None:
        while True:
            await self.send(data)
            await asyncio.sleep(0)  # a drain that need not wait does not let others run

    async def until_closed(self) -> int:
        """Reads until the other side closes and returns how much came."""
        size = 0
        with suppress(ConnectionError):
            while chunk := await self.reader.read(1 << 16):
                size += len(chunk)
        return size

    def reset(self) -> None:
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


async def answer_ok(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(OK)


def answering(*answers: bytes) -> Script:
    """Answers the first request with these bytes, then waits until the sender closes."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for answer in answers:
            await peer.send(answer)
        await peer.until_closed()

    return script


@asynccontextmanager
async def receiving(
    script: Script = answer_ok, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Receiver]:
    receiver = Receiver(host, scheme="https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.contacts += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await script(Peer(reader, writer, receiver))
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer), name=f"receiver[{receiver.port}]")
        tasks.add(task)

    server = await asyncio.start_server(accept, host, port, ssl=tls, backlog=512)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


class ScriptedLookup:
    """Answers each lookup with the next of its answers, the last one for ever; an exception is raised."""

    def __init__(self, *answers: Sequence[str] | OSError) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer


async def post(
    engine: HttpEngine,
    url: str | CheckedUrl,
    *,
    body: bytes = b"{}",
    headers: Mapping[str, str] | None = None,
    deadline_s: float = 5.0,
    policy: AddressPolicy = LOOPBACK,
    owner: str = "",
) -> HttpAnswer:
    checked = check_url(url, policy) if isinstance(url, str) else url
    return await engine.post(checked, body=body, headers=headers or {}, deadline_s=deadline_s, owner=owner)


def loopback_engine(
    *, limits: HttpLimits | None = None, lookup: ScriptedLookup | None = None, tls: ssl.SSLContext | None = None
) -> HttpEngine:
    return HttpEngine(LOOPBACK, limits=limits, lookup=lookup or ScriptedLookup(("127.0.0.1",)), ssl_context=tls)
