"""The pull loop: overlapping pull requests on one inbox, refilled at half, re-armed after every kind of break."""

import asyncio
import json
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from pulse_bus.api import NANOSECONDS
from pulse_bus.connection import Connection
from pulse_bus.errors import BusUnavailable
from pulse_bus.incoming import Incoming, read_delivery
from pulse_contracts.topology import ACK_WAIT_S
from pulse_runtime.clock import Clock

_EXPIRES_S: Final = 30.0
_HEARTBEAT_S: Final = 5.0
_SILENCE_S: Final = 2.5 * _HEARTBEAT_S
_TICK_S: Final = 1.0
_NOBODY_STATUS: Final = "503"
_HEARTBEAT_STATUS: Final = "100"
_ALIVE: Final = frozenset({_HEARTBEAT_STATUS, "408"})
"""Only a consumer that is there says that."""
_EXPIRED: Final = frozenset({"404", "408"})
"""The pull request ran out: the next may follow at once."""
_REFUSED_PAUSE_S: Final = 0.5
_DRAIN_S: Final = 1.0
_FROZEN_S: Final = 2.0
"""The loop ticks once a second: after a longer gap the process stood still …"""
_AWAKE_S: Final = 1.0
"""… and what arrives so soon after it may have been sent when that began."""


@dataclass(slots=True)
class _Pull:
    asked: int
    remaining: int
    remaining_bytes: int
    """Of the bodies; what the server counts besides makes it stop earlier. 0 without a bound."""
    deadline: float


class PullConsumer:
    """Takes messages from a durable consumer, never holding more unread ones than *capacity*, in bytes too if bounded.

    Every message taken is held with in-progress signals at a third of ``ack_wait`` until it is settled, however long
    the work takes; a process that dies stops signalling, and the server delivers to another. One that stood still and
    wakes after ``ack_wait`` hands out nothing that is another's by then.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        name: str,
        *,
        clock: Clock,
        capacity: int,
        ack_wait_s: float = ACK_WAIT_S,
        expires_s: float = _EXPIRES_S,
    ) -> None:
        """*expires_s*: so long a pull request waits at the server, also that of a process that is frozen or gone."""
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
        self._clock = clock
        self._capacity = capacity
        self._capacity_bytes: int | None = None
        self._ack_wait_s = ack_wait_s
        self._expires_s = expires_s
        self._inbox = connection.new_inbox()
        self._tokens = count()
        self._pulls: OrderedDict[str, _Pull] = OrderedDict()
        self._buffer: deque[Incoming] = deque()
        self._buffered_bytes = 0
        self._held: set[Incoming] = set()
        self._changed = asyncio.Event()
        self._arrived = asyncio.Event()
        self._heard_at = clock.monotonic()
        self._not_before = 0.0
        self._alive_at = clock.monotonic()
        self._frozen_at = self._awake_at = float("-inf")
        self.name = name
        self.trouble: str | None = None
        """Why the server does not serve this consumer, or None."""

    @property
    def buffered(self) -> int:
        """Messages that arrived and nobody took yet."""
        return len(self._buffer)

    @property
    def promised(self) -> tuple[int, int]:
        """Messages that are unread or may still come without being asked for anew, and the bytes of their bodies."""
        pulls = self._pulls.values()
        messages = len(self._buffer) + sum(pull.remaining for pull in pulls)
        return messages, self._buffered_bytes + sum(pull.remaining_bytes for pull in pulls)

    def set_capacity(self, capacity: int, capacity_bytes: int | None = None) -> None:
        """Change how many messages may wait unread, and how large their bodies may be together; 0 stops pulling.

        What was asked for before may still come. Less than the largest message allowed counts as no bytes at all.
        """
        if (capacity, capacity_bytes) != (self._capacity, self._capacity_bytes):
            self._capacity, self._capacity_bytes = capacity, capacity_bytes
            self._changed.set()

    async def take(self, most: int) -> list[Incoming]:
        """Wait for messages and return up to *most* of them, at least one."""
        while True:
            await self.arrival()
            if taken := self.take_now(most):
                return taken

    async def arrival(self) -> None:
        """Wait until a message is here to be taken."""
        while not self._buffer:
            self._arrived.clear()
            await self._arrived.wait()

    def take_now(self, most: int) -> list[Incoming]:
        """Return up to *most* messages that are already here, perhaps none."""
        taken: list[Incoming] = []
        while self._buffer and len(taken) < most:
            message = self._buffer.popleft()
            self._buffered_bytes -= len(message.data)
            if message.has_lapsed:
                message.abandon()
            else:
                taken.append(message)
        self._changed.set()
        return taken

    async def run(self) -> None:
        """Keep pull requests open until cancelled, then give back what nobody took."""
        subscription = await self._connection.subscribe(f"{self._inbox}.*", self._on_message)
        self._connection.on_reconnect(self._forget_pulls)
        self._alive_at = self._clock.monotonic()
        try:
            while True:
                self._note_alive()
                # First: what changes while this asks and signals must not be missed until the next tick.
                self._changed.clear()
                await self._refill()
                await self._hold()
                may_come = bool(self._capacity or self._pulls)
                # Not `wait_for`: before Python 3.12 it swallows a cancellation that meets the event.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S if may_come else self._next_hold_s()):
                        await self._changed.wait()
                if not (may_come or self._buffer):
                    # However long it took: nothing was sent here meanwhile.
                    self._alive_at = self._clock.monotonic()
        finally:
            self._connection.off_reconnect(self._forget_pulls)
            await asyncio.shield(self._give_back(subscription))

    async def _refill(self) -> None:
        now = self._clock.monotonic()
        self._drop_dead_pulls(now)
        promised, promised_bytes = self.promised
        wanted, wanted_bytes = self._capacity - promised, self._wanted_bytes(promised_bytes)
        if wanted <= self._capacity // 2 or now < self._not_before or not self._connection.is_connected:
            return
        if wanted_bytes is not None and wanted_bytes < self._connection.max_payload:
            return
        token = str(next(self._tokens))
        request = {
            "batch": wanted,
            "expires": int(self._expires_s * NANOSECONDS),
            **({"idle_heartbeat": int(_HEARTBEAT_S * NANOSECONDS)} if self._expires_s > 2 * _HEARTBEAT_S else {}),
            **({"max_bytes": wanted_bytes} if wanted_bytes is not None else {}),
        }
        deadline = now + self._expires_s + _HEARTBEAT_S
        self._pulls[token] = _Pull(asked=wanted, remaining=wanted, remaining_bytes=wanted_bytes or 0, deadline=deadline)
        try:
            await self._connection.publish(self._subject, json.dumps(request).encode(), reply=f"{self._inbox}.{token}")
        except BusUnavailable:
            del self._pulls[token]

    def _wanted_bytes(self, promised_bytes: int) -> int | None:
        """Return what a pull may bring: not all of it, so that the next one need not wait for its end."""
        if self._capacity_bytes is None:
            return None
        one_of_two = max(self._capacity_bytes // 2, self._connection.max_payload)
        return min(self._capacity_bytes - promised_bytes, one_of_two)

    def _drop_dead_pulls(self, now: float) -> None:
        if self._pulls and now - self._heard_at > _SILENCE_S:
            # Neither a heartbeat nor the end of a short pull: the server forgot the pulls (a leader change, a lost
            # connection not yet noticed).
            self._pulls.clear()
            self._heard_at = now
        for token in [token for token, pull in self._pulls.items() if pull.deadline < now]:
            del self._pulls[token]
        if not self._pulls:
            self._heard_at = now

    def _forget_pulls(self) -> None:
        self._pulls.clear()
        self._changed.set()

    async def _hold(self) -> None:
        """Signal progress for everything held for a third of ``ack_wait`` since the last signal."""
        due = self._clock.monotonic() + self._ack_wait_s * 2 / 3
        for message in [message for message in self._held if message.held_until <= due]:
            if message in self._held:
                await message.hold()

    def _next_hold_s(self) -> float | None:
        """Return in how long something held needs a signal, None if nothing is held."""
        if not self._held:
            return None
        first = min(message.held_until for message in self._held) - self._ack_wait_s * 2 / 3
        return max(_TICK_S, first - self._clock.monotonic())

    def _note_alive(self) -> float:
        """Return when the server may have sent, at the earliest, what arrives now."""
        now = self._clock.monotonic()
        if now - self._alive_at > _FROZEN_S:
            self._frozen_at, self._awake_at = self._alive_at, now
        self._alive_at = now
        return self._frozen_at if now - self._awake_at < _AWAKE_S else now

    def _on_message(self, message: Msg) -> None:
        self._heard_at = self._clock.monotonic()
        delivery = read_delivery(
            message,
            self._connection,
            self._settled,
            self._clock,
            sent_at=self._note_alive(),
            ack_wait_s=self._ack_wait_s,
        )
        if delivery is None:
            self._on_status(message)
            return
        self.trouble = None
        self._held.add(delivery)
        if not self._pulls:
            # What was asked for before a break: whoever rests has to signal for it from now on.
            self._changed.set()
        self._buffer.append(delivery)
        self._buffered_bytes += len(delivery.data)
        self._count_one(len(delivery.data))
        self._arrived.set()

    def _count_one(self, size_bytes: int) -> None:
        """Charge a delivery to the oldest pull: the server serves them in order."""
        for token, pull in self._pulls.items():
            pull.remaining -= 1
            pull.remaining_bytes = max(0, pull.remaining_bytes - size_bytes)
            if pull.remaining <= 0:
                del self._pulls[token]
            return

    def _on_status(self, message: Msg) -> None:
        status = (message.headers or {}).get("Status", "503")
        if status in _ALIVE:
            # Whoever is idle gets no message to show that a consumer that was missing is back.
            self.trouble = None
        if status == _HEARTBEAT_STATUS:
            return
        pull = self._pulls.pop(message.subject.rpartition(".")[2], None)
        # 503 says that nobody listens on the consumer's subject; its description is whatever header comes next.
        if status == _NOBODY_STATUS or "Deleted" in (message.headers or {}).get("Description", ""):
            self.trouble = f"{self.name}: the consumer is missing, or its stream has no leader"
        elif status in _EXPIRED or pull is None or pull.remaining < pull.asked:
            # Without a pull it tells of one that has brought all: "Batch Completed", and a 409 too.
            self._changed.set()
            return
        # What was refused before it brought anything would be refused again, as fast as the server answers.
        self._not_before = self._clock.monotonic() + _REFUSED_PAUSE_S
        self._changed.set()

    def _settled(self, message: Incoming) -> None:
        self._held.discard(message)

    async def _give_back(self, subscription: Subscription) -> None:
        """Nak what nobody took, so that another replica gets it at once and not after ``ack_wait``.

        The inbox goes first: a pull that is still open would get back what is given back.
        """
        try:
            async with asyncio.timeout(_DRAIN_S):
                await subscription.drain()
        except (nats.errors.Error, TimeoutError):
            await self._connection.abandon(subscription)
        while taken := self.take_now(1):
            await taken[0].nak()
