"""A batch writer: from a durable consumer into a store, idempotently, with the ack after the commit."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_contracts.envelope import InvalidEnvelope
from pulse_contracts.storing import DataRefused, StorageUnavailable
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger

R = TypeVar("R")

_log = get_logger(__name__)
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_MAX_BATCH: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[R]):
    """One record to store, and the message that brought it."""

    message: Incoming
    record: R
    stands_in: bool = False
    """Whether the record is stored in place of one that cannot be."""


class BatchWriter(Generic[R]):
    """Stores everything its consumer delivers.

    *store* commits a batch or raises `StorageUnavailable` (tried again for as long as it takes, the messages held) or
    `DataRefused` (the batch is bisected, so that one bad record costs one record). *stand_in* makes what is stored in
    place of a record that nobody can read or that is refused. *last_resort* gets what cannot be replaced, and settles
    its message.
    """

    def __init__(
        self,
        consumer: PullConsumer,
        *,
        decode: Callable[[bytes], R],
        store: Callable[[Sequence[Entry[R]]], Awaitable[None]],
        last_resort: Callable[[Incoming, str], Awaitable[None]],
        clock: Clock,
        stand_in: Callable[[Incoming, str], R] | None = None,
        linger_s: float = 0.0,
    ) -> None:
        """*linger_s*: so long a batch that is not full gathers, where nobody waits for what is stored."""
        self._consumer = consumer
        self._linger_s = linger_s
        self._decode = decode
        self._store = store
        self._last_resort = last_resort
        self._stand_in = stand_in
        self._clock = clock
        self.trouble: str | None = None
        """Why nothing can be stored just now, or None."""

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._gather()
            messages = self._consumer.take_now(_MAX_BATCH)
            await self._write([entry for message in messages if (entry := await self._read(message))])

    async def _gather(self) -> None:
        await self._consumer.arrival()
        if self._linger_s and self._consumer.buffered < _MAX_BATCH:
            await self._clock.sleep(self._linger_s)

    async def _read(self, message: Incoming) -> Entry[R] | None:
        try:
            return Entry(message=message, record=self._decode(message.data))
        except InvalidEnvelope as exc:
            return await self._replace(message, f"not a record of ours: {exc}")

    async def _replace(self, message: Incoming, error: str) -> Entry[R] | None:
        if self._stand_in:
            return Entry(message=message, record=self._stand_in(message, error), stands_in=True)
        await self._last_resort(message, error)
        return None

    async def _write(self, entries: Sequence[Entry[R]]) -> None:
        if not entries:
            return
        try:
            await self._store_patiently(entries)
        except DataRefused as exc:
            if len(entries) == 1:
                await self._write_instead(entries[0], str(exc))
                return
            middle = len(entries) // 2
            await self._write(entries[:middle])
            await self._write(entries[middle:])
        else:
            for entry in entries:
                await entry.message.ack()

    async def _write_instead(self, entry: Entry[R], error: str) -> None:
        if entry.stands_in:
            await self._last_resort(entry.message, error)
        elif instead := await self._replace(entry.message, error):
            await self._write([instead])

    async def _store_patiently(self, entries: Sequence[Entry[R]]) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            try:
                await self._store(entries)
            except StorageUnavailable as exc:
                self.trouble = f"{self._consumer.name}: {exc}"
                _log.warning("store_failed", consumer=self._consumer.name, messages=len(entries), error=str(exc))
                await self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            else:
                self.trouble = None
                return
