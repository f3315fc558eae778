"""A bounded memory of what was delivered, so that a broker that forgets acks does not make a living process resend."""

from collections import OrderedDict
from typing import Final

_REMEMBERED: Final = 50_000


class DeliveredMemory:
    """Remembers the latest matches that were delivered by this process."""

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._most = most
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, delivery_id: str) -> None:
        self._ids[delivery_id] = None
        self._ids.move_to_end(delivery_id)
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)

    def __contains__(self, delivery_id: str) -> bool:
        return delivery_id in self._ids
