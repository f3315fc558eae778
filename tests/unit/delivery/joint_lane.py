"""The fast lane of one process of the joint model: the real domain, joined the way the edges join it, step by step.

What the edges await is split: an attempt, a shunt and a turn's step are entries of lists, and the schedule says which
goes on next. A process that is killed or frozen simply takes no further step.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from joint_broker import Broker, Message, TurnConsumer, at
from siding_in_memory import SidingInMemory

from pulse_contracts.disposition import DeadLetter, ProbeFailed, Settle, Shunt
from pulse_contracts.ids import RouteId
from pulse_contracts.outcome import Delivered, Outcome
from pulse_contracts.routes import Rate, RoutePolicy
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.decide import Attempt, decide
from pulse_delivery.domain.holding import Holding, Load
from pulse_delivery.domain.lanes import Lanes, Refused, Start, Waiting
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.memory import DeliveredMemory
from pulse_delivery.domain.rates import Rates
from pulse_delivery.domain.room import SidingRoom
from pulse_delivery.domain.roster import Roster, RosterLimits
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.siding.breaker import Breaker

KIND = "webhook"
MOST_BYTES = 1_000
"""Of one message."""
POLICY = RoutePolicy(backoff_first_s=2.0, backoff_cap_s=16.0, max_attempts=8, max_age_s=200.0, in_flight=3)


@dataclass(slots=True, eq=False)
class Trying:
    """An attempt in flight, of a lane (with a ticket) or of a turn."""

    message: Message
    began: float
    ticket: int = 0
    turn: "Turn | None" = None
    sequence: int = 0


@dataclass(slots=True, eq=False)
class Shunting:
    """A message on its way to the siding; with a sequence it moves to the tail from there."""

    message: Message
    is_committed: bool = False
    turn: "Turn | None" = None
    sequence: int = 0


@dataclass(slots=True, eq=False)
class Turn:
    address: RouteAddress
    consumer: TurnConsumer
    breaker: Breaker
    quiet_until: float
    """The end of the pause that follows the last failure, which is to be kept whatever the breaker says."""
    failures: int
    """In a row, as the breaker is to know them."""
    is_probing: bool = True
    """Whether nothing has succeeded since then."""
    is_lost: bool = False
    """Whether the server refused to change its consumer."""
    is_holding: bool = False
    is_leaving: bool = False
    closes: bool = False
    taken: dict[int, Message] = field(default_factory=dict[int, Message])
    """By siding sequence: in flight, or waiting for slot and permit."""
    unbegun: dict[int, Message] = field(default_factory=dict[int, Message])
    as_head: dict[int, int] = field(default_factory=dict[int, int])


class FastLaneSteps:
    """A delivery process but for its turns."""

    def __init__(
        self,
        name: str,
        broker: Broker,
        *,
        limits: LaneLimits,
        turns: RosterLimits,
        rates: Mapping[RouteId, Rate],
        chance: random.Random,
        happened: Counter[str],
    ) -> None:
        self.name = name
        self.broker = broker
        self.limits = limits
        self.chance = chance
        self.happened = happened
        self.now = 0.0
        self.lag = 0.0
        self.is_frozen = False
        self.lanes: Lanes[Message] = Lanes(limits, Rates(rates.get, lambda: self.now))
        self.troubles = Troubles()
        self.room = SidingRoom(0.5)
        self.roster = Roster(name, turns)
        self.holding = Holding(limits, [KIND])
        self.memory = DeliveredMemory()
        self.asked = Load()
        """What the open pull request may still bring."""
        self.buffer: list[Message] = []
        self.trying: list[Trying] = []
        self.shunting: list[Shunting] = []
        self.turns: dict[RouteAddress, Turn] = {}
        self.siding = SidingInMemory(broker, name, lambda: self.now)

    # The pull loop and the fast lane.

    def ask(self) -> None:
        promised = {KIND: self.promised}
        room = self.holding.room(KIND, promised, is_down=False)
        messages = min(self.limits.prefetch, room.messages) - self.promised.messages
        size_bytes = room.size_bytes - self.promised.size_bytes
        if messages > 0 and size_bytes >= MOST_BYTES:
            self.asked += Load(messages=messages, size_bytes=size_bytes)

    @property
    def promised(self) -> Load:
        size_bytes = self.asked.size_bytes
        for message in self.buffer:
            size_bytes += message.size_bytes
        return Load(messages=self.asked.messages + len(self.buffer), size_bytes=size_bytes)

    def receive(self) -> None:
        """Let the broker answer the pull request as far as it can."""
        while self.asked.messages and (message := self.broker.deliver(self.name, self.now)):
            if message.size_bytes > self.asked.size_bytes:
                self.broker.nak(message.number, self.name)
                self.asked = Load()
                return
            self.asked -= Load(messages=1, size_bytes=message.size_bytes)
            self.buffer.append(message)
        if not self.asked.messages:
            self.asked = Load()

    def forget_pulls(self) -> None:
        """The connection was lost: nothing comes any more on what was asked for before."""
        self.asked = Load()

    def take(self, most: int) -> None:
        for message in self.buffer[:most]:
            self.holding.took(KIND, message.size_bytes)
            self._place(message)
        del self.buffer[:most]

    def tend(self) -> None:
        for _, items in self.lanes.stuck_waiting(self.net):
            self._shunt_all(items)
        excess = self.holding.excess(self.lanes.held)
        while excess > 0 and (items := self.lanes.slowest_waiting()):
            self.happened["gave way"] += 1
            self._shunt_all(items)
            excess -= len(items)
        for route in self.lanes.take_due():
            starts, refused = self.lanes.proceed(route, self.net, in_flight=POLICY.in_flight)
            self._carry_on(starts, refused)

    @property
    def net(self) -> float:
        return self.now - self.lag

    def _place(self, message: Message) -> None:
        address = message.address
        if str(message.number) in self.memory:
            self._done(message)
        elif self.troubles.is_troubled(address) and not self.lanes.is_held(address.route):
            self._shunt(message)
        else:
            match self.lanes.offer(address.route, message, self.net, tenant=address.tenant, in_flight=POLICY.in_flight):
                case Start(ticket=ticket):
                    self.trying.append(Trying(message=message, began=self.now, ticket=ticket))
                case Refused(reason=reason):
                    self.happened[reason] += 1
                    self._shunt(message)
                case Waiting():
                    pass

    def _carry_on(self, starts: list[Start[Message]], refused: list[Refused[Message]]) -> None:
        self.trying += [Trying(message=s.item, began=self.now, ticket=s.ticket) for s in starts]
        self._shunt_all([each.item for each in refused])

    def _done(self, message: Message) -> None:
        self.holding.settled(KIND, message.size_bytes)
        self.broker.ack(message.number)

    # Attempts.

    def conclude(self, trying: Trying, outcome: Outcome) -> None:
        """The attempt came to its end. The destination has it by now, if it was delivered."""
        self.trying.remove(trying)
        if isinstance(outcome, Delivered):
            self.memory.add(str(trying.message.number))
        if trying.turn:
            return
        message, address = trying.message, trying.message.address
        took_s = self.now - trying.began if isinstance(outcome, Delivered) else None
        self._carry_on(self.lanes.finish(trying.ticket, self.net, took_s=took_s, in_flight=POLICY.in_flight), [])
        match self._decide(message, outcome, is_probe=False, failures=0, as_head=0):
            case Shunt(failed=failed):
                self.troubles.shunt_begins(address)
                if failed:
                    self.troubles.note_failure(address, failed)
                self._shunt_all(self.lanes.withdraw(address.route))
                self._shunt(message)
                self.troubles.shunt_ends(address, waits=False)
            case DeadLetter(reason=reason):
                self._bury(message, reason)
            case Settle():
                self._done(message)
            case ProbeFailed():
                raise AssertionError

    def _decide(
        self, message: Message, outcome: Outcome, *, is_probe: bool, failures: int, as_head: int
    ) -> Settle | Shunt | ProbeFailed | DeadLetter:
        message.attempts += 1
        message.answered += getattr(outcome, "answered", False)
        attempt = Attempt(
            answered=message.answered,
            routed_at=at(message.routed_at),
            is_probe=is_probe,
            failures=failures,
            answered_as_head=as_head,
        )
        return decide(outcome, attempt, POLICY, at(self.now), random=self.chance.random)

    # The way into the siding.

    def _shunt_all(self, messages: list[Message]) -> None:
        for message in messages:
            self._shunt(message)

    def _shunt(self, message: Message) -> None:
        if self.room.enter(message.address, message.size_bytes):
            self._bury(message, "siding_full")
            return
        self.happened["shunted"] += 1
        self.troubles.shunt_begins(message.address)
        self.shunting.append(Shunting(message=message))

    def commit(self, shunting: Shunting) -> None:
        """The siding answers. Acknowledging is another step: a crash may come between."""
        message = shunting.message
        tail = str(message.attempts) if shunting.turn else ""
        stays = self.broker.put_aside(message, f"{message.number}:s{tail}")
        self.troubles.shunt_ends(message.address, waits=stays)
        self.room.entered(message.address, message.size_bytes, stays=stays)
        shunting.is_committed = True
        if not stays and not shunting.turn:
            self.shunting.remove(shunting)
            self._bury(message, "siding_full")

    def acknowledge(self, shunting: Shunting) -> None:
        self.shunting.remove(shunting)
        if shunting.turn:
            self.broker.settle(shunting.message.address, shunting.turn.consumer, shunting.sequence)
            shunting.turn.taken.pop(shunting.sequence, None)
        else:
            self._done(shunting.message)

    def _bury(self, message: Message, reason: str) -> None:
        self.happened[reason] += 1
        self.broker.bury(message, reason)
        self._done(message)
