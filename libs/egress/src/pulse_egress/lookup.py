"""Name resolution: asks the system, checks every answer, and hands aiohttp only addresses that passed."""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address
from typing import Final, Protocol

from aiohttp.abc import AbstractResolver, ResolveResult

from pulse_egress.guard import check_addresses
from pulse_egress.policy import AddressPolicy

_LOOKUP_THREADS: Final = 64


class Lookup(Protocol):
    """Finds the addresses of a name."""

    async def __call__(self, host: str) -> Sequence[str]:
        """Returns all addresses of a name, or raises OSError; the caller bounds the wait."""
        ...


class SystemLookup:
    """Asks getaddrinfo in threads of its own.

    A hanging name server holds a thread for as long as resolv.conf says (often 10 s or more) and cannot be interrupted.
    The default executor has too few threads to let tenants hold them; here 64 names may hang before others wait.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="pulse-egress-dns")

    async def __call__(self, host: str) -> Sequence[str]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _getaddrinfo, host)

    def close(self) -> None:
        """Forgets the lookups that still wait for a thread; does not block on the running ones."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class CheckedResolver(AbstractResolver):
    """Lets aiohttp see an answer only if the policy permits every address in it.

    aiohttp does not ask a resolver about literal addresses; `DialGuard` covers those.
    """

    def __init__(self, lookup: Lookup, policy: AddressPolicy) -> None:
        self._lookup = lookup
        self._policy = policy

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 # every family must pass, whichever is dialled
    ) -> list[ResolveResult]:
        """Raises `AddressRefused` for a bad or empty answer; an error of the resolver passes through as OSError."""
        addresses = check_addresses(await self._lookup(host), self._policy)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Holds nothing; whoever made the lookup closes it."""


def _getaddrinfo(host: str) -> tuple[str, ...]:
    # No AI_ADDRCONFIG: it hides the AAAA records of a machine without IPv6, and a bad one must be seen to be refused.
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))
