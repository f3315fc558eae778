"""A webhook receiver that behaves as a test tells it to, over real sockets."""

import asyncio
import json
import socket
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

from aiohttp import web
from standardwebhooks import Webhook

_LOOPBACK: Final = "127.0.0.1"
_MAX_BODY_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one request is answered. The request is recorded before any of it."""

    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_s: float = 0.0
    """Before the status line."""
    drip_s: float = 0.0
    """Between two bytes of the body; 0 sends it whole."""
    hang: bool = False
    """Never answers, and keeps the connection open."""
    drop: bool = False
    """Resets the connection instead of answering."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """One request as it came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    at: float
    """By `time.monotonic`."""

    def json(self) -> Any:
        return json.loads(self.body)

    def verify(self, secret: str) -> None:
        """Check the signature as a customer would; raises `standardwebhooks.WebhookVerificationError`."""
        Webhook(secret).verify(self.body, dict(self.headers))


class WebhookReceiver:
    """A server on a free loopback port, up within its `async with` block."""

    def __init__(self) -> None:
        self.requests: list[ReceivedRequest] = []
        self.in_flight: Counter[str] = Counter()
        """Requests being answered, by path."""
        self.most_in_flight: Counter[str] = Counter()
        """The largest number that were being answered at once, by path."""
        self.port = 0
        self._script: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # Without cancellation a request whose sender gave up would count as in flight for ever.
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, _LOOPBACK, 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        await self._runner.cleanup()

    def url(self, path: str = "/") -> str:
        return f"http://{_LOOPBACK}:{self.port}{path}"

    def answer(self, path: str, *answers: Answer) -> None:
        """Answer the next requests to *path* with *answers* in turn, and all later ones with the last."""
        self._script[path] = deque(answers)

    def requests_to(self, path: str) -> list[ReceivedRequest]:
        return [request for request in self.requests if request.path == path]

    async def wait_for(
        self, wanted: int | Callable[[list[ReceivedRequest]], bool], *, path: str | None = None, timeout_s: float = 5.0
    ) -> list[ReceivedRequest]:
        """Return the requests, of *path* if given, once there are enough or the predicate holds.

        Raises `TimeoutError` that says how many came.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not _is_enough(found := self._found(path), wanted):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as exc:
            raise TimeoutError(f"{len(self._found(path))} requests came within {timeout_s:g} s") from exc
        return found

    def _found(self, path: str | None) -> list[ReceivedRequest]:
        return self.requests.copy() if path is None else self.requests_to(path)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._enter(request.path)
        try:
            body = await request.read()
            self._record(request, body)
            return await self._perform(self._next_answer(request.path), request)
        finally:
            self.in_flight[request.path] -= 1
            self._changed.set()

    def _enter(self, path: str) -> None:
        self.in_flight[path] += 1
        self.most_in_flight[path] = max(self.most_in_flight[path], self.in_flight[path])

    def _record(self, request: web.Request, body: bytes) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = ReceivedRequest(
            method=request.method, path=request.path, headers=headers, body=body, at=time.monotonic()
        )
        self.requests.append(received)
        self._changed.set()

    def _next_answer(self, path: str) -> Answer:
        script = self._script[path]
        if not script:
            return Answer()
        return script.popleft() if len(script) > 1 else script[0]

    async def _perform(self, answer: Answer, request: web.Request) -> web.StreamResponse:
        if answer.hang:
            await self._closing.wait()
        if answer.drop and request.transport is not None:
            request.transport.abort()
        await asyncio.sleep(answer.delay_s)
        if not answer.drip_s:
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = len(answer.body)
        await response.prepare(request)
        for byte in answer.body:
            await response.write(bytes((byte,)))
            await asyncio.sleep(answer.drip_s)
        return response


def _is_enough(found: list[ReceivedRequest], wanted: int | Callable[[list[ReceivedRequest]], bool]) -> bool:
    return len(found) >= wanted if isinstance(wanted, int) else wanted(found)


@contextmanager
def closed_port() -> Generator[int]:
    """Yield a loopback port that nobody else can get and that refuses connections: bound, never listening."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
        held.bind((_LOOPBACK, 0))
        yield held.getsockname()[1]
