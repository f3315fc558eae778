"""One delivery process of the joint model, with the turns that it has."""

from dataclasses import replace

from joint_broker import EPOCH, Message, at
from joint_lane import POLICY, FastLaneSteps, Shunting, Trying, Turn

from pulse_contracts.disposition import DeadLetter, ProbeFailed, Settle, Shunt
from pulse_contracts.outcome import Outcome
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.decide import is_expired
from pulse_delivery.domain.room import Claim, Extent
from pulse_delivery.domain.roster import Rest, Serving

GROWTH = (1, 4, 16)
NEARLY_EMPTY = 3


class Process(FastLaneSteps):
    """A delivery process. One that is killed or frozen simply takes no further step."""

    def keep_pulling(self) -> None:
        """Pull requests stay open as long as the process runs, whatever it waits for, until the turn is to end."""
        for address, turn in self.turns.items():
            if not turn.is_leaving and self.broker.has(address, turn.consumer):
                turn.consumer.pulled_at = self.now

    def serves(self, address: RouteAddress) -> bool:
        """Whether this process tries the route now, or is the one who will."""
        turn = self.turns.get(address)
        if turn is None:
            return False
        # One that has lost its consumer lets its attempts come to their end first, at most their deadline.
        return bool(turn.taken) or self.broker.has(address, turn.consumer)

    def look(self) -> None:
        """Read the siding and everybody's turns, then do what the roster says."""
        self.room.count_begins()
        self.troubles.count_begins()
        waiting = self.broker.waiting()
        self.troubles.replace(waiting)
        extent = Extent(
            used_bytes=self.broker.siding_bytes, most_bytes=self.broker.siding_most_bytes, most_per_route=None
        )
        self.room.counted(waiting, extent)
        mine = {
            address: Serving(paused_until=at(turn.paused_until) if turn.paused_until else None)
            for address, turn in self.turns.items()
        }
        plan = self.roster.plan(self.troubles.all(), self.broker.listing(self.now), mine, at(self.now))
        for address in plan.leave:
            self.roster.remember(address, self._rest(self.turns[address]))
            self.turns[address].is_leaving = True
        for address in plan.retire:
            turn = self.turns[address]
            self.happened["retired"] += 1
            rest = self._rest(turn)
            self.roster.remember(address, replace(rest, not_before=rest.paused_until or rest.not_before))
            turn.is_leaving = turn.closes = True
        for address in plan.clear:
            self.broker.close_turn(address)
        for address in (*plan.open, *plan.adopt):
            self._open(address, adopt=address in plan.adopt)

    def _open(self, address: RouteAddress, *, adopt: bool) -> None:
        rest = self.roster.recall(address)
        if adopt:
            self.broker.close_turn(address)
        consumer = self.broker.open_turn(address, self.name, self.now)
        if consumer is None:
            return
        self.happened["adopted" if adopt else "opened"] += 1
        paused_until = (rest.paused_until - EPOCH).total_seconds() if rest and rest.paused_until else 0.0
        self.turns[address] = Turn(
            address=address, consumer=consumer, failures=rest.failures if rest else 0, paused_until=paused_until
        )
        consumer.paused_until = paused_until

    def _rest(self, turn: Turn) -> Rest:
        return Rest(
            failures=turn.failures,
            not_before=at(self.now + self.chance.random()),
            paused_until=at(turn.paused_until) if turn.paused_until else None,
        )

    def step(self, turn: Turn) -> None:
        """Let a turn do the next thing it can."""
        address = turn.address
        if not self.broker.has(address, turn.consumer) and not turn.is_leaving:
            self.roster.remember(address, self._rest(turn))
            turn.is_leaving = True
        if turn.is_leaving or turn.paused_until > self.now:
            self._give_back_unbegun(turn)
            if turn.is_leaving and not turn.taken:
                self._end(turn, recovered=False)
            return
        turn.paused_until = 0.0
        if found := self.broker.head(address, turn.consumer, self.name, self.now):
            self._receive_head(turn, *found)
        self._begin_what_may(turn)
        if not turn.taken:
            self._close_if_done(turn)

    def _receive_head(self, turn: Turn, sequence: int, message: Message) -> None:
        if str(message.number) in self.memory:
            self.broker.settle(turn.address, turn.consumer, sequence)
        elif is_expired(at(message.routed_at), POLICY, at(self.now)):
            self.broker.bury(message, "max_age")
            self.broker.settle(turn.address, turn.consumer, sequence)
        else:
            turn.taken[sequence] = turn.unbegun[sequence] = message

    def _begin_what_may(self, turn: Turn) -> None:
        for sequence, message in list(turn.unbegun.items()):
            if self.lanes.borrow_slot(turn.address.route):
                del turn.unbegun[sequence]
                self.trying.append(Trying(message=message, began=self.now, turn=turn, sequence=sequence))

    def _give_back_unbegun(self, turn: Turn) -> None:
        for sequence in turn.unbegun:
            turn.taken.pop(sequence, None)
            self.broker.give_back(turn.address, turn.consumer, sequence)
        turn.unbegun.clear()

    def _close_if_done(self, turn: Turn) -> None:
        waiting = len(self.broker.siding.get(turn.address, {}))
        if waiting or self.troubles.is_shunting(turn.address):
            if waiting <= NEARLY_EMPTY and not turn.failures:
                self._hold(turn)
            return
        self._close(turn)
        self._end(turn, recovered=True)

    def _end(self, turn: Turn, *, recovered: bool) -> None:
        del self.turns[turn.address]
        if turn.closes:
            self._close(turn)
        if recovered:
            self.happened["recovered"] += 1
            self.troubles.recovered(turn.address)
            route = turn.address.route
            self._carry_on(*self.lanes.release(route, self.net, in_flight=POLICY.in_flight))
        else:
            self._stop_holding(turn)

    def _close(self, turn: Turn) -> None:
        if self.broker.has(turn.address, turn.consumer):
            self.broker.close_turn(turn.address)

    def _hold(self, turn: Turn) -> None:
        self.happened["held"] += 1
        turn.is_holding = True
        self.lanes.hold(turn.address.route)

    def _stop_holding(self, turn: Turn) -> None:
        if turn.is_holding:
            self._shunt_all(self.lanes.withdraw(turn.address.route))
        turn.is_holding = False

    def conclude(self, trying: Trying, outcome: Outcome) -> None:
        """The attempt came to its end, of a lane or of a turn."""
        super().conclude(trying, outcome)
        if trying.turn:
            self._conclude_of_turn(trying, trying.turn, outcome)

    def _conclude_of_turn(self, trying: Trying, turn: Turn, outcome: Outcome) -> None:
        message, sequence = trying.message, trying.sequence
        self.lanes.return_slot()
        if getattr(outcome, "answered", False):
            turn.as_head[message.number] = turn.as_head.get(message.number, 0) + 1
        as_head = turn.as_head.get(message.number, 0)
        match self._decide(message, outcome, is_probe=True, failures=turn.failures, as_head=as_head):
            case Settle():
                turn.taken.pop(sequence, None)
                self._note_success(turn)
                self.broker.settle(turn.address, turn.consumer, sequence)
            case DeadLetter(reason=reason):
                turn.taken.pop(sequence, None)
                self.broker.bury(message, reason)
                self.broker.settle(turn.address, turn.consumer, sequence)
            case Shunt():
                self.happened["moved to the tail"] += 1
                turn.as_head.pop(message.number, None)
                self.room.enter(turn.address, message.size_bytes, Claim.MOVE)
                self.troubles.shunt_begins(turn.address)
                self.shunting.append(Shunting(message=message, turn=turn, sequence=sequence))
            case ProbeFailed(pause_until=until):
                turn.taken.pop(sequence, None)
                self._pause(turn, (until - EPOCH).total_seconds())
                self.broker.give_back(turn.address, turn.consumer, sequence)

    def _note_success(self, turn: Turn) -> None:
        turn.failures = 0
        turn.successes += 1
        if len(self.broker.siding.get(turn.address, {})) <= NEARLY_EMPTY:
            self._hold(turn)
        if turn.step < len(GROWTH) - 1 and turn.successes >= GROWTH[turn.step]:
            self.happened["grew"] += 1
            turn.step, turn.successes = turn.step + 1, 0
            self._allow(turn, GROWTH[turn.step])

    def _pause(self, turn: Turn, until: float) -> None:
        self._stop_holding(turn)
        if turn.paused_until <= self.now:
            self.happened["paused"] += 1
            turn.failures += 1
            turn.paused_until, turn.step, turn.successes = until, 0, 0
            self._allow(turn, 1)
            turn.consumer.paused_until = until

    def _allow(self, turn: Turn, in_flight: int) -> None:
        turn.consumer.max_ack_pending = min(in_flight, POLICY.in_flight) if in_flight > 1 else 1
