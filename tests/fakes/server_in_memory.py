"""A small model of what delivery sees of the broker: one fast-lane consumer, the siding, its turns, dead letters.

It keeps the true whereabouts of every message, and delivers to whoever has a pull request open, as the server does.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final, Protocol

from pulse_bus.outgoing import Outgoing, stored_bytes
from pulse_contracts import headers
from pulse_contracts.subjects import RouteAddress, delivery, siding
from pulse_contracts.topology import ACK_WAIT_S
from pulse_contracts.turns import TurnListing, TurnState

EPOCH = datetime(2026, 1, 5, tzinfo=UTC)
MAX_ACK_PENDING = 40
_RESUME_AFTER_S: Final = 0.1


def at(now: float) -> datetime:
    """Return a moment of the model's clock."""
    return EPOCH + timedelta(seconds=now)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A message as it stands in a stream."""

    subject: str
    data: bytes
    fields: dict[str, str]
    number: int
    """Of the match, in the order in which they were routed."""
    stored_at: float

    @property
    def size_bytes(self) -> int:
        return stored_bytes(self.subject, self.fields, self.data)


class Pull(Protocol):
    """An open pull request, and the process behind it."""

    holder: str
    pulled_until: float

    def wants(self, size_bytes: int) -> bool: ...

    def arrives(self, lease: "Lease", stored: Stored, pending: int) -> None: ...


@dataclass(slots=True, eq=False)
class Lease:
    """A delivery that is not settled: to whom, and until when the server waits."""

    consumer: "Consumer"
    sequence: int
    holder: str
    until: float
    is_settled: bool = False
    """Its holder has said what becomes of it, whether or not the server still waited for that."""


@dataclass(slots=True, eq=False)
class Consumer:
    """Of the fast lane, or of a turn, whose name is never used again: what comes late reaches no successor."""

    name: str
    stream: dict[int, Stored]
    most_pending: int
    owner: str = ""
    state: TurnState | None = None
    paused_until: float = 0.0
    leases: dict[int, Lease] = field(default_factory=dict[int, Lease])
    """By sequence."""
    pulls: list[Pull] = field(default_factory=list[Pull])
    progress: tuple[int, int] = (0, 0)

    def is_pulled(self, now: float) -> bool:
        return any(pull.pulled_until > now for pull in self.pulls)


class Server:
    """The streams. A message leaves DELIVERY or the siding by an acknowledgement, or by its number."""

    def __init__(self, siding_most_bytes: int, now: Callable[[], float]) -> None:
        self._now = now
        self._context: Context = copy_context()
        """What time brings, it brings whatever process asked for it may do."""
        self.sequences = count(1)
        self.delivery: dict[int, Stored] = {}
        self.lane = Consumer("deliver-webhook", self.delivery, MAX_ACK_PENDING)
        self.siding: defaultdict[RouteAddress, dict[int, Stored]] = defaultdict(dict)
        self.siding_bytes = 0
        self.siding_most_bytes = siding_most_bytes
        self.turns: dict[RouteAddress, Consumer] = {}
        self.dead: dict[int, str] = {}
        """Reason by message."""
        self.happened: Counter[str] = Counter()
        self.violations: list[str] = []
        """What no well-behaved client does."""
        self.on_pause: Callable[[RouteAddress, float], None] = lambda _address, _until: None
        self.on_burial: Callable[[int, str], None] = lambda _number, _reason: None
        self._recent: set[str] = set()
        self._acked: list[tuple[int, Stored]] = []

    # Messages come.

    def route(self, address: RouteAddress, number: int, data: bytes, revision: int = 1) -> None:
        """Publish a match."""
        subject = delivery(address.kind, address.tenant, address.route)
        fields = {
            headers.MSG_ID: f"m-{number}:{address.route}",
            headers.ROUTED_AT: str(int(at(self._now()).timestamp() * 1000)),
            headers.ROUTE_REVISION: str(revision),
        }
        self.delivery[next(self.sequences)] = Stored(subject, data, fields, number, self._now())
        self.serve(self.lane)

    def put_aside(self, address: RouteAddress, outgoing: Outgoing) -> bool | None:
        """Publish to the siding; None if it is full, else whether it was there before."""
        if outgoing.message_id in self._recent:
            return True
        fields = {**outgoing.headers, headers.MSG_ID: outgoing.message_id}
        stored = Stored(outgoing.subject, outgoing.data, fields, number_in(outgoing.message_id), self._now())
        if self.siding_bytes + stored.size_bytes > self.siding_most_bytes:
            return None
        self._recent.add(outgoing.message_id)
        self.happened["shunted" if outgoing.message_id.endswith(":s") else "moved to the tail"] += 1
        self.happened[outgoing.headers.get(headers.CAUSE, "")] += 1
        self.siding[address][next(self.sequences)] = stored
        self.siding_bytes += stored.size_bytes
        if turn := self.turns.get(address):
            self.serve(turn)
        return False

    def bury(self, number: int, reason: str) -> None:
        self.happened[reason] += 1
        self.dead.setdefault(number, reason)
        self.on_burial(number, reason)

    # Messages go.

    def serve(self, consumer: Consumer) -> None:
        """Deliver what is wanted, as far as the consumer allows."""
        now = self._now()
        consumer.pulls[:] = [pull for pull in consumer.pulls if pull.pulled_until > now]
        while consumer.pulls and len(consumer.leases) < consumer.most_pending and consumer.paused_until <= now:
            sequence = next((sequence for sequence in consumer.stream if sequence not in consumer.leases), None)
            if sequence is None:
                return
            stored, pull = consumer.stream[sequence], consumer.pulls[0]
            if not pull.wants(len(stored.data)):
                del consumer.pulls[0]
                continue
            lease = consumer.leases[sequence] = Lease(consumer, sequence, pull.holder, now + ACK_WAIT_S)
            consumer.progress = (consumer.progress[0] + 1, consumer.progress[1])
            pull.arrives(lease, stored, len(consumer.stream) - len(consumer.leases))

    def settle(self, lease: Lease, verb: bytes) -> None:
        """Take an answer; it means nothing to a consumer that is gone, nor of a message that is another's by now."""
        if verb == b"+WPI":
            if self._is_open(lease):
                lease.until = self._now() + ACK_WAIT_S
            return
        if lease.is_settled:
            self.violations.append(f"{lease.consumer.name}: {lease.sequence} was settled twice")
        lease.is_settled = True
        if verb == b"+ACK":
            self._ack(lease)
        elif self._is_open(lease):
            del lease.consumer.leases[lease.sequence]
            self.serve(lease.consumer)

    def _ack(self, lease: Lease) -> None:
        consumer = lease.consumer
        is_there = consumer is self.lane or consumer in self.turns.values()
        if not is_there or (stored := consumer.stream.pop(lease.sequence, None)) is None:
            return
        consumer.leases.pop(lease.sequence, None)
        consumer.progress = (consumer.progress[0], consumer.progress[1] + 1)
        if consumer is self.lane:
            self._acked.append((lease.sequence, stored))
        else:
            self.siding_bytes -= stored.size_bytes
        self.serve(consumer)

    def _is_open(self, lease: Lease) -> bool:
        return lease.consumer.leases.get(lease.sequence) is lease

    def remove(self, sequence: int) -> None:
        """Take a message out of the siding by its number."""
        for address, standing in self.siding.items():
            if stored := standing.pop(sequence, None):
                self.siding_bytes -= stored.size_bytes
                if turn := self.turns.get(address):
                    turn.leases.pop(sequence, None)
                return

    # Turns.

    def open_turn(self, address: RouteAddress, owner: str, state: TurnState) -> Consumer | None:
        """Make a route's consumer; None if it has one."""
        if address in self.turns:
            return None
        self.happened["opened"] += 1
        name = f"turn-{address.tenant}-{address.route}-{next(self.sequences)}"
        made = self.turns[address] = Consumer(name, self.siding[address], state.in_flight, owner=owner, state=state)
        return made

    def find_turn(self, name: str) -> tuple[RouteAddress, Consumer] | None:
        return next((found for found in self.turns.items() if found[1].name == name), None)

    def change_turn(self, turn: Consumer, state: TurnState) -> None:
        turn.state, turn.most_pending = state, state.in_flight
        self.serve(turn)

    def pause(self, address: RouteAddress, turn: Consumer, until: float) -> None:
        self.on_pause(address, until)
        turn.paused_until = max(until, self._now() + _RESUME_AFTER_S)
        left_s = turn.paused_until - self._now()
        asyncio.get_running_loop().call_later(left_s, self.serve, turn, context=self._context)

    def close_turn(self, address: RouteAddress) -> None:
        if turn := self.turns.pop(address, None):
            turn.pulls.clear()

    def listing(self) -> dict[RouteAddress, TurnListing]:
        now = self._now()
        return {address: _listed(address, turn, now) for address, turn in self.turns.items()}

    def waiting(self) -> dict[RouteAddress, int]:
        return {address: len(standing) for address, standing in self.siding.items() if standing}

    # Faults.

    def expire(self) -> None:
        """Take back what was delivered too long ago to somebody who gives no sign of life."""
        now = self._now()
        for consumer in (self.lane, *self.turns.values()):
            late = [sequence for sequence, lease in consumer.leases.items() if lease.until <= now]
            for sequence in late:
                del consumer.leases[sequence]
            if late:
                self.serve(consumer)

    def disconnect(self, holder: str) -> None:
        """A process is gone: nobody answers its pull requests."""
        for consumer in (self.lane, *self.turns.values()):
            consumer.pulls[:] = [pull for pull in consumer.pulls if pull.holder != holder]

    def restart(self, forgotten: int) -> None:
        """The server comes back: consumers in memory are gone, and the latest acknowledgements were not durable."""
        for address in list(self.turns):
            self.close_turn(address)
        self.lane.leases.clear()
        self.lane.pulls.clear()
        kept = len(self._acked) - forgotten
        self.delivery.update(self._acked[kept:])
        del self._acked[kept:]
        in_order = sorted(self.delivery.items())
        self.delivery.clear()
        self.delivery.update(in_order)

    # What is known of all.

    def held_by(self, holder: str) -> int:
        """Unacknowledged messages of the fast lane's consumer that a process has."""
        return sum([lease.holder == holder for lease in self.lane.leases.values()])

    def places(self) -> set[int]:
        """Messages that stand in a stream."""
        standing: list[Mapping[int, Stored]] = [self.delivery, *self.siding.values()]
        return {*self.dead, *(stored.number for stream in standing for stored in stream.values())}


def number_in(message_id: str) -> int:
    """Return which match an id of ours names: ``m-{number}:{route}…``."""
    return int(message_id.split(":", 1)[0].removeprefix("m-"))


def subject_of(address: RouteAddress) -> str:
    return siding(address.kind, address.tenant, address.route)


def _listed(address: RouteAddress, turn: Consumer, now: float) -> TurnListing:
    state = turn.state or TurnState(phase="probing", in_flight=1)
    return TurnListing(
        address=address,
        name=turn.name,
        owner=turn.owner,
        is_pulled=turn.is_pulled(now),
        progress=turn.progress,
        failures=state.failures,
        paused_until=at(turn.paused_until) if turn.paused_until > now else None,
        since=datetime.fromisoformat(state.since) if state.since else None,
        error=state.error,
        head=state.head,
    )
