"""The roll call: every turn of every process, asking the server for no more than this process does not know."""

from collections.abc import Callable, Mapping

from pulse_bus.siding import Siding
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import TurnListing


class RollCall:
    """Asks for the names of the turns' consumers, and for all that the server knows if one of them is not ours.

    Nobody else changes our turns, and no name is ever used again. What others' turns show must be fresh: whoever takes
    one over, or opens it after its consumer was lost, keeps to the pause that it shows.
    """

    def __init__(self, siding: Siding) -> None:
        self._siding = siding
        self._known: Mapping[str, TurnListing] = {}

    async def turns(self, ours: Callable[[], Mapping[str, RouteAddress]]) -> dict[RouteAddress, TurnListing]:
        """Return every turn; *ours* are the consumers of this process. May raise `ApiError` or `BusUnavailable`."""
        names = await self._siding.turn_names()
        mine = ours()
        known = [listing for name in names if (listing := self._known.get(name) or self._of_ours(name, mine))]
        if len(known) < len(names) or any(listing.owner != self._siding.owner for listing in known):
            known = list((await self._siding.turns()).values())
        self._known = {listing.name: listing for listing in known}
        return {listing.address: listing for listing in known}

    def _of_ours(self, name: str, mine: Mapping[str, RouteAddress]) -> TurnListing | None:
        address = mine.get(name)
        return TurnListing(address=address, name=name, owner=self._siding.owner, is_pulled=True) if address else None
