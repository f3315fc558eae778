"""Pulling and publishing on the model's server, as one process sees it; it passes the same tests as the server's.

Messages are real `Incoming` ones: what they say goes to the broker instead of over a connection.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, cast

from server_in_memory import EPOCH, Consumer, Lease, Server, Stored, number_in

from pulse_bus.connection import Connection
from pulse_bus.errors import PublishRefused
from pulse_bus.incoming import Incoming
from pulse_bus.outgoing import Committed, Outgoing
from pulse_contracts import headers
from pulse_contracts.records import DeadLetterRecord
from pulse_contracts.subjects import parse_route_address
from pulse_contracts.topology import ACK_WAIT_S
from pulse_runtime.clock import Clock

MAX_PAYLOAD: Final = 1_000
_TICK_S: Final = 1.0


class _Answers:
    """The connection of one message: what is published on it settles that one."""

    is_connected = True

    def __init__(self, server: Server, lease: Lease) -> None:
        self._server = server
        self._lease = lease

    async def publish(self, _subject: str, verb: bytes) -> None:
        self._server.settle(self._lease, verb.split(b" ")[0])


class PullsInMemory:
    """What `pulse_bus.consumer.PullConsumer` does, with one pull request open at a time."""

    def __init__(
        self,
        server: Server,
        find: Callable[[], Consumer | None],
        *,
        holder: str,
        name: str,
        clock: Clock,
        capacity: int,
        expires_s: float,
    ) -> None:
        """*find* returns the consumer, None if it is gone."""
        self._server = server
        self._find = find
        self.holder = holder
        self.name = name
        self._clock = clock
        self._capacity = capacity
        self._capacity_bytes: int | None = None
        self._expires_s = expires_s
        self._asked = 0
        self._asked_bytes: int | None = None
        self.pulled_until = 0.0
        self._runs = False
        self._is_to_refill = False
        self._buffer: deque[Incoming] = deque()
        self._arrived = asyncio.Event()
        self._held: set[Incoming] = set()
        self.trouble: str | None = None

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    @property
    def in_hand(self) -> int:
        """Messages that were taken and are not settled."""
        return len(self._held) - len(self._buffer)

    @property
    def has_any(self) -> bool:
        """Whether any message is here, taken or not."""
        return bool(self._held)

    def has_in_hand(self, number: int) -> bool:
        """Whether that message is here, and not another's by now."""
        return any(
            number_in(message.headers[headers.MSG_ID]) == number and not message.has_lapsed for message in self._held
        )

    @property
    def promised(self) -> tuple[int, int]:
        is_open = self._is_open()
        asked, asked_bytes = (self._asked, self._asked_bytes or 0) if is_open else (0, 0)
        return len(self._buffer) + asked, sum(len(message.data) for message in self._buffer) + asked_bytes

    def set_capacity(self, capacity: int, capacity_bytes: int | None = None) -> None:
        if (capacity, capacity_bytes) != (self._capacity, self._capacity_bytes):
            self._capacity, self._capacity_bytes = capacity, capacity_bytes
            self._refill_soon()

    async def take(self, most: int) -> list[Incoming]:
        while True:
            await self.arrival()
            if taken := self.take_now(most):
                return taken

    async def arrival(self) -> None:
        while not self._buffer:
            self._arrived.clear()
            await self._arrived.wait()

    def take_now(self, most: int) -> list[Incoming]:
        taken: list[Incoming] = []
        while self._buffer and len(taken) < most:
            message = self._buffer.popleft()
            if message.has_lapsed:
                message.abandon()
            else:
                taken.append(message)
        self._refill_soon()
        return taken

    async def run(self) -> None:
        self._runs = True
        try:
            while True:
                self._refill()
                soon = self._clock.monotonic() + ACK_WAIT_S * 2 / 3
                for message in [message for message in self._held if message.held_until <= soon]:
                    await message.hold()
                await asyncio.sleep(_TICK_S)
        finally:
            self._runs = False
            self._asked = 0
            if consumer := self._find():
                with suppress(ValueError):
                    consumer.pulls.remove(self)
            for message in self.take_now(len(self._buffer)):
                await message.nak()

    # What the broker asks of a pull request.

    def wants(self, size_bytes: int) -> bool:
        if self._asked_bytes is not None and size_bytes > self._asked_bytes:
            self._asked = 0
        return self._asked > 0

    def arrives(self, lease: Lease, stored: Stored, pending: int) -> None:
        now, size_bytes = self._clock.monotonic(), len(stored.data)
        self._asked -= 1
        if self._asked_bytes is not None:
            self._asked_bytes -= size_bytes
        message = Incoming(
            subject=stored.subject,
            data=stored.data,
            headers=stored.fields,
            stream_seq=lease.sequence,
            deliveries=1,
            stored_at_s=EPOCH.timestamp() + stored.stored_at,
            pending=pending,
            held_until=now + ACK_WAIT_S,
            _ack_wait_s=ACK_WAIT_S,
            _clock=self._clock,
            _reply="",
            _connection=cast("Connection", _Answers(self._server, lease)),
            _settled=self._held.discard,
        )
        self._held.add(message)
        self._buffer.append(message)
        self._arrived.set()

    def _is_open(self) -> bool:
        consumer = self._find()
        return consumer is not None and self in consumer.pulls and self.pulled_until > self._clock.monotonic()

    def _refill_soon(self) -> None:
        """Not at once: whoever takes may change the capacity before he waits for anything."""
        if self._runs and not self._is_to_refill:
            self._is_to_refill = True
            asyncio.get_running_loop().call_soon(self._refill)

    def _refill(self) -> None:
        """Have a pull request open, if there is anything to ask for."""
        self._is_to_refill = False
        if not self._runs or (not self._capacity and not self._is_open()):
            return
        if (consumer := self._find()) is None:
            self.trouble = f"{self.name}: the consumer is missing"
            return
        self.trouble = None
        is_open, now = self._is_open() and self._asked > 0, self._clock.monotonic()
        if is_open and self.pulled_until > now + _TICK_S:
            return
        asked = self._capacity - len(self._buffer)
        asked_bytes = self._capacity_bytes
        if asked_bytes is not None:
            asked_bytes -= sum(len(message.data) for message in self._buffer)
        if asked <= 0 or (asked_bytes is not None and asked_bytes < MAX_PAYLOAD):
            return
        self._asked, self._asked_bytes, self.pulled_until = asked, asked_bytes, now + self._expires_s
        if self not in consumer.pulls:
            consumer.pulls.append(self)
        self._server.serve(consumer)


class PublisherInMemory:
    """What `pulse_bus.publisher.Publisher` does: *commit* returns False for what was there, None for no room."""

    def __init__(
        self, stream: str, commit: Callable[[Outgoing], bool | None], answer: Callable[[], Awaitable[None]]
    ) -> None:
        self._stream = stream
        self._commit = commit
        self._answer = answer

    async def publish(self, *messages: Outgoing) -> list[Committed]:
        await self._answer()
        committed: list[Committed] = []
        for message in messages:
            was_there = self._commit(message)
            if was_there is None:
                await self._answer()
                raise PublishRefused(self._stream, "stream_full", "maximum bytes exceeded")
            committed.append(Committed(duplicate=was_there))
        await self._answer()
        return committed


def into_siding(server: Server, outgoing: Outgoing) -> bool | None:
    return server.put_aside(parse_route_address(outgoing.subject), outgoing)


def into_dead_letters(server: Server, outgoing: Outgoing) -> bool:
    server.bury(number_in(outgoing.message_id), DeadLetterRecord.decode(outgoing.data).reason)
    return False
