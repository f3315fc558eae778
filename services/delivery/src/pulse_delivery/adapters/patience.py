"""Publishing what must not be lost: whatever passes is waited out."""

from typing import Final

from pulse_bus.errors import BusUnavailable, PublishRefused
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)
_RETRY_S: Final = 1.0


async def publish_patiently(publisher: Publisher, outgoing: Outgoing, clock: Clock) -> PublishRefused | None:
    """Return None once the message is committed, or the refusal of a stream that has no room for it.

    Also a refusal that no waiting cures is returned: what is too large today is too large tomorrow.
    """
    while True:
        try:
            await publisher.publish(outgoing)
        except PublishRefused as exc:
            if exc.is_full or exc.is_final:
                return exc
            _log.warning("publish_refused", subject=outgoing.subject, error=str(exc))
        except BusUnavailable as exc:
            _log.warning("publish_failed", subject=outgoing.subject, error=str(exc))
        else:
            return None
        await clock.sleep(_RETRY_S)
