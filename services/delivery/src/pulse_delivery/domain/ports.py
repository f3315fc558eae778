"""What delivery needs from a kind of destination."""

from collections.abc import Mapping
from typing import Protocol

from pulse_contracts.outcome import Outcome
from pulse_contracts.routes import Route
from pulse_delivery.domain.parcel import Parcel


class Sender(Protocol):
    """Brings parcels to destinations of one kind."""

    async def attempt(self, parcel: Parcel, route: Route, secrets: Mapping[str, object]) -> Outcome:
        """Try once, within the route's deadline, and say what it came to.

        Never raises for anything that a destination or its configuration can do. May block as long as the deadline;
        must not block the event loop. `Delivered` means that the destination confirmed it.
        """
        ...
