"""Which replicas live: each of them says so twice a second, and who is not heard is gone, frozen or cut off (ADR 0021).

What the server knows instead, whether somebody pulls, it knows of each turn only if each pulls, also while it pauses.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from nats.aio.msg import Msg

from pulse_bus.connection import Connection
from pulse_bus.errors import BusUnavailable
from pulse_contracts.subjects import ALIVE
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)
_BEAT_S: Final = 0.5
_HEARD_WITHIN_S: Final = 3 * _BEAT_S
SILENCE_S: Final = 2.0
"""Who was not heard for so long does not live, as far as the others know."""


class Presence:
    """Tells the others that *owner* lives, and hears whether they do."""

    def __init__(self, connection: Connection, owner: str, clock: Clock, is_leaving: Callable[[], bool]) -> None:
        """A process that *is_leaving* keeps silent: the others may take over what it serves."""
        self._connection = connection
        self._owner = owner
        self._clock = clock
        self._is_leaving = is_leaving
        self._heard_at: dict[str, float] = {}
        self._listening_since = clock.monotonic()

    def lives(self, owner: str) -> bool:
        """Whether that process lives, as far as can be known here: it does until it had time to say so."""
        heard_at = self._heard_at.get(owner, self._listening_since)
        return self._clock.monotonic() - max(heard_at, self._listening_since) < SILENCE_S

    async def run(self) -> None:
        """Beat and listen until cancelled."""
        self._connection.on_reconnect(self._listen_anew)
        try:
            await self._connection.subscribe(ALIVE, self._hear)
            self._listen_anew()
            while True:
                if not self._is_leaving():
                    await self._beat()
                self._forget_the_dead()
                await self._clock.sleep(_BEAT_S)
        finally:
            self._connection.off_reconnect(self._listen_anew)

    async def _beat(self) -> None:
        try:
            await self._connection.publish(ALIVE, self._owner.encode())
        except BusUnavailable as exc:
            _log.debug("beat_unsent", error=str(exc))

    def _hear(self, message: Msg) -> None:
        self._heard_at[message.data.decode(errors="replace")] = self._clock.monotonic()

    def _listen_anew(self) -> None:
        self._listening_since = self._clock.monotonic()

    def _forget_the_dead(self) -> None:
        self._heard_at = {owner: at for owner, at in self._heard_at.items() if self.lives(owner)}


async def is_heard(connection: Connection, owner: str) -> bool:
    """Whether that process says now that it lives; takes 0.25 s on average if it does, else 1.5 s."""
    heard = asyncio.Event()

    def on_beat(message: Msg) -> None:
        if message.data == owner.encode():
            heard.set()

    subscription = await connection.subscribe(ALIVE, on_beat)
    try:
        async with asyncio.timeout(_HEARD_WITHIN_S):
            return await heard.wait()
    except TimeoutError:
        return False
    finally:
        await connection.abandon(subscription)
