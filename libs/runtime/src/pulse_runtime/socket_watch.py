"""Lets libraries that watch sockets through the event loop hear of a reset, also under uvloop.

uvloop stops to watch a socket that the peer reset, calls nobody, and refuses to watch that descriptor ever again
(https://github.com/MagicStack/uvloop/issues/552). What waits for such a socket waits for ever.
"""

import asyncio
import select
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

Watcher = Callable[..., object]


class SocketWatch:
    """The running loop, with the watching of sockets done by an epoll of its own.

    The loop watches the epoll, which is readable while one of its sockets has something to say, errors included.
    Everything else is the loop's. Made for one client, which stops watching what it closes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._readers: dict[int, Watcher] = {}
        self._writers: dict[int, Watcher] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def add_reader(self, fd: int, callback: Watcher) -> None:
        self._readers[fd] = callback
        self._watch(fd)

    def add_writer(self, fd: int, callback: Watcher) -> None:
        self._writers[fd] = callback
        self._watch(fd)

    def remove_reader(self, fd: int) -> bool:
        was_watched = self._readers.pop(fd, None) is not None
        self._watch(fd)
        return was_watched

    def remove_writer(self, fd: int) -> bool:
        was_watched = self._writers.pop(fd, None) is not None
        self._watch(fd)
        return was_watched

    def _watch(self, fd: int) -> None:
        events = (select.EPOLLIN if fd in self._readers else 0) | (select.EPOLLOUT if fd in self._writers else 0)
        epoll = self._opened()
        with suppress(OSError):  # not watched before, or closed meanwhile
            epoll.unregister(fd)
        if events:
            try:
                epoll.register(fd, events)
            except OSError:  # closed between asking to write and this call: who closed it knows
                self._readers.pop(fd, None)
                self._writers.pop(fd, None)
        if not self._readers and not self._writers:
            self._close()

    def _opened(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._dispatch)
        return self._epoll

    def _close(self) -> None:
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _dispatch(self) -> None:
        events = self._epoll.poll(0) if self._epoll is not None else []
        for fd, happened in events:
            # A reset is neither of both: it is told to whoever watches.
            if happened & ~select.EPOLLOUT and (reader := self._readers.get(fd)):
                reader()
            if happened & ~select.EPOLLIN and (writer := self._writers.get(fd)):
                writer()


def socket_watch() -> asyncio.AbstractEventLoop:
    """Return what to give a client in the place of the running loop; the loop itself where there is no epoll."""
    loop = asyncio.get_running_loop()
    return cast("asyncio.AbstractEventLoop", SocketWatch(loop)) if hasattr(select, "epoll") else loop
