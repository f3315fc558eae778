"""The periodic line of figures, with the predecessor's ``delivery_queue_depth``."""

from pulse_ingest.adapters.queue_depth import QueueDepth
from pulse_runtime.clock import Clock
from pulse_runtime.events import STATS_REPORTED
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)


async def report_stats(depth: QueueDepth, *, interval_s: float, clock: Clock) -> None:
    """Log the figures every *interval_s* until cancelled."""
    while True:
        await clock.sleep(interval_s)
        _log.info(STATS_REPORTED, delivery_queue_depth=depth.messages)
