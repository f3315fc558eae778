"""A table kept in memory: LISTEN first, then all of it; after that again on every notification and now and then.

Notifications are lost across reconnects and revisions commit out of order, so a notification only says "read again".
What was read stays usable while PostgreSQL is down.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import asyncpg

from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger
from pulse_storage.pool import UNAVAILABLE, Connection, connect

_log = get_logger(__name__)
_RELIST_S: Final = 30.0
_RETRY_S: Final = 1.0
_GATHER_S: Final = 0.02
"""Changes that come together are read together."""


class Feed:
    """Calls *refresh* with a connection whenever the table may have changed; it may raise what the database raises."""

    def __init__(
        self, dsn: str, channel: str, refresh: Callable[[Connection], Awaitable[None]], *, service: str, clock: Clock
    ) -> None:
        self._dsn = dsn
        self._channel = channel
        self._refresh = refresh
        self._service = service
        self._clock = clock
        self._changed = asyncio.Event()
        self._read_at: float | None = None
        self.loaded = asyncio.Event()
        """Set once the table has been read for the first time."""

    @property
    def age_s(self) -> float:
        """How long ago the table was last read, in seconds."""
        return float("inf") if self._read_at is None else self._clock.monotonic() - self._read_at

    async def run(self) -> None:
        """Follow the table until cancelled, whatever becomes of the connection."""
        while True:
            try:
                await self._follow()
            except (*UNAVAILABLE, asyncpg.PostgresError) as exc:
                _log.warning("feed_interrupted", channel=self._channel, error=repr(exc))
                await self._clock.sleep(_RETRY_S)

    def _notified(self, *_notification: object) -> None:
        self._changed.set()

    async def _follow(self) -> None:
        async with connect(self._dsn, service=self._service) as connection:
            connection.add_termination_listener(self._notified)
            await connection.add_listener(self._channel, self._notified)
            while True:
                self._changed.clear()
                await self._refresh(connection)
                self._read_at = self._clock.monotonic()
                self.loaded.set()
                # Not `wait_for`: before Python 3.12 it swallows a cancellation that meets the event.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_RELIST_S):
                        await self._changed.wait()
                    await self._clock.sleep(_GATHER_S)
