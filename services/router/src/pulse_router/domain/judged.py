"""Which generation of its tenant's routes judged which messages, gathered until it is put on record. Synchronous."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from pulse_contracts.ids import MessageId, TenantId

MOST_IN_A_RECORD: Final = 1000
_MOST_GATHERED: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Messages of one tenant that were judged alike."""

    tenant: TenantId
    generation: int
    messages: tuple[MessageId, ...]


class JudgedMessages:
    """Gathers within a bound; beyond it messages are only counted."""

    def __init__(self, most: int = _MOST_GATHERED) -> None:
        self._most = most
        self._gathered: defaultdict[tuple[TenantId, int], list[MessageId]] = defaultdict(list)
        self._count = 0
        self._lost = 0

    def note(self, tenant: TenantId, generation: int, message: MessageId) -> None:
        """Remember one message, unless too many wait already."""
        if self._count >= self._most:
            self._lost += 1
            return
        self._gathered[tenant, generation].append(message)
        self._count += 1

    def take(self) -> list[Judged]:
        """Remove and return everything gathered, in records of a bounded size."""
        gathered, self._gathered, self._count = self._gathered, defaultdict(list), 0
        return [
            Judged(tenant=tenant, generation=generation, messages=tuple(messages[start : start + MOST_IN_A_RECORD]))
            for (tenant, generation), messages in gathered.items()
            for start in range(0, len(messages), MOST_IN_A_RECORD)
        ]

    def take_lost(self) -> int:
        """Return how many messages found no room since this was last asked."""
        lost, self._lost = self._lost, 0
        return lost
