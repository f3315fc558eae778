"""How old the oldest message is that durable consumers still owe something: the main figure (design §8)."""

from collections.abc import Callable, Mapping, Sequence
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


class OldestAges:
    """Measures, for each cause, the oldest message that one of its consumers has not acknowledged."""

    def __init__(
        self,
        connection: Connection,
        consumers: Mapping[str, Sequence[ConsumerSpec]],
        show: Callable[[str, float], None],
        *,
        clock: Clock,
    ) -> None:
        """*show* gets a cause and an age in seconds, 0 when nothing is owed; a failed look shows nothing new."""
        self._connection = connection
        self._consumers = consumers
        self._show = show
        self._clock = clock

    async def run(self) -> None:
        """Measure every two seconds until cancelled."""
        while True:
            for cause, consumers in self._consumers.items():
                try:
                    self._show(cause, max([await self.age_s(consumer) for consumer in consumers], default=0.0))
                except BusError as exc:
                    _log.debug("age_unknown", cause=cause, error=str(exc))
            await self._clock.sleep(_LOOK_S)

    async def age_s(self, consumer: ConsumerSpec) -> float:
        """Return the age of one consumer's oldest message; raises `ApiError` or `BusUnavailable`."""
        info = await api_request(self._connection, f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")
        if not info["num_pending"] and not info["num_ack_pending"]:
            return 0.0
        floor = int(info["ack_floor"]["stream_seq"])
        oldest = await next_message(self._connection, consumer.stream, consumer.filter_subject, floor + 1)
        if oldest is None:
            return 0.0
        stored_at = datetime.fromisoformat(oldest.headers["Nats-Time-Stamp"])
        return max(0.0, (self._clock.now() - stored_at).total_seconds())
