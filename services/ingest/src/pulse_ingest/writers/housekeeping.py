"""What the tables of ingest need now and then: partitions ahead of time, and old ids forgotten."""

from typing import Final

from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import IngestMetrics
from pulse_storage import telemetry
from pulse_storage.pool import Pool

_log = get_logger(__name__)
_DAYS_AHEAD: Final = 7


async def keep_house(pool: Pool, metrics: IngestMetrics, *, message_id_retention_days: int) -> None:
    """Do it now; raises like `telemetry.store`."""
    if made := await telemetry.ensure_partitions(pool, days_ahead=_DAYS_AHEAD):
        _log.info("partitions_made", count=made)
    await telemetry.prune_message_ids(pool, older_than_days=message_id_retention_days)
    metrics.default_partition_rows.set(await telemetry.default_partition_rows(pool))
