"""Which replicas live: each of them says so twice a second, and who is not heard is gone, frozen or cut off (ADR 0021).

What the server knows instead, whether somebody pulls, it knows of each turn only if each pulls, also while it pauses.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from nats.aio.msg import Msg

from pulse_bus.connection import Connection
from pulse_bus.errors import BusUnavailable
from pulse_contracts.subjects import ALIVE, LEAVING
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)
_BEAT_S: Final = 0.5
_HEARD_WITHIN_S: Final = 3 * _BEAT_S
_REMEMBERED_S: Final = 60.0
SILENCE_S: Final = 1.75
"""Who was not heard for so long does not live, as far as the others know."""


class Presence:
    """Tells the others that *owner* lives, and hears whether they do."""

    def __init__(self, connection: Connection, owner: str, clock: Clock, serves: Callable[[], bool]) -> None:
        """A process keeps silent while it does not do what others could take over: *serves* tells."""
        self._connection = connection
        self._owner = owner
        self._clock = clock
        self._serves = serves
        self._said_alive = self._has_left = False
        self._heard_at: dict[str, float] = {}
        self._listening_since = clock.monotonic()

    @property
    def is_deaf(self) -> bool:
        """Whether not even this process hears itself, though it has had time to: then it knows nothing of anybody."""
        return self._said_alive and not self._hears(self._owner)

    def lives(self, owner: str) -> bool:
        """Whether that process lives, as far as can be known here: it does until it had time to say so."""
        return self.is_deaf or self._hears(owner)

    async def run(self) -> None:
        """Beat and listen until cancelled."""
        self._connection.on_reconnect(self._listen_anew)
        try:
            await self._connection.subscribe(ALIVE, self._hear)
            await self._connection.subscribe(LEAVING, self._hear_goodbye)
            self._listen_anew()
            while True:
                await self._beat()
                self._forget_the_dead()
                await self._clock.sleep(_BEAT_S)
        finally:
            self._connection.off_reconnect(self._listen_anew)

    async def leave(self) -> None:
        """Say nothing more, and have the others take over at once: this process has nothing in hand any more."""
        self._has_left = True
        await self._say(LEAVING)

    async def _beat(self) -> None:
        self._said_alive = self._serves() and not self._has_left
        if self._said_alive:
            await self._say(ALIVE)

    async def _say(self, subject: str) -> None:
        try:
            await self._connection.publish(subject, self._owner.encode())
        except BusUnavailable as exc:
            _log.debug("presence_unsent", error=str(exc))

    def _hear(self, message: Msg) -> None:
        self._heard_at[_owner(message)] = self._clock.monotonic()

    def _hear_goodbye(self, message: Msg) -> None:
        self._heard_at[_owner(message)] = self._clock.monotonic() - SILENCE_S

    def _hears(self, owner: str) -> bool:
        heard_at = self._heard_at.get(owner, self._listening_since)
        return self._clock.monotonic() - heard_at < SILENCE_S

    def _listen_anew(self) -> None:
        now = self._clock.monotonic()
        could_hear_until = self._heard_at.get(self._owner, now)
        # Who was silent before the break goes on being it; the others have time to speak.
        self._heard_at = {
            owner: now if could_hear_until - heard_at < SILENCE_S else heard_at
            for owner, heard_at in self._heard_at.items()
        }
        self._listening_since = now

    def _forget_the_dead(self) -> None:
        long_ago = self._clock.monotonic() - _REMEMBERED_S
        self._heard_at = {owner: heard_at for owner, heard_at in self._heard_at.items() if heard_at > long_ago}


def _owner(message: Msg) -> str:
    return message.data.decode(errors="replace")


async def is_heard(connection: Connection, owner: str) -> bool:
    """Whether that process says now that it lives; takes 0.25 s on average if it does, else 1.5 s."""
    heard = asyncio.Event()

    def on_beat(message: Msg) -> None:
        if _owner(message) == owner:
            heard.set()

    subscription = await connection.subscribe(ALIVE, on_beat)
    try:
        async with asyncio.timeout(_HEARD_WITHIN_S):
            return await heard.wait()
    except TimeoutError:
        return False
    finally:
        await connection.abandon(subscription)
