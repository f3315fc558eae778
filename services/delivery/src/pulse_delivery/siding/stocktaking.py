"""Stocktaking: has the server count the siding, and reads samples of what nobody here knows the size of."""

from collections.abc import Callable, Mapping
from typing import Final

from pulse_bus.siding import Siding, Survey
from pulse_contracts.subjects import RouteAddress, parse_route_address
from pulse_contracts.tokens import InvalidToken
from pulse_delivery.domain.room import Extent, SidingRoom
from pulse_runtime.metrics import DeliveryMetrics

_SAMPLES: Final = 20
_SHOWN: Final = 5
"""Ranks of the metric ``siding_share``."""


class Stocktaking:
    """Keeps `SidingRoom` in step with the siding."""

    def __init__(
        self, siding: Siding, room: SidingRoom, *, metrics: DeliveryMetrics, random: Callable[[], float]
    ) -> None:
        self._siding = siding
        self._room = room
        self._metrics = metrics
        self._random = random
        self._sequences = (1, 1)
        self._addresses: Mapping[str, RouteAddress | None] = {}

    async def count(self) -> Mapping[RouteAddress, int]:
        """Return how many messages wait, by route; may raise `BusError`."""
        self._room.count_begins()
        survey = await self._siding.survey()
        # Of a thousand subjects all but a few were there at the last look.
        known = self._addresses
        self._addresses = {subject: known.get(subject) or _address(subject) for subject in survey.waiting}
        waiting = {address: survey.waiting[subject] for subject, address in self._addresses.items() if address}
        self._room.counted(waiting, _extent(survey))
        self._sequences = (survey.first_seq, survey.last_seq)
        self._show(survey)
        return waiting

    async def sample(self) -> None:
        """Read a few messages of routes that hold some of unknown size: after a start, or another process's.

        May raise `BusError`.
        """
        first, last = self._sequences
        for address in self._room.unread(_SAMPLES):
            # Anywhere, not the head: one large message in front must not stand for a hundred thousand small ones.
            anywhere = first + int(self._random() * (last - first + 1))
            standing = await self._siding.peek(address, anywhere) or await self._siding.peek(address)
            if standing:
                self._room.read(address, standing.stored_bytes)

    def _show(self, survey: Survey) -> None:
        self._metrics.siding_bytes.set(survey.used_bytes)
        self._metrics.siding_most_bytes.set(survey.most_bytes)
        shares = [*self._room.fullest(_SHOWN), *[0.0] * _SHOWN]
        for rank in range(_SHOWN):
            self._metrics.siding_share.labels(rank=str(rank + 1)).set(shares[rank])


def _extent(survey: Survey) -> Extent:
    return Extent(
        used_bytes=survey.used_bytes,
        most_bytes=survey.most_bytes if survey.most_bytes > 0 else None,
        most_per_route=survey.most_per_route if survey.most_per_route > 0 else None,
    )


def _address(subject: str) -> RouteAddress | None:
    try:
        return parse_route_address(subject)
    except InvalidToken:
        return None
