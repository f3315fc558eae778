"""Name resolution: asks the system."""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

MOST_LOOKUPS: Final = 256
"""At once: a thread each."""


_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})


class Lookup(Protocol):
    """Finds the addresses of a name."""

    async def __call__(self, host: str) -> Sequence[str]:
        """Returns all addresses of a name, or raises OSError; the caller bounds the wait."""
        ...


class SystemLookup:
    """Asks getaddrinfo in threads of its own.

    A hanging name server holds a thread for as long as resolv.conf says (often 10 s or more) and cannot be interrupted.
    The default executor has too few threads to let tenants hold them; `names.Names` shares these out.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MOST_LOOKUPS, thread_name_prefix="pulse-egress-dns")

    async def __call__(self, host: str) -> Sequence[str]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _getaddrinfo, host)

    def close(self) -> None:
        """Forgets the lookups that still wait for a thread; does not block on the running ones."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_no_such_name(error: Exception) -> bool:
    """Whether a look-up failed because a name server says that there is no such name."""
    return isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME


def _getaddrinfo(host: str) -> tuple[str, ...]:
    # No AI_ADDRCONFIG: it hides the AAAA records of a machine without IPv6, and a bad one must be seen to be refused.
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))
