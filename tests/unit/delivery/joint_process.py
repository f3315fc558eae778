"""One delivery process of the joint model, with the turns that it has."""

from collections.abc import Coroutine
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from joint_broker import EPOCH, Message, at
from joint_lane import POLICY, FastLaneSteps, Shunting, Trying, Turn

from pulse_bus.errors import ApiError
from pulse_contracts.disposition import DeadLetter, ProbeFailed, Settle, Shunt
from pulse_contracts.outcome import Outcome
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.decide import is_expired
from pulse_delivery.domain.room import Claim, Extent
from pulse_delivery.domain.roster import Rest, Serving, after_failure
from pulse_delivery.siding.breaker import Breaker

T = TypeVar("T")
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
        mine = {address: Serving(paused_until=turn.breaker.pause_until) for address, turn in self.turns.items()}
        plan = self.roster.plan(self.troubles.all(), self.broker.listing(self.now), mine, at(self.now))
        for address in plan.leave:
            self.roster.remember(address, self._rest(self.turns[address].breaker))
            self.turns[address].is_leaving = True
        for address in plan.retire:
            turn = self.turns[address]
            self.happened["retired"] += 1
            rest = self._rest(turn.breaker)
            self.roster.remember(address, replace(rest, not_before=rest.paused_until or rest.not_before))
            turn.is_leaving = turn.closes = True
        for address in plan.clear:
            self.broker.close_turn(address)
        for address in (*plan.open, *plan.adopt):
            self._open(address, adopt=address in plan.adopt)

    def _open(self, address: RouteAddress, *, adopt: bool) -> None:
        failed, rest = self.troubles.take_failure(address), self.roster.recall(address)
        if failed and not rest:
            rest = after_failure(failed, at(self.now))
        breaker = Breaker(address, self.siding, rest=rest, now=at(self.now))
        if not done(breaker.open(self.broker.turns[address].name if adopt else None)):
            self.roster.remember(address, self._rest(breaker))
            return
        self.happened["adopted" if adopt else "opened"] += 1
        self.turns[address] = Turn(
            address=address,
            consumer=self.broker.turns[address],
            breaker=breaker,
            failures=rest.failures if rest else 0,
            quiet_until=(rest.paused_until - EPOCH).total_seconds() if rest and rest.paused_until else 0.0,
        )

    def _rest(self, breaker: Breaker) -> Rest:
        return breaker.remembered(at(self.now + self.chance.random()))

    def step(self, turn: Turn) -> None:
        """Let a turn do the next thing it can. That its consumer is gone it learns from looks and from refusals."""
        address, breaker = turn.address, turn.breaker
        if turn.is_lost and not turn.is_leaving:
            self.roster.remember(address, self._rest(breaker))
            turn.is_leaving = True
        if turn.is_leaving or breaker.pause_until:
            self._give_back_unbegun(turn)
            if not turn.taken:
                self._end_or_probe(turn)
            return
        has_room = len(turn.taken) < breaker.most_in_flight
        if has_room and (found := self.broker.head(address, turn.consumer, self.name, self.now)):
            self._receive_head(turn, *found)
        self._begin_what_may(turn)
        if not turn.taken:
            self._close_if_done(turn)

    def _end_or_probe(self, turn: Turn) -> None:
        """Nothing is in flight: end a turn that is to end, and a pause that has run out."""
        if turn.is_leaving:
            self._end(turn, recovered=False)
        elif turn.breaker.pause_until and turn.breaker.pause_until <= at(self.now):
            self._change(turn, turn.breaker.half_open(at(self.now)))

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
            if self.lanes.borrow_slot(turn.address.route, turn.address.tenant):
                in_flight = sum([each.turn is turn for each in self.trying])
                assert self.now >= turn.quiet_until, "tried while it should pause"
                assert not (turn.is_probing and in_flight), "more than one probe"
                assert in_flight < POLICY.in_flight, "more at once than the route allows"
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
            if waiting <= NEARLY_EMPTY and not turn.breaker.failures:
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
        done(turn.breaker.close())

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
        self.lanes.return_slot(turn.address.tenant)
        if getattr(outcome, "answered", False):
            turn.as_head[message.number] = turn.as_head.get(message.number, 0) + 1
        as_head = turn.as_head.get(message.number, 0)
        match self._decide(message, outcome, is_probe=True, failures=turn.breaker.failures, as_head=as_head):
            case Settle():
                turn.taken.pop(sequence, None)
                self._note_success(turn, trying.began)
                self.broker.settle(turn.address, turn.consumer, sequence)
                self._grow(turn)
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
                self._pause(turn, trying.began, until)
                self.broker.give_back(turn.address, turn.consumer, sequence)

    def _note_success(self, turn: Turn, began: float) -> None:
        turn.failures = 0
        if began >= turn.quiet_until:
            turn.is_probing = False
        turn.breaker.note_success()
        if len(self.broker.siding.get(turn.address, {})) <= NEARLY_EMPTY:
            self._hold(turn)

    def _grow(self, turn: Turn) -> None:
        before = turn.breaker.most_in_flight
        self._change(turn, turn.breaker.grow(POLICY.in_flight))
        self.happened["grew"] += turn.breaker.most_in_flight > before

    def _pause(self, turn: Turn, began: float, until: datetime) -> None:
        self._stop_holding(turn)
        # Several failures at once are one.
        if began >= turn.quiet_until:
            self.happened["paused"] += 1
            turn.failures += 1
            turn.quiet_until, turn.is_probing = (until - EPOCH).total_seconds(), True
        self._change(turn, turn.breaker.trip(until, "failed"))

    @staticmethod
    def _change(turn: Turn, change: Coroutine[None, None, object]) -> None:
        try:
            done(change)
        except ApiError:
            turn.is_lost = True


def done(coroutine: Coroutine[None, None, T]) -> T:
    """Run to its end what waits for nothing in the model."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("it waits")
