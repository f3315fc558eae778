"""A small model of what delivery sees of the broker: one fast-lane consumer, the siding, its turns, dead letters.

It keeps the true whereabouts of every message. Time is the world's; nothing happens by itself but what time brings.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from pulse_contracts.subjects import RouteAddress
from pulse_contracts.topology import ACK_WAIT_S
from pulse_contracts.turns import TurnListing, TurnState

EPOCH = datetime(2026, 1, 5, tzinfo=UTC)
PULL_EXPIRES_S = 2.0
MAX_ACK_PENDING = 40


def at(now: float) -> datetime:
    """Return a moment of the virtual clock."""
    return EPOCH + timedelta(seconds=now)


@dataclass(slots=True, eq=False)
class Message:
    """One match on its way."""

    number: int
    address: RouteAddress
    size_bytes: int
    routed_at: float
    attempts: int = 0
    answered: int = 0


@dataclass(slots=True)
class Lease:
    """A delivery that is not settled: to whom, and until when the server waits."""

    holder: str
    until: float


@dataclass(slots=True)
class TurnConsumer:
    """Its name is never used again: what a process does late reaches nothing of its successor."""

    name: str
    owner: str
    pulled_at: float
    state: TurnState = field(default_factory=lambda: TurnState(phase="probing", in_flight=1))
    """How many messages are delivered at once, and what its owner shows."""
    paused_until: float = 0.0
    leases: dict[int, Lease] = field(default_factory=dict[int, Lease])
    """By siding sequence."""
    progress: tuple[int, int] = (0, 0)


class Broker:
    """The streams. A message leaves DELIVERY or the siding by an acknowledgement only."""

    def __init__(self, siding_most_bytes: int) -> None:
        self.delivery: dict[int, Message] = {}
        self.pending: list[int] = []
        self.leases: dict[int, Lease] = {}
        self.siding: dict[RouteAddress, dict[int, Message]] = {}
        self.siding_bytes = 0
        self.siding_most_bytes = siding_most_bytes
        self.turns: dict[RouteAddress, TurnConsumer] = {}
        self.dead: dict[int, str] = {}
        """Reason by message."""
        self._sequence = 0
        self._recent: set[str] = set()
        self._acked: list[Message] = []

    def route(self, message: Message) -> None:
        self.delivery[message.number] = message
        self.pending.append(message.number)

    def deliver(self, holder: str, now: float) -> Message | None:
        """Deliver the next message to a pull request."""
        if not self.pending or len(self.leases) >= MAX_ACK_PENDING:
            return None
        number = self.pending.pop(0)
        self.leases[number] = Lease(holder=holder, until=now + ACK_WAIT_S)
        return replace(self.delivery[number])

    def ack(self, number: int) -> None:
        """Whoever acknowledges: it is done with."""
        self.leases.pop(number, None)
        if message := self.delivery.pop(number, None):
            self._acked.append(message)
            if number in self.pending:
                self.pending.remove(number)

    def nak(self, number: int, holder: str) -> None:
        lease = self.leases.get(number)
        if lease and lease.holder == holder:
            self._give_back(number)

    def put_aside(self, message: Message, message_id: str) -> bool:
        """Publish to the siding; False if it is full. An id seen before is stored once."""
        if message_id in self._recent:
            return True
        if self.siding_bytes + message.size_bytes > self.siding_most_bytes:
            return False
        self._recent.add(message_id)
        self._sequence += 1
        self.siding.setdefault(message.address, {})[self._sequence] = replace(message)
        self.siding_bytes += message.size_bytes
        return True

    def remove(self, address: RouteAddress, sequence: int) -> None:
        """Take a message out of the siding."""
        standing = self.siding.get(address, {})
        if message := standing.pop(sequence, None):
            self.siding_bytes -= message.size_bytes
            if not standing:
                del self.siding[address]
        if turn := self.turns.get(address):
            turn.leases.pop(sequence, None)

    def bury(self, message: Message, reason: str) -> None:
        self.dead.setdefault(message.number, reason)

    def open_turn(self, address: RouteAddress, owner: str, now: float) -> TurnConsumer | None:
        """Make a route's consumer; None if it has one."""
        if address in self.turns:
            return None
        self._sequence += 1
        made = self.turns[address] = TurnConsumer(name=f"turn-{self._sequence}", owner=owner, pulled_at=now)
        return made

    def close_turn(self, address: RouteAddress) -> None:
        self.turns.pop(address, None)

    def has(self, address: RouteAddress, turn: TurnConsumer) -> bool:
        """Whether the route's consumer is still this one."""
        return self.turns.get(address) is turn

    def head(self, address: RouteAddress, turn: TurnConsumer, holder: str, now: float) -> tuple[int, Message] | None:
        """Deliver the first message of a route that nobody has, as far as its turn allows."""
        if not self.has(address, turn) or turn.paused_until > now or len(turn.leases) >= turn.state.in_flight:
            return None
        for sequence, message in self.siding.get(address, {}).items():
            if sequence not in turn.leases:
                turn.leases[sequence] = Lease(holder=holder, until=now + ACK_WAIT_S)
                turn.progress = (turn.progress[0] + 1, turn.progress[1])
                return sequence, replace(message)
        return None

    def settle(self, address: RouteAddress, turn: TurnConsumer, sequence: int) -> None:
        """Acknowledge; it means nothing to a consumer that is gone, and the message comes again."""
        if self.has(address, turn):
            turn.progress = (turn.progress[0], turn.progress[1] + 1)
            self.remove(address, sequence)

    def give_back(self, address: RouteAddress, turn: TurnConsumer, sequence: int) -> None:
        if self.has(address, turn):
            turn.leases.pop(sequence, None)

    def listing(self, now: float) -> dict[RouteAddress, TurnListing]:
        return {
            address: TurnListing(
                address=address,
                name=turn.name,
                owner=turn.owner,
                is_pulled=now - turn.pulled_at < PULL_EXPIRES_S,
                progress=turn.progress,
                failures=turn.state.failures,
                paused_until=at(turn.paused_until) if turn.paused_until > now else None,
                since=datetime.fromisoformat(turn.state.since) if turn.state.since else None,
                error=turn.state.error,
            )
            for address, turn in self.turns.items()
        }

    def waiting(self) -> dict[RouteAddress, int]:
        return {address: len(standing) for address, standing in self.siding.items()}

    def signal(self, holder: str, until: float) -> None:
        """In-progress signals of a living process."""
        for lease in self._leases():
            if lease.holder == holder:
                lease.until = until

    def expire(self, now: float) -> None:
        """Take back what was delivered too long ago to somebody who gives no sign of life."""
        for number in [number for number, lease in self.leases.items() if lease.until <= now]:
            self._give_back(number)
        for turn in self.turns.values():
            for sequence in [sequence for sequence, lease in turn.leases.items() if lease.until <= now]:
                del turn.leases[sequence]

    def restart(self, forgotten: int) -> None:
        """The server comes back: consumers in memory are gone, and the latest acknowledgements were not durable."""
        self.turns.clear()
        for number in list(self.leases):
            self._give_back(number)
        for message in self._acked[len(self._acked) - forgotten :]:
            self.delivery[message.number] = message
            self.pending.insert(0, message.number)
        del self._acked[len(self._acked) - forgotten :]

    def held_by(self, holder: str) -> int:
        """Unacknowledged messages of the fast lane's consumer that a process has."""
        return sum([lease.holder == holder for lease in self.leases.values()])

    def places(self) -> set[int]:
        """Messages that stand in a stream."""
        return {*self.delivery, *self.dead, *(m.number for standing in self.siding.values() for m in standing.values())}

    def _give_back(self, number: int) -> None:
        del self.leases[number]
        self.pending.insert(0, number)

    def _leases(self) -> Iterator[Lease]:
        yield from self.leases.values()
        for turn in self.turns.values():
            yield from turn.leases.values()
