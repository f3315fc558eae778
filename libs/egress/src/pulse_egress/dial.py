"""The last checks before a socket is opened and before the first byte is sent.

aiohttp has three seams, and the guard stands at each, so that no single oversight opens the way:

1. the resolver (`resolver.CheckedResolver`) sees every answer, but not literal addresses;
2. the socket factory (`DialGuard.open_socket`) sees every dialled address, literal or resolved, before the connect;
3. the request (`DialedRequest.send`) sees every connection, new or pooled, and compares whom it leads to.
"""

import asyncio
import errno
import socket
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final
from weakref import WeakKeyDictionary

from aiohttp import ClientRequest, ClientResponse, ServerDisconnectedError
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from pulse_egress.errors import AddressRefused, Phase, Refusal
from pulse_egress.guard import CheckedUrl, check_addresses
from pulse_egress.policy import Address, AddressPolicy

_DISCARD_PORT: Final = 9


class DialGuard:
    """Opens sockets to permitted addresses, and knows how old each connection is."""

    def __init__(self, policy: AddressPolicy, max_age_s: float) -> None:
        self._policy = policy
        self._max_age_s = max_age_s
        self._born: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()

    def open_socket(self, info: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        """Returns a socket for an address about to be dialled, or raises PermissionError before anything is sent.

        The refusal is noted on the attempt: aiohttp would wrap it, or try the next address in silence.
        """
        family, kind, protocol, _, sockaddr = info
        attempt = current_attempt()
        attempt.phase = Phase.CONNECT
        try:
            self.check_peer(str(sockaddr[0]))
        except AddressRefused as exc:
            attempt.refused = exc
            raise PermissionError(errno.EACCES, "address refused") from exc
        return socket.socket(family, kind, protocol)

    def check_peer(self, host: str) -> None:
        """Raises `AddressRefused` unless the address may be dialled."""
        (address,) = check_addresses((host,), self._policy)
        if not self._policy.covers(address) and is_own_address(address):
            raise AddressRefused(Refusal.OWN_ADDRESS)

    def admit(self, attempt: "Attempt", connection: Connection) -> None:
        """Checks a connection that aiohttp chose, at every attempt, before the first byte.

        Raises ServerDisconnectedError for a connection on which the receiver spoke unasked: what it said would be taken
        for the answer. A connection past its age is closed after this use, so that a changed DNS answer takes effect
        even on a busy one.
        """
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise ServerDisconnectedError
        attempt.transport = transport
        attempt.is_reused = protocol in self._born
        if attempt.refused is not None:
            raise attempt.refused
        if protocol.should_close or not protocol.is_connected():
            raise ServerDisconnectedError
        self._check_connected(attempt.url, transport)
        now = asyncio.get_running_loop().time()
        if now - self._born.setdefault(protocol, now) >= self._max_age_s:
            protocol.force_close()

    def _check_connected(self, url: CheckedUrl, transport: asyncio.Transport) -> None:
        (peer,) = check_addresses((str(transport.get_extra_info("peername")[0]),), self._policy)
        if url.address not in (None, peer):
            raise AddressRefused(Refusal.ADDRESS)


@dataclass(slots=True)
class Attempt:
    """What one request has come to; changed by the seams, read when it failed."""

    url: CheckedUrl
    guard: DialGuard
    phase: Phase
    owner: str = ""
    """Whose share of the look-ups it takes."""
    refused: AddressRefused | None = None
    is_reused: bool = False
    transport: asyncio.Transport | None = None

    def abort(self) -> None:
        """Drops the connection at once; a plain close would wait, without bound, until the receiver reads our body."""
        if self.transport is not None:
            self.transport.abort()


# aiohttp offers no way to pass a value from the caller to these seams; happy-eyeballs tasks inherit the context.
_ATTEMPT: ContextVar[Attempt] = ContextVar("pulse_egress_attempt")


def begin_attempt(url: CheckedUrl, guard: DialGuard, owner: str = "") -> Attempt:
    """Makes the attempt to which the seams report within the current task."""
    attempt = Attempt(url, guard, Phase.CONNECT if url.address is not None else Phase.DNS, owner)
    _ATTEMPT.set(attempt)
    return attempt


def current_attempt() -> Attempt:
    """Returns the attempt of the current task; a dial outside an attempt is a LookupError."""
    return _ATTEMPT.get()


class DialedRequest(ClientRequest):
    """A request with the exact target of its checked URL, sent only over an admitted connection."""

    def __init__(self, method: str, url: Any, **options: Any) -> None:
        # aiohttp would parse and requote the target again; the caller passes the origin, the target is set unchanged.
        super().__init__(method, type(url)(current_attempt().url.text, encoded=True), **options)

    async def send(self, conn: Connection) -> ClientResponse:
        """Sends after the connection is admitted."""
        attempt = current_attempt()
        attempt.guard.admit(attempt, conn)
        attempt.phase = Phase.ANSWER
        return await super().send(conn)


def is_own_address(address: Address) -> bool:
    """Whether an address belongs to this machine, as far as its interfaces show; sends nothing.

    The kernel routes a connected UDP socket without a packet: to an own address it would send *from* that address.
    """
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004 # IPv6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), _DISCARD_PORT))
            return ip_address(probe.getsockname()[0]) == address
    except OSError:
        return False  # no route: nothing can be dialled there either
