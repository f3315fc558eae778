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
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)
_LOOK_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """What consumers have not acknowledged; the same whoever asks."""

    messages: int
    oldest_age_s: float
    """0 when nothing is owed."""


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
        """*show* gets a cause and what is owed; a failed look shows nothing new."""
        self._connection = connection
        self._consumers = consumers
        self._show = show
        self._clock = clock

    async def run(self) -> None:
        """Measure every two seconds until cancelled."""
        while True:
            for cause, consumers in self._consumers.items():
                try:
                    self._show(cause, _together([await self.owed(consumer) for consumer in consumers]))
                except BusError as exc:
                    _log.debug("age_unknown", cause=cause, error=str(exc))
            await self._clock.sleep(_LOOK_S)

    async def owed(self, consumer: ConsumerSpec) -> Owed:
        """Ask for one consumer; raises `ApiError` or `BusUnavailable`."""
        info = await api_request(self._connection, f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")
        messages = int(info["num_pending"]) + int(info["num_ack_pending"])
        floor = int(info["ack_floor"]["stream_seq"])
        return Owed(messages=messages, oldest_age_s=await self._age_s(consumer, floor + 1) if messages else 0.0)

    async def _age_s(self, consumer: ConsumerSpec, start: int) -> float:
        oldest = await next_message(self._connection, consumer.stream, consumer.filter_subject, start)
        if oldest is None:
            return 0.0
        stored_at = datetime.fromisoformat(oldest.headers["Nats-Time-Stamp"])
        return max(0.0, (self._clock.now() - stored_at).total_seconds())


def _together(owed: Sequence[Owed]) -> Owed:
    return Owed(
        messages=sum(one.messages for one in owed), oldest_age_s=max((one.oldest_age_s for one in owed), default=0.0)
    )
