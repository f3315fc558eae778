"""What the tables need now and then: partitions ahead of time, and old ids forgotten."""

from typing import Final

from pulse_contracts.storing import StorageUnavailable
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
        pause = _INTERVAL_S
        try:
            made = await telemetry.ensure_partitions(pool, days_ahead=_DAYS_AHEAD)
            await telemetry.prune_message_ids(pool, older_than_days=message_id_retention_days)
            if made:
                _log.info("partitions_made", count=made)
        except StorageUnavailable as exc:
            _log.warning("housekeeping_failed", error=str(exc))
            pause = _RETRY_S
        await clock.sleep(pause)
