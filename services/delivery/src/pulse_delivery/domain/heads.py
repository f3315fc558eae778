"""What is known of messages that were tried from the siding and given back: their headers on the server do not know.

It passes on with the route's breaker, so that a poison message is counted across turns, processes and restarts.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from pulse_contracts.turns import HeadTries
from pulse_delivery.domain.parcel import Parcel

_MOST: Final = 32
"""More than a turn has in flight. What is forgotten beyond it is tried a few times more."""


class Heads:
    """The latest such messages of one route."""

    def __init__(self, known: Iterable[HeadTries] = ()) -> None:
        self._tries = {tries.message_id: tries for tries in known}

    @property
    def latest(self) -> HeadTries | None:
        """The message that was given back last: with one probe at a time it comes straight back."""
        return next(reversed(self._tries.values()), None)

    def all(self) -> tuple[HeadTries, ...]:
        return tuple(self._tries.values())

    def of(self, parcel: Parcel) -> Parcel:
        """Return the parcel as it is after the attempts that its header does not know of."""
        tries = self._tries.get(parcel.envelope.message_id)
        if tries is None:
            return parcel
        # A copy that moved to the tail knows of all of them by its header.
        attempts, answered = max(parcel.attempts, tries.attempts), max(parcel.answered, tries.answered)
        return replace(parcel, attempts=attempts, answered=answered)

    def note(self, parcel: Parcel) -> None:
        """The parcel, as it is after an attempt, is given back."""
        self.forget(parcel)
        self._tries[parcel.envelope.message_id] = HeadTries(
            message_id=parcel.envelope.message_id, attempts=parcel.attempts, answered=parcel.answered
        )
        if len(self._tries) > _MOST:
            del self._tries[next(iter(self._tries))]

    def forget(self, parcel: Parcel) -> None:
        """The parcel waits in the siding no longer, or its header knows everything."""
        self._tries.pop(parcel.envelope.message_id, None)
