"""The HTTP engine: one POST to a checked URL, under one deadline, with every read bounded.

Connections are kept and shared by all routes of an origin; nothing on them belongs to a tenant. An idle one is dropped
after 15 s, a busy one within 60 s, and each is checked again whenever it is used (`dial.DialGuard.admit`). A receiver
often closes an idle connection just as we use it; then, and only then, the request is sent once more over another one.
At-least-once delivery covers it: the receiver sees the same `webhook-id`.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from aiohttp import (
    ClientError,
    ClientOSError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
)

from pulse_egress.answers import Answers
from pulse_egress.dial import Attempt, DialedRequest, DialGuard, begin_attempt
from pulse_egress.errors import EgressTimeout, Phase, ProtocolViolation
from pulse_egress.failures import translate
from pulse_egress.guard import CheckedUrl, check_url
from pulse_egress.headers import check_wire_header
from pulse_egress.lookup import Lookup, SystemLookup
from pulse_egress.names import Names
from pulse_egress.policy import PUBLIC_ONLY, AddressPolicy
from pulse_egress.resolver import CheckedResolver

USER_AGENT: Final = "Pulse-Webhooks/1"

_MAX_HEADER_LINE: Final = 8190
_MAX_HEADERS: Final = 100
_MAX_RETRY_AFTER: Final = 128
_SWITCHING_PROTOCOLS: Final = 101
_TIDY_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """The bounds of the engine within the caller's deadline."""

    connect_s: float = 5.0
    """TCP and TLS to one address, so that a dead first address leaves time for the second."""
    idle_s: float = 15.0
    """An unused connection is closed after this."""
    max_age_s: float = 45.0
    """A connection that is older is closed after its next use; with `idle_s` none is reused past a minute."""
    dns_ttl_s: int = 10
    """A checked DNS answer is used again for this long; it is checked again when dialled."""
    dns_kept_s: float = 3600.0
    """So long an older answer serves while no name server answers anybody; it is checked again when dialled."""
    body_bytes: int = 16 * 1024
    """The part of an answer's body that is kept; what goes beyond is not read."""
    header_bytes: int = 64 * 1024
    """All header lines of an answer together; a single line may have 8 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What a receiver answered, whatever the status: what a status means is for the sender to decide."""

    status: int
    retry_after: str | None
    """The header as it came, at most 128 characters."""
    body: bytes = field(repr=False)
    """The beginning of the body, never decoded. Data of the customer: never log it."""
    is_truncated: bool
    duration_s: float


class HttpEngine:
    """Posts to public receivers; use as an async context manager within one event loop.

    Bounds nothing in number: connections are as many as the caller has posts in flight. Verifies TLS always, version
    1.2 or later; `ssl_context` may bring other authorities but no less verification, else ValueError. Follows no
    redirect, keeps no cookie, uses no proxy and no netrc, decodes nothing.
    """

    def __init__(
        self,
        policy: AddressPolicy = PUBLIC_ONLY,
        *,
        limits: HttpLimits | None = None,
        lookup: Lookup | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._limits = limits or HttpLimits()
        self._lookup = lookup
        self._owned_lookup: SystemLookup | None = None
        self._names: Names | None = None
        self._ssl = _verifying(ssl_context or _default_context())
        self._guard = DialGuard(policy, self._limits.max_age_s)
        self._session: ClientSession | None = None
        self._tidying: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._lookup is None:
            self._lookup = self._owned_lookup = SystemLookup()
        self._names = Names(self._lookup, Answers(self._limits.dns_ttl_s, self._limits.dns_kept_s))
        self._session = self._open_session(self._names)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
        if self._session is not None:
            await self._session.close()
        if self._names is not None:
            self._names.close()
        if self._owned_lookup is not None:
            self._owned_lookup.close()

    async def post(
        self, url: CheckedUrl, *, body: bytes, headers: Mapping[str, str], deadline_s: float, owner: str = ""
    ) -> HttpAnswer:
        """Sends one POST and returns the answer, or raises an `EgressError` within the deadline.

        The deadline covers name resolution, TCP, TLS, sending, headers and body. A URL checked under another policy is
        checked again under this engine's. Names are looked up within the share of *owner*. Except for `AddressRefused`,
        `HeaderRefused` and failures to connect, an error does not imply that the receiver did not take the message.
        Cancellation drops the connection at once.
        """
        for name, value in headers.items():
            check_wire_header(name, value)
        if url.policy != self._policy:
            url = check_url(url.text, self._policy)
        attempt = begin_attempt(url, self._guard, owner)
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            async with asyncio.timeout(deadline_s):
                response = await self._send(attempt, body, headers)
                return await self._read(attempt, response, started)
        except TimeoutError:
            raise EgressTimeout(attempt.phase) from None  # the cause's text would name the url
        except (ClientError, OSError) as exc:
            raise translate(exc, attempt) from None  # the cause's text quotes the url and the answer

    async def _send(self, attempt: Attempt, body: bytes, headers: Mapping[str, str]) -> ClientResponse:
        try:
            return await self._send_once(attempt, body, headers)
        except (ServerDisconnectedError, ClientOSError):
            if not attempt.is_reused:
                raise
        return await self._send_once(attempt, body, headers)

    async def _send_once(self, attempt: Attempt, body: bytes, headers: Mapping[str, str]) -> ClientResponse:
        if self._session is None:
            raise RuntimeError("the engine is not open")
        attempt.is_reused = False
        try:
            return await self._session.post(attempt.url.origin, data=body, headers=headers, allow_redirects=False)
        except BaseException:
            attempt.abort()
            raise

    async def _read(self, attempt: Attempt, response: ClientResponse, started: float) -> HttpAnswer:
        attempt.phase = Phase.BODY
        is_complete = False
        try:
            self._check_head(response)
            body = await _read_up_to(response, self._limits.body_bytes + 1)
            is_complete = len(body) <= self._limits.body_bytes
        finally:
            if is_complete:
                response.release()
            else:
                response.close()
                attempt.abort()
        retry_after = response.headers.get("Retry-After")
        return HttpAnswer(
            status=response.status,
            retry_after=retry_after and retry_after[:_MAX_RETRY_AFTER],
            body=body[: self._limits.body_bytes],
            is_truncated=not is_complete,
            duration_s=asyncio.get_running_loop().time() - started,
        )

    def _check_head(self, response: ClientResponse) -> None:
        if response.status == _SWITCHING_PROTOCOLS:
            raise ProtocolViolation("the receiver switched protocols")
        if sum(len(name) + len(value) for name, value in response.raw_headers) > self._limits.header_bytes:
            raise ProtocolViolation("the headers are too large")

    def _open_session(self, names: Names) -> ClientSession:
        connector = TCPConnector(
            limit=0,  # the lanes bound the posts in flight
            resolver=CheckedResolver(names, self._policy),
            socket_factory=self._guard.open_socket,
            ssl=self._ssl,
            keepalive_timeout=self._limits.idle_s,
            use_dns_cache=False,  # who joins another's look-up there would wait for that one's share
        )
        self._tidying = asyncio.create_task(_tidy(connector), name="egress.tidy")
        return ClientSession(
            connector=connector,
            request_class=DialedRequest,
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
            timeout=ClientTimeout(total=None, sock_connect=self._limits.connect_s),
            read_bufsize=self._limits.body_bytes,
            max_line_size=_MAX_HEADER_LINE,
            max_field_size=_MAX_HEADER_LINE,
            max_headers=_MAX_HEADERS,
        )


async def _read_up_to(response: ClientResponse, limit: int) -> bytes:
    parts = bytearray()
    while len(parts) < limit:
        part = await response.content.read(limit - len(parts))
        if not part:
            break
        parts += part
    return bytes(parts)


def _default_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _verifying(context: ssl.SSLContext) -> ssl.SSLContext:
    is_verifying = context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    if not is_verifying or context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise ValueError("the tls context must verify certificates and host names, from tls 1.2 on")
    return context


async def _tidy(connector: TCPConnector) -> None:
    """Close what is idle for too long as its time comes: by itself the connector closes all of 15 s at once.

    With connections to 800 receivers that stopped the loop for 30 ms, and whoever shares a machine with them for more.
    """
    while True:
        await asyncio.sleep(_TIDY_S)
        connector._cleanup()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - no public call closes what is idle
