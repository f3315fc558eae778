"""What tables need now and then, done every hour by whichever service writes them; any number of replicas may."""

from collections.abc import Awaitable, Callable
from typing import Final

from pulse_contracts.storing import DataRefused, StorageUnavailable
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)
_INTERVAL_S: Final = 3600.0
_RETRY_S: Final = 30.0


async def keep_up(work: Callable[[], Awaitable[object]], clock: Clock) -> None:
    """Do *work* every hour until cancelled, and sooner again after the database could not."""
    while True:
        await clock.sleep(_INTERVAL_S if await keep_up_once(work) else _RETRY_S)


async def keep_up_once(work: Callable[[], Awaitable[object]]) -> bool:
    """Do *work* now; returns False, with a line in the log, if the database could not."""
    try:
        await work()
    except (StorageUnavailable, DataRefused) as exc:
        _log.warning("housekeeping_failed", error=str(exc))
        return False
    return True
