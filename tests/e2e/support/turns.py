"""The turns of the delivery processes, as the server lists them."""

from collections.abc import Mapping

from support.pulse import Pulse

from pulse_bus.siding import Siding
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import TurnListing


async def turns(pulse: Pulse) -> Mapping[RouteAddress, TurnListing]:
    """Return every turn of every process."""
    async with pulse.bus() as bus:
        return await Siding(bus).turns()


async def turns_of(pulse: Pulse, owner: str) -> dict[RouteAddress, TurnListing]:
    """Return the turns of one process."""
    return {address: turn for address, turn in (await turns(pulse)).items() if turn.owner == owner}
