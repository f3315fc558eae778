"""A schedule of the joint model: processes, a broker, destinations and a virtual clock, in the hands of one seed."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from joint_broker import MAX_ACK_PENDING, Broker, Message
from joint_lane import MOST_BYTES, Trying, Turn
from joint_process import Process

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.outcome import Delivered, Failed, Outcome, Rejected
from pulse_contracts.routes import Rate
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.topology import ACK_WAIT_S, DELIVER_MAX_ACK_PENDING
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.roster import RosterLimits

STEPS: Final = 64
ROUTES: Final = tuple(
    RouteAddress(kind="webhook", tenant=TenantId(f"t{tenant}"), route=RouteId(f"t{tenant}-r{route}"))
    for tenant in range(2)
    for route in range(2)
)
DEADLINE_S: Final = 10.0
ADOPTED_WITHIN_S: Final = 5.0
LOOK_S: Final = 1.0
OUTCOMES: Final[dict[str, Outcome]] = {
    "well": Delivered(),
    "busy": Failed(error="503", answered=True),
    "dead": Failed(error="refused", answered=False),
    "gone": Rejected(error="410", reason="status_410"),
}
HANGS: Final = "hangs"
DEAD_FOR: Final = {"siding_full", "status_410", "max_attempts"}
SICK: Final = ROUTES[1]
"""A route that begins in trouble, so that its breaker has something to do."""
SICKLY: Final = ("busy", "busy", "dead")
MOODS: Final = ("well", "well", "busy", "busy", "dead", "gone", HANGS)


class World:
    """Runs one schedule; every step is followed by the invariants that can be seen at once."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - the seed must replay the schedule
        self.now = 0.0
        self.broker = Broker(self.chance.choice((12_000, 60_000, 60_000)))
        self.has_faults = self.chance.random() < 0.6
        self.is_cramped = self.chance.random() < 0.3
        """Whether there are more troubled routes than turns; then who waits for one waits for its turn."""
        self.mood = {address: self.chance.choice(MOODS) for address in ROUTES} | {SICK: self.chance.choice(SICKLY)}
        self.received: Counter[int] = Counter()
        """What the destinations took, by message."""
        self.sent = 0
        self.happened: Counter[str] = Counter()
        """What the schedule went through: a model in which nothing happens holds any invariant."""
        self.killed_at: list[float] = []
        self._lasting: dict[str, float] = {}
        """For how long a route has been served by nobody, or by two, since the last fault."""
        self._looked_at = 0.0
        self._names = 0
        replicas = self.chance.choice([1, 2, 2, 3])
        self._limits = LaneLimits(
            slots=self.chance.choice([2, 6, 24]),
            lane_in_flight=3,
            lane_waiting=self.chance.choice([1, 8]),
            stuck_in_flight=1,
            held_messages=MAX_ACK_PENDING * LaneLimits().held_messages // DELIVER_MAX_ACK_PENDING // replicas,
            held_bytes=self.chance.choice([5, 40]) * MOST_BYTES,
            prefetch=self.chance.choice([2, 8]),
        )
        self._turns = (
            RosterLimits(openings=1, consumers=2) if self.is_cramped else RosterLimits(openings=8, consumers=16)
        )
        self._rates = {ROUTES[0].route: Rate(per_s=4.0, burst=2)} if self.chance.random() < 0.3 else {}
        self.processes = [self._start() for _ in range(replicas)]
        self._actions = self._what_may_happen()

    def run(self) -> None:
        """Run the schedule and let everything come to its end."""
        for number in range(STEPS):
            self._advance(self.chance.choice((0.0, 0.1, 0.3, 1.0, 1.0)))
            self.chance.choice(self._actions)()
            self.check()
            if number % 10 == 0:
                self._check_lost()
        self._settle()
        self._check_end()

    def _what_may_happen(self) -> list[Callable[[], None]]:
        calm = [self._send, self._pull, self._take, self._take, self._end_attempt, self._end_attempt, self._end_attempt]
        calm += [self._commit, self._commit, self._acknowledge, self._acknowledge, self._step, self._step, self._tend]
        faults = [
            self._kill,
            self._freeze,
            self._freeze,
            self._freeze,
            self._thaw,
            self._restart_broker,
            self._delete_turn,
        ]
        return calm * 2 + [self._change_mood] * 2 + (faults if self.has_faults else [])

    # What the schedule may choose.

    def _send(self) -> None:
        address = self.chance.choice((*ROUTES, SICK, SICK))
        for _ in range(self.chance.choice((1, 4, 12))):
            self.sent += 1
            size_bytes = self.chance.randint(50, MOST_BYTES)
            self.broker.route(Message(number=self.sent, address=address, size_bytes=size_bytes, routed_at=self.now))

    def _pull(self) -> None:
        if process := self._awake():
            process.ask()
            process.receive()

    def _take(self) -> None:
        if process := self._awake():
            process.take(self.chance.randint(1, 4))

    def _end_attempt(self) -> None:
        if (process := self._awake()) and process.trying:
            # Rather one of a turn: there are few, and on them the breaker hangs.
            probes = [trying for trying in process.trying if trying.turn]
            self._end(process, self.chance.choice(probes or process.trying), may_kill=self.has_faults)

    def _commit(self) -> None:
        if (process := self._awake()) and (waiting := [s for s in process.shunting if not s.is_committed]):
            process.commit(waiting[0])

    def _acknowledge(self) -> None:
        if (process := self._awake()) and (committed := [s for s in process.shunting if s.is_committed]):
            process.acknowledge(committed[0])

    def _step(self) -> None:
        if process := self._awake():
            for turn in list(process.turns.values()):
                process.step(turn)

    def _tend(self) -> None:
        if process := self._awake():
            process.tend()

    def _change_mood(self) -> None:
        self.mood[self.chance.choice((*ROUTES, SICK, SICK))] = self.chance.choice(MOODS)

    def _kill(self) -> None:
        # Rather one that serves a route: then somebody has to take it over.
        serving = [index for index, process in enumerate(self.processes) if process.turns]
        index = self.chance.choice(serving or range(len(self.processes)))
        for trying in self.processes[index].trying:
            # It was on its way; the destination may have it.
            if self.mood[trying.message.address] == "well" and self.chance.random() < 0.5:
                self.received[trying.message.number] += 1
        self._lose(self.processes[index])

    def _lose(self, process: Process) -> None:
        self.happened["killed"] += 1
        self.killed_at.append(self.now)
        self._lasting.clear()
        self.processes[self.processes.index(process)] = self._start()

    def _freeze(self) -> None:
        self.chance.choice(self.processes).is_frozen = True
        self._lasting.clear()

    def _thaw(self) -> None:
        # Who wakes pulls at what was its own before it looks: that too is noticed by the others only after a while.
        self._lasting.clear()
        for process in self.processes:
            process.is_frozen = False

    def _restart_broker(self) -> None:
        self.broker.restart(forgotten=self.chance.choice((0, 1, 3)))
        for process in self.processes:
            process.forget_pulls()
        self._lasting.clear()

    def _delete_turn(self) -> None:
        if self.broker.turns:
            self.broker.close_turn(self.chance.choice(list(self.broker.turns)))
            self._lasting.clear()

    # What time brings.

    def _advance(self, passed_s: float) -> None:
        self.now += passed_s
        for process in self.processes:
            process.now = self.now
            if process.is_frozen:
                process.lag += passed_s
        since_look_s = self.now - self._looked_at
        if since_look_s < LOOK_S:
            return
        self._looked_at = self.now
        for process in self._awakes():
            self.broker.signal(process.name, self.now + ACK_WAIT_S)
            process.keep_pulling()
        self.broker.expire(self.now)
        for process in self._awakes():
            process.look()
            for turn in list(process.turns.values()):
                process.step(turn)
        self._check_served(since_look_s)

    def _start(self) -> Process:
        self._names += 1
        process = Process(
            f"p{self._names}",
            self.broker,
            limits=self._limits,
            turns=self._turns,
            rates=self._rates,
            chance=self.chance,
            happened=self.happened,
        )
        process.now = self.now
        process.look()
        return process

    def _awakes(self) -> Iterator[Process]:
        return (process for process in self.processes if not process.is_frozen)

    def _awake(self) -> Process | None:
        process = self.chance.choice(self.processes)
        return None if process.is_frozen else process

    def _end(self, process: Process, trying: Trying, *, may_kill: bool = False) -> None:
        address = trying.message.address
        mood = self.mood[address]
        if mood == HANGS:
            if self.now - trying.began < DEADLINE_S:
                return
            mood = "dead"
        outcome = OUTCOMES[mood]
        if isinstance(outcome, Delivered):
            self.received[trying.message.number] += 1
            if may_kill and self.chance.random() < 0.02:
                self._lose(process)
                return
        process.conclude(trying, outcome)

    def _settle(self) -> None:
        """Everybody is well again; what began comes to its end, in bounded time."""
        self._thaw()
        self.mood = dict.fromkeys(ROUTES, "well")
        for _ in range(400):
            if not self._is_anything_left():
                return
            self._advance(0.25)
            for process in self.processes:
                self._work_off(process)
            self.check()
            self._check_lost()
        raise AssertionError(f"{self.broker.waiting()} and {sorted(self.broker.delivery)} wait for ever")

    def _work_off(self, process: Process) -> None:
        process.ask()
        process.receive()
        process.take(len(process.buffer))
        process.tend()
        for trying in list(process.trying):
            self._end(process, trying)
        for shunting in list(process.shunting):
            if not shunting.is_committed:
                process.commit(shunting)
            if shunting in process.shunting:
                process.acknowledge(shunting)
        for turn in list(process.turns.values()):
            process.step(turn)

    def _is_anything_left(self) -> bool:
        is_busy = any(process.turns or process.holding.held.messages for process in self.processes)
        return bool(is_busy or self.broker.delivery or self.broker.siding)

    # The invariants.

    def check(self) -> None:
        """Check what must hold at every moment."""
        for process in self.processes:
            held, promised = process.holding.held, process.promised
            assert self.broker.held_by(process.name) < MAX_ACK_PENDING / 2, "half of max_ack_pending"
            assert held.messages + promised.messages <= self._limits.held_messages, "messages held"
            assert held.size_bytes + promised.size_bytes <= self._limits.held_bytes, "bytes held"
            shunting = sum([each.turn is None for each in process.shunting])
            assert held.messages == process.lanes.held + shunting, "a message in two places of a process, or in none"
            for turn in process.turns.values():
                self._check_breaker(turn)
            assert process.lanes.in_flight == len(process.trying) <= self._limits.slots, "slots"
        if sum([self.now - at < ACK_WAIT_S + LOOK_S for at in self.killed_at]) <= 1:
            assert len(self.broker.leases) < MAX_ACK_PENDING, "pulling stopped for everybody"

    def _check_breaker(self, turn: Turn) -> None:
        assert turn.breaker.failures == turn.failures, "failures in a row"
        if self.broker.has(turn.address, turn.consumer) and not turn.is_lost and turn.quiet_until > self.now:
            assert turn.breaker.pause_until, "a pause that the breaker does not know of"
            assert turn.consumer.paused_until == turn.quiet_until, "a pause that the server does not know of"
            assert turn.consumer.state.in_flight == 1, "not half-open after its pause"

    def _check_lost(self) -> None:
        places = self.broker.places()
        lost = [n for n in range(1, self.sent + 1) if n not in places and not self.received[n]]
        assert not lost, f"lost: {lost}"

    def _check_served(self, passed_s: float) -> None:
        """A troubled route has one server, or somebody who will take it over soon."""
        if not any(True for _ in self._awakes()):
            return
        for address in ROUTES:
            serving = [process for process in self._awakes() if process.serves(address)]
            staying = [process for process in serving if not process.turns[address].is_leaving]
            self._count("nobody serves", address, passed_s, not serving and not self.is_cramped)
            self._count("two serve", address, passed_s, len(staying) > 1)

    def _count(self, what: str, address: RouteAddress, passed_s: float, is_so: bool) -> None:  # noqa: FBT001 - a count
        key = f"{what} {address.route}"
        self._lasting[key] = self._lasting.get(key, 0.0) + passed_s if is_so and address in self.broker.siding else 0.0
        assert self._lasting[key] <= ADOPTED_WITHIN_S, key

    def _check_end(self) -> None:
        """Each message has one fate, and nothing is kept."""
        delivered, dead = {n for n, times in self.received.items() if times}, set(self.broker.dead)
        assert delivered | dead == set(range(1, self.sent + 1))
        assert {*self.broker.dead.values()} <= DEAD_FOR
        if not self.has_faults:
            assert not delivered & dead, "two fates"
            assert max(self.received.values(), default=1) == 1, "delivered twice"
        for process in self.processes:
            assert not process.holding.held.messages
            assert not process.lanes.in_flight
            assert not process.lanes.held
        assert not self.broker.turns, "a consumer was left"
