"""The siding as a breaker sees it, on the model's broker; it passes the same tests as the server's."""

from collections.abc import Callable
from datetime import datetime

from joint_broker import EPOCH, Broker, TurnConsumer

from pulse_bus.api import CONSUMER_NOT_FOUND
from pulse_bus.errors import ApiError
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import TurnListing, TurnState


class SidingInMemory:
    """The consumers of turns, as one process manages them; nothing here ever waits."""

    def __init__(self, broker: Broker, owner: str, now: Callable[[], float]) -> None:
        """*now* is in seconds since the model's epoch."""
        self._broker = broker
        self._owner = owner
        self._now = now

    async def turns(self) -> dict[RouteAddress, TurnListing]:
        return self._broker.listing(self._now())

    async def open_turn(
        self, address: RouteAddress, state: TurnState, paused_until: datetime | None = None
    ) -> str | None:
        turn = self._broker.open_turn(address, self._owner, self._now())
        if turn is None:
            return None
        turn.state = state
        if paused_until:
            turn.paused_until = (paused_until - EPOCH).total_seconds()
        return turn.name

    async def change_turn(self, address: RouteAddress, name: str, state: TurnState) -> None:
        turn = self._broker.turns.get(address)
        if turn is None or turn.name != name:
            raise _gone(name)
        turn.state = state

    async def pause(self, name: str, until: datetime) -> None:
        if (found := self._find(name)) is None:
            raise _gone(name)
        found[1].paused_until = (until - EPOCH).total_seconds()

    async def close_turn(self, name: str) -> None:
        if found := self._find(name):
            self._broker.close_turn(found[0])

    def _find(self, name: str) -> tuple[RouteAddress, TurnConsumer] | None:
        return next((found for found in self._broker.turns.items() if found[1].name == name), None)


def _gone(name: str) -> ApiError:
    return ApiError(f"CONSUMER.{name}", 404, CONSUMER_NOT_FOUND, "consumer not found")
