"""How many messages wait to be delivered: the predecessor's ``delivery_queue_depth``."""

from typing import Final

from pulse_bus.api import api_request
from pulse_bus.connection import Connection
from pulse_bus.errors import ApiError, BusUnavailable
from pulse_contracts.topology import DELIVERY, SIDING
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import IngestMetrics

_log = get_logger(__name__)
_INTERVAL_S: Final = 2.0


class QueueDepth:
    """Asks the server every other second how many messages of DELIVERY and SIDING are not yet delivered."""

    def __init__(self, connection: Connection, metrics: IngestMetrics, clock: Clock) -> None:
        self._connection = connection
        self._metrics = metrics
        self._clock = clock
        self.messages: int | None = None
        """None until it is known."""

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            try:
                self.messages = await self.measure()
                self._metrics.delivery_queue_depth.set(self.messages)
            except (ApiError, BusUnavailable) as exc:
                _log.warning("queue_depth_unknown", error=str(exc))
            await self._clock.sleep(_INTERVAL_S)

    async def measure(self) -> int:
        """Ask once."""
        names = await api_request(self._connection, f"CONSUMER.NAMES.{DELIVERY.name}", {"offset": 0})
        siding = await api_request(self._connection, f"STREAM.INFO.{SIDING.name}")
        depth = int(siding["state"]["messages"])
        consumers: list[str] = names.get("consumers") or []
        for name in consumers:
            if name.startswith("deliver-"):
                info = await api_request(self._connection, f"CONSUMER.INFO.{DELIVERY.name}.{name}")
                depth += int(info["num_pending"]) + int(info["num_ack_pending"])
        return depth
