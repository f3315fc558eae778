"""What durable consumers still owe, and for how long: the main figure, and what services are scaled on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pulse_bus.api import api_request
from pulse_bus.connection import Connection
from pulse_bus.errors import BusError
from pulse_bus.inspection import next_message
from pulse_contracts.topology import ConsumerSpec
from pulse_runtime.clock import Clock
from pulse_runtime.events import AGE_UNKNOWN
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)
_LOOK_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """What consumers have not acknowledged; the same whoever asks."""

    messages: int
    oldest_age_s: float
    """0 when nothing is owed."""


async def owed_by(connection: Connection, clock: Clock, *consumers: ConsumerSpec) -> Owed:
    """Ask what *consumers* have not acknowledged, all together; raises `ApiError` or `BusUnavailable`."""
    return _together([await _owed_by_one(connection, clock, consumer) for consumer in consumers])


async def _owed_by_one(connection: Connection, clock: Clock, consumer: ConsumerSpec) -> Owed:
    info = await api_request(connection, f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")
    messages = int(info["num_pending"]) + int(info["num_ack_pending"])
    start = int(info["ack_floor"]["stream_seq"]) + 1
    oldest = await next_message(connection, consumer.stream, consumer.filter_subject, start) if messages else None
    if oldest is None:
        return Owed(messages=messages, oldest_age_s=0.0)
    stored_at = datetime.fromisoformat(oldest.headers["Nats-Time-Stamp"])
    return Owed(messages=messages, oldest_age_s=max(0.0, (clock.now() - stored_at).total_seconds()))


class KnownAge:
    """An age that was measured, and what it may be at most until it is measured again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._age_s = 0.0
        self._at = clock.monotonic()

    def measured(self, age_s: float) -> float:
        """Keep it, and return it."""
        self._age_s, self._at = age_s, self._clock.monotonic()
        return age_s

    def at_most_s(self) -> float:
        """The last one and the time since: what it was measured of may still be owed, or something may be since then.

        So a figure that cannot be measured grows until somebody looks, where the last one would hide the trouble.
        """
        return self._age_s + self._clock.monotonic() - self._at


class OldestAges:
    """Measures, for each cause, how much its consumers have not acknowledged and since when."""

    def __init__(
        self,
        connection: Connection,
        consumers: Mapping[str, Sequence[ConsumerSpec]],
        show: Callable[[str, Owed], None],
        *,
        clock: Clock,
    ) -> None:
        """*show* gets a cause and what is owed; after a failed look the count of before and an age that grows."""
        self._connection = connection
        self._consumers = consumers
        self._show = show
        self._clock = clock
        self._ages = {cause: KnownAge(clock) for cause in consumers}
        self._messages = dict.fromkeys(consumers, 0)

    async def run(self) -> None:
        """Measure every two seconds until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(_LOOK_S)

    async def look(self) -> None:
        """Measure and show every cause once."""
        for cause, consumers in self._consumers.items():
            try:
                owed = await owed_by(self._connection, self._clock, *consumers)
            except BusError as exc:
                _log.warning(AGE_UNKNOWN, cause=cause, error=str(exc))
                age_s = self._ages[cause].at_most_s()
                self._show(cause, Owed(messages=self._messages[cause], oldest_age_s=age_s))
            else:
                self._messages[cause] = owed.messages
                self._ages[cause].measured(owed.oldest_age_s)
                self._show(cause, owed)


def _together(owed: Sequence[Owed]) -> Owed:
    return Owed(
        messages=sum(one.messages for one in owed), oldest_age_s=max((one.oldest_age_s for one in owed), default=0.0)
    )
