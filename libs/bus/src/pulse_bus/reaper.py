"""The reaper: removes from a limits stream what every required consumer is done with.

On a work-queue stream each removing ack costs an fsync; purging up to the lowest ack floor a few times a second
does not (ADR 0002). Purging to a sequence is idempotent, so any replica may do it.
"""

from collections.abc import Sequence
from typing import Final

from pulse_bus.api import api_request
from pulse_bus.connection import Connection
from pulse_bus.errors import ApiError, BusUnavailable
from pulse_contracts.topology import ConsumerSpec
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)
_INTERVAL_S: Final = 0.5
_IDLE_INTERVAL_S: Final = 2.0
KEEP: Final = 1_000
"""So many finished messages stay, for `nats stream view` to show what just passed, while half of the stream is free.

Large ones could fill it for good otherwise: it would refuse, and nothing more would be done with.
"""


class Reaper:
    """Purges one stream below the ack floors of the consumers that must have seen its messages.

    *consumers* share one filter subject; a missing one means no purge, and `trouble` says so: the service is not ready.
    """

    def __init__(self, connection: Connection, consumers: Sequence[ConsumerSpec], *, clock: Clock) -> None:
        self._connection = connection
        self._consumers = tuple(consumers)
        self._clock = clock
        self._purged_to = 0
        self.trouble: str | None = None

    async def run(self) -> None:
        """Reap until cancelled."""
        unanswered = False
        while True:
            pause = _IDLE_INTERVAL_S
            try:
                if await self.reap():
                    pause = _INTERVAL_S
                self.trouble = None
            except ApiError as exc:
                self.trouble = str(exc)
                _log.warning("reap_failed", error=str(exc))
            except BusUnavailable as exc:
                # nats-server answers nothing for a moment while it reloads its logins: twice in a row is trouble.
                if unanswered:
                    self.trouble = str(exc)
                unanswered, pause = True, _INTERVAL_S
                _log.warning("reap_failed", error=str(exc))
            else:
                unanswered = False
            await self._clock.sleep(pause)

    async def reap(self) -> int:
        """Purge once; returns how many messages went."""
        floors = [await self._ack_floor(consumer) for consumer in self._consumers]
        kept = KEEP if await self._is_half_free() else 0
        keep_from = min(floors) - kept + 1
        if keep_from <= 1 or keep_from == self._purged_to:
            return 0
        spec = self._consumers[0]
        answer = await api_request(
            self._connection, f"STREAM.PURGE.{spec.stream}", {"filter": spec.filter_subject, "seq": keep_from}
        )
        self._purged_to = keep_from
        return int(answer["purged"])

    async def _is_half_free(self) -> bool:
        info = await api_request(self._connection, f"STREAM.INFO.{self._consumers[0].stream}")
        most_bytes = int(info["config"]["max_bytes"])
        return most_bytes <= 0 or 2 * int(info["state"]["bytes"]) <= most_bytes

    async def _ack_floor(self, consumer: ConsumerSpec) -> int:
        info = await api_request(self._connection, f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")
        return int(info["ack_floor"]["stream_seq"])
