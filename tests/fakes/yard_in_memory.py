"""The siding as one process sees it, on the model's broker; it passes the same tests as the server's."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from server_in_memory import EPOCH, Consumer, Server, Stored, subject_of

from pulse_bus.api import CONSUMER_NOT_FOUND
from pulse_bus.errors import ApiError
from pulse_bus.inspection import Standing
from pulse_bus.siding import Survey
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import TurnListing, TurnState


async def at_once() -> None:
    """Answer without waiting."""


class YardInMemory:
    """What `pulse_bus.siding.Siding` does."""

    def __init__(self, server: Server, owner: str, answer: Callable[[], Awaitable[None]] = at_once) -> None:
        """*answer* is waited for before each request reaches the server, and before its answer is here."""
        self._server = server
        self.owner = owner
        self._answer = answer

    async def survey(self) -> Survey:
        await self._answer()
        server = self._server
        found = Survey(
            waiting={subject_of(address): count for address, count in server.waiting().items()},
            used_bytes=server.siding_bytes,
            most_bytes=server.siding_most_bytes,
            most_per_route=-1,
            first_seq=min([next(iter(standing)) for standing in server.siding.values() if standing], default=1),
            last_seq=max([next(reversed(standing)) for standing in server.siding.values() if standing], default=0),
        )
        await self._answer()
        return found

    async def waiting_of(self, address: RouteAddress) -> int:
        await self._answer()
        return len(self._server.siding[address])

    async def turns(self) -> dict[RouteAddress, TurnListing]:
        await self._answer()
        listed = self._server.listing()
        await self._answer()
        return listed

    async def turn_names(self) -> set[str]:
        await self._answer()
        names = {listing.name for listing in self._server.listing().values()}
        await self._answer()
        return names

    async def open_turn(
        self, address: RouteAddress, state: TurnState, paused_until: datetime | None = None
    ) -> str | None:
        await self._answer()
        turn = self._server.open_turn(address, self.owner, state)
        if turn and paused_until:
            self._server.pause(address, turn, (paused_until - EPOCH).total_seconds())
        await self._answer()
        return turn.name if turn else None

    async def change_turn(self, address: RouteAddress, name: str, state: TurnState) -> None:  # noqa: ARG002 - a port
        await self._answer()
        self._server.change_turn(self._find(name)[1], state)

    async def pause(self, name: str, until: datetime) -> None:
        await self._answer()
        self._server.pause(*self._find(name), (until - EPOCH).total_seconds())

    async def close_turn(self, name: str) -> None:
        await self._answer()
        if found := self._server.find_turn(name):
            self._server.happened["recovered" if found[1].owner == self.owner else "adopted"] += 1
            self._server.close_turn(found[0])
        await self._answer()

    async def peek(self, address: RouteAddress, from_seq: int = 1) -> Standing | None:
        standing = self._server.siding[address]
        return next((_standing(seq, stored) for seq, stored in standing.items() if seq >= from_seq), None)

    async def first(self) -> Standing | None:
        heads = [next(iter(standing.items())) for standing in self._server.siding.values() if standing]
        return _standing(*min(heads, key=lambda head: head[0])) if heads else None

    async def remove(self, stream_seq: int) -> None:
        self._server.remove(stream_seq)

    async def remove_through(self, address: RouteAddress, stream_seq: int) -> None:
        for standing in [number for number in self._server.siding[address] if number <= stream_seq]:
            self._server.remove(standing)

    def _find(self, name: str) -> tuple[RouteAddress, Consumer]:
        if (found := self._server.find_turn(name)) is None:
            raise ApiError(f"CONSUMER.{name}", 404, CONSUMER_NOT_FOUND, "consumer not found")
        return found


def _standing(sequence: int, stored: Stored) -> Standing:
    return Standing(subject=stored.subject, stream_seq=sequence, data=stored.data, headers=stored.fields)
