"""What must hold in every schedule of the whole model, and what has to be seen to know whether it does.

It looks from outside: at the server, at what reaches the destinations, and at what each process says it holds.
"""
# Of turns, places and what is held it sees what nobody else has to see.
# pyright: reportPrivateUsage=false

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from server_in_memory import MAX_ACK_PENDING, Consumer, at

from pulse_contracts.outcome import Delivered, Failed, Outcome
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.topology import ACK_WAIT_S
from pulse_delivery.domain.decide import HEAD_TRIES

if TYPE_CHECKING:
    from whole_process import Process
    from whole_world import World

ADOPTED_WITHIN_S: Final = 5.0
"""Since whoever served it died or froze, as the issue demands."""
DEAD_FOR: Final = {"siding_full", "status_410", "max_attempts", "max_age", "route_deleted"}
_KNOWN_TO_ALL_S: Final = 2.0
"""So old a pause was listed by every process: whoever serves the route next keeps it."""


_TOLD_WITHIN_S: Final = 1.5
"""At most a step, at whose end it began, and the answer's time."""
_HEARD_WITHIN_S: Final = 1.5
"""At most a look of the turn, and the answer's time."""
_RECORDED_WITHIN_S: Final = 0.3
"""So soon an attempt is on record, and what follows from it begins."""
_FOLLOWED_S: Final = 5.5
"""At most so long a lane is held for a process that says nothing more, looks included."""
_MANY: Final = 1_000
_ROUNDING_S: Final = 0.001


@dataclass(slots=True, eq=False)
class Trying:
    """An attempt in flight."""

    process: str
    address: RouteAddress
    number: int
    began: float
    turn: Consumer | None = None
    """Of which it is, None for one of the fast lane."""
    is_turns: bool = False


@dataclass(slots=True)
class Pause:
    began: float
    until: float


class Witness:
    """Sees one schedule."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._loop = world.loop
        self._server = world.server
        self.routes = tuple(world.mood)
        self.received: Counter[int] = Counter()
        """What the destinations took, by message."""
        self.answered: Counter[int] = Counter()
        """What they answered with failure."""
        self.happened = world.server.happened
        self.trying: list[Trying] = []
        self._pauses: dict[RouteAddress, Pause] = {}
        self._successes: dict[str, int] = {}
        """Of each turn, by its consumer, since its last failure."""
        self._killed_at: list[float] = []
        self._woke_at = float("-inf")
        """When a process last began to look."""
        self._counts_lost = 0
        """So many attempts more a message may see, for crashes that lost what was known of it."""
        self._lasting: dict[str, float] = {}
        """For how long a route has been served by nobody, or by two, since the last fault."""
        self._delivered: set[tuple[str, int]] = set()
        """By which process, and which message."""
        self._failed: dict[RouteAddress, tuple[float, int]] = {}
        """When an attempt on the fast lane failed last, and of which message."""
        self._asked_until: dict[RouteAddress, tuple[float, float]] = {}
        """Since when, and until when, a destination asks not to be tried."""
        self._unheard: set[tuple[str, RouteAddress]] = set()
        """Which process may not know how the turn went for which it holds a lane."""
        self.violations = self._server.violations

    def _must(self, holds: object, what: str) -> None:
        """Note what is violated: an exception here would be taken for a destination's."""
        if not holds:
            self.violations.append(what)

    # Attempts.

    def begins(self, trying: Trying) -> None:
        task = asyncio.current_task()
        trying.is_turns = task is not None and task.get_name().startswith("delivery.turn[")
        process = self._world.named(trying.process)
        self.trying.append(trying)
        is_here = process.has_in_hand(trying.number, of_turn=trying.is_turns)
        self._must(is_here, "tried though it is another's by now")
        self._check_asked(trying)
        self._world.operator.begins(trying, process)
        if trying.is_turns:
            self._begins_of_turn(trying, process)
        else:
            self._check_behind(trying.address)
            lane = [each for each in self.trying if not each.is_turns and _is_beside(each, trying)]
            most = min(process.bounds.lanes.lane_in_flight, self._world.policy.in_flight)
            self._must(len(lane) <= most, "a lane's share of the slots")

    def _check_asked(self, trying: Trying) -> None:
        if not trying.is_turns and not self._server.siding[trying.address]:
            return  # The message that was told so is dead; with none that waits for it, nobody remembers a rest.
        since, until = self._asked_until.get(trying.address, (0.0, 0.0))
        is_known = self._world.replicas == 1 and self._loop.time() > since
        is_known &= not self._is_edited_since(trying.address, since - _HEARD_WITHIN_S)
        self._must(not is_known or self._loop.time() >= until - _ROUNDING_S, "tried though asked to wait")

    def _is_edited_since(self, address: RouteAddress, began: float) -> bool:
        return self._world.operator.is_edited_since(address, began)

    def _check_behind(self, address: RouteAddress) -> None:
        """Of a route that failed on the fast lane nothing is tried there before that message has met its fate."""
        at, number = self._failed.get(address, (self._loop.time(), 0))
        if at == self._loop.time() or self._world.replicas > 1:
            return  # what the failure itself made room for, or what another process knew nothing of
        self._must(not self._is_owed(address, number), "tried on the fast lane before what waits")

    def _is_owed(self, address: RouteAddress, number: int) -> bool:
        standing = (*self._server.delivery.values(), *self._server.siding[address].values())
        has_fate = self.received[number] or number in self._server.dead
        return not has_fate and any(stored.number == number for stored in standing)

    def _begins_of_turn(self, trying: Trying, process: "Process") -> None:
        address, now = trying.address, self._loop.time()
        turn = process.turns.get(address)
        consumer = self._server.turns.get(address)
        if turn is None or consumer is None or turn._breaker.consumer != consumer.name:
            return  # what it has in hand of a consumer that is gone
        trying.turn = consumer
        if (pause := self._pauses.get(address)) and not self._is_edited_since(address, pause.began):
            self._must(now >= pause.until - _ROUNDING_S, "tried while it should pause")
        beside = [each for each in self.trying if each.turn is consumer]
        successes = self._successes.get(consumer.name, 0)
        grown = 1 if successes < 1 else 4 if successes < 5 else 16
        self._must(len(beside) <= grown, "grew too fast" if successes else "more than one probe")
        self._must(len(beside) <= self._world.policy.in_flight, "more at once than the route allows")
        self.happened["grew"] += len(beside) > 1

    def ends(self, trying: Trying, outcome: Outcome) -> None:
        self.trying.remove(trying)
        number = trying.number
        name = trying.turn.name if trying.turn else ""
        match outcome:
            case Delivered():
                self._must((trying.process, number) not in self._delivered, "delivered twice by one process")
                self._delivered.add((trying.process, number))
                self.received[number] += 1
                self._successes[name] = self._successes.get(name, 0) + 1
            case Failed(answered=True):
                self.answered[number] += 1
                most = self._world.policy.max_attempts + self._counts_lost
                self._must(self.answered[number] <= most, "answered more often than max_attempts")
            case _:
                pass
        if isinstance(outcome, Failed):
            self._fails(trying, outcome)

    def _fails(self, trying: Trying, failed: Failed) -> None:
        now = self._loop.time()
        # One that became another's meanwhile comes again, and is tried again.
        if not trying.is_turns and self._world.named(trying.process).has_in_hand(trying.number, of_turn=False):
            self._failed[trying.address] = (now, trying.number)
        if failed.retry_after_s:
            heard_s = _RECORDED_WITHIN_S if trying.is_turns else _HEARD_WITHIN_S
            self._asked_until[trying.address] = (now + heard_s, now + failed.retry_after_s)

    # The server.

    def pauses(self, address: RouteAddress, until: float) -> None:
        now = self._loop.time()
        if until > now:
            self.happened["paused"] += 1
            self._pauses[address] = Pause(now, until)
            self._successes.pop(self._server.turns[address].name, None)
        elif (pause := self._pauses.pop(address, None)) and pause.until > now + _ROUNDING_S:
            is_needless = not self._server.siding[address] or self._is_edited_since(address, pause.began)
            self._must(is_needless, "a pause was cut short")

    # Faults.

    def killed(self, process: "Process") -> None:
        self.happened["killed"] += 1
        self._killed_at.append(self._loop.time())
        self._woke_at = self._loop.time()
        self._counts_lost += _MANY
        self._begin_anew(process)
        # Who takes its place has not listed what is not there any more.
        self._pauses = {address: pause for address, pause in self._pauses.items() if address in self._server.turns}
        self._failed.clear()
        self._asked_until.clear()
        self._unheard |= {(each.name, address) for each in self._world.processes for address in self.routes}
        for trying in [each for each in self.trying if each.process == process.name]:
            self.trying.remove(trying)
            # It was on its way; the destination may have it.
            if self._world.mood[trying.address] == "well" and self._world.chance.random() < 0.5:
                self.received[trying.number] += 1

    def froze(self, process: "Process") -> None:
        self._counts_lost += _MANY
        self._begin_anew(process)

    def missed(self, process: "Process", address: RouteAddress) -> None:
        self._unheard.add((process.name, address))
        # It has heard of a turn since the one before, maybe of one that lasted less than a step.
        self._lasting.pop(f"{process.name} holds the lane of {address.route} for nobody", None)

    def thawed(self) -> None:
        self._failed.clear()
        self._asked_until.clear()
        self._woke_at = self._loop.time()
        self._lasting.clear()
        # What it was about to do it does: it knows nothing of pauses that began meanwhile.
        self._pauses.clear()

    def _begin_anew(self, process: "Process") -> None:
        """Measure from now on what was the process's; all, if nobody else has looked all the time."""
        is_watched = any(each is not process for each in self._world.awake())
        lost = {address for address in self.routes if address in process.turns or self._is_owned(address, process)}
        for address in lost if is_watched else self.routes:
            self._lasting.pop(f"nobody serves {address.route}", None)
            self._lasting.pop(f"two serve {address.route}", None)

    def _is_owned(self, address: RouteAddress, process: "Process") -> bool:
        turn = self._server.turns.get(address)
        return turn is not None and turn.owner == process.name

    def restarted(self, forgotten: int) -> None:
        self._counts_lost += _MANY * (forgotten > 0)

    def lost_turns(self, turns: Sequence[tuple[RouteAddress, Consumer]]) -> None:
        """The server loses them: only whoever has served or listed one knows of its pause."""
        for address, _ in turns:
            self._lasting.pop(f"nobody serves {address.route}", None)
        # Another process may open the next turn before the one that had it could show its latest attempts; and of a
        # message that moves to the tail meanwhile the head stays, which knows nothing of what the copy there does.
        self._counts_lost += HEAD_TRIES
        began = self._loop.time() - _KNOWN_TO_ALL_S
        all_look = began >= self._woke_at and not any(process.is_frozen for process in self._world.processes)
        for address, _ in turns:
            if (pause := self._pauses.get(address)) and not (all_look and began >= pause.began):
                del self._pauses[address]

    # The invariants.

    def check(self, passed_s: float) -> None:
        """Check what must hold whenever nobody has anything left to do at once."""
        assert not self._loop.errors, self._loop.errors[0]
        assert not self.violations, self.violations[0]
        for process in self._world.processes:
            assert (failure := process.failure()) is None, f"{process.name}: {failure!r}"
            assert self._server.held_by(process.name) < MAX_ACK_PENDING / 2, "half of max_ack_pending"
            if not process.is_frozen:
                self._check_process(process)
                self._check_pauses(process, passed_s)
                self._check_lanes(process, passed_s)
        recently = [at for at in self._killed_at if self._loop.time() - at < ACK_WAIT_S + 1]
        if len(recently) <= 1:
            assert len(self._server.lane.leases) < MAX_ACK_PENDING, "pulling stopped for everybody"
        places = self._server.places()
        lost = [n for n in range(1, self._world.sent + 1) if n not in places and not self.received[n]]
        assert not lost, f"lost: {lost}"
        self._check_served(passed_s)
        self._world.operator.check(passed_s)

    def _check_process(self, process: "Process") -> None:
        limits = process.bounds.lanes
        held, (messages, size_bytes) = process.fast_lane._holding.held, process.deliveries.promised
        assert held.messages + messages <= limits.held_messages, "messages held"
        assert held.size_bytes + size_bytes <= limits.held_bytes, "bytes held"
        assert held.messages == process.deliveries.in_hand, "a message in two places of a process, or in none"
        assert process.lanes.held <= held.messages, "a lane has what the process has not"
        trying = [each for each in self.trying if each.process == process.name]
        assert process.lanes.in_flight == len(trying) <= limits.slots, "slots"
        at_work = Counter(each.address for each in trying if each.is_turns)
        assert process.places._attempts == at_work, "a place kept by nobody, or shared by two"
        most = (process.places._most + 1) // 2
        by_tenant = Counter(address.tenant for address in at_work)
        assert all(places <= most for places in by_tenant.values()), "a tenant's share of the places"

        if self._world.replicas == 1 and process.has_started:
            unknown = [
                a for a, standing in self._server.siding.items() if standing and not process.troubles.is_troubled(a)
            ]
            assert not unknown, "what it put into the siding it knows nothing of"

    def _check_lanes(self, process: "Process", passed_s: float) -> None:
        """Lanes are held for somebody, and keep free what comes for the others."""
        for address in self.routes:
            is_held, key = process.lanes.is_held(address.route), (process.name, address)
            if not is_held:
                self._unheard.discard(key)
            turns = [turn for each in self._world.processes if (turn := each.turns.get(address))]
            self._count(
                f"{process.name} holds the lane of {address.route} for nobody",
                passed_s,
                is_so=is_held and not any(turn._holding for turn in turns),
                most_s=_FOLLOWED_S if key in self._unheard else _TOLD_WITHIN_S,
            )
        excess = process.fast_lane._holding.excess(process.lanes.held)
        is_full = bool(excess and process.lanes._waiting)
        self._count(f"{process.name} gives no way", passed_s, is_so=is_full, most_s=_TOLD_WITHIN_S)

    def _check_pauses(self, process: "Process", passed_s: float) -> None:
        """The server keeps the pause of a turn, for whoever has to take the route over."""
        for address, turn in process.turns.items():
            consumer, until = self._server.turns.get(address), turn._breaker.pause_until
            if consumer is None or consumer.name != turn._breaker.consumer:
                continue
            is_unknown = until is not None and until > at(self._loop.time()) and at(consumer.paused_until) != until
            what = f"the server does not know of the pause of {address.route} until {until}"
            self._count(what, passed_s, is_so=is_unknown, most_s=_TOLD_WITHIN_S)
            rests = turn._is_leaving() or (until is not None and until > at(self._loop.time()))
            what = f"{process.name} keeps a message of {address.route} that it does not try"
            self._count(
                what, passed_s, is_so=rests and len(consumer.leases) > len(turn._in_flight), most_s=_TOLD_WITHIN_S
            )

    def _check_served(self, passed_s: float) -> None:
        """A troubled route has one server, or somebody who will take it over soon."""
        awake = list(self._world.awake())
        if not awake:
            return
        for address, standing in self._server.siding.items():
            serving = [process for process in awake if self._serves(process, address)]
            staying = [process for process in serving if not process.turns[address]._is_leaving()]
            may_wait = self._world.is_cramped or self._world.operator.is_parked(address)
            is_unserved = bool(standing) and not serving and not may_wait
            self._count(f"nobody serves {address.route}", passed_s, is_so=is_unserved)
            self._count(f"two serve {address.route}", passed_s, is_so=len(staying) > 1)

    def _serves(self, process: "Process", address: RouteAddress) -> bool:
        """Whether a process tries the route now, or is the one who will."""
        turn = process.turns.get(address)
        if turn is None:
            return False
        consumer = self._server.turns.get(address)
        return bool(turn._in_flight) or consumer is None or turn._breaker.consumer == consumer.name

    def _count(self, what: str, passed_s: float, *, is_so: bool, most_s: float = ADOPTED_WITHIN_S) -> None:
        self._lasting[what] = self._lasting.get(what, 0.0) + passed_s if is_so else 0.0
        assert self._lasting[what] <= most_s, what

    def check_end(self) -> None:
        """Each message has one fate, and nothing is kept."""
        delivered, dead = {n for n, times in self.received.items() if times}, set(self._server.dead)
        assert delivered | dead == set(range(1, self._world.sent + 1))
        assert {*self._server.dead.values()} <= DEAD_FOR
        if self._world.faults == "none":
            assert not delivered & dead, "two fates"
            assert max(self.received.values(), default=1) == 1, "delivered twice"
        for process in self._world.processes:
            assert not process.fast_lane.unsettled
            assert not process.lanes.in_flight
            assert not process.lanes.held
            assert not process.places.at_work


def _is_beside(one: Trying, other: Trying) -> bool:
    return one.process == other.process and one.address == other.address
