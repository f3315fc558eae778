"""What the tables need now and then: partitions ahead of time, and old ids forgotten."""

from typing import Final

from pulse_contracts.storing import DataRefused, StorageUnavailable
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger
from pulse_storage import telemetry
from pulse_storage.pool import Pool

_log = get_logger(__name__)
_DAYS_AHEAD: Final = 7
_INTERVAL_S: Final = 3600.0
_RETRY_S: Final = 30.0


async def keep_house(pool: Pool, *, message_id_retention_days: int, clock: Clock) -> None:
    """Do it every hour until cancelled; any number of replicas may."""
    while True:
        done = await keep_house_once(pool, message_id_retention_days=message_id_retention_days)
        await clock.sleep(_INTERVAL_S if done else _RETRY_S)


async def keep_house_once(pool: Pool, *, message_id_retention_days: int) -> bool:
    """Do it now; returns False, with a line in the log, if the database could not."""
    try:
        made = await telemetry.ensure_partitions(pool, days_ahead=_DAYS_AHEAD)
        await telemetry.prune_message_ids(pool, older_than_days=message_id_retention_days)
    except (StorageUnavailable, DataRefused) as exc:
        _log.warning("housekeeping_failed", error=str(exc))
        return False
    if made:
        _log.info("partitions_made", count=made)
    return True
