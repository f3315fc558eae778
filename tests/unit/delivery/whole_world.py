"""A schedule of the whole model: processes, a server, destinations and a virtual clock, in the hands of one seed."""

import asyncio
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final

from bus_in_memory import MAX_PAYLOAD
from server_in_memory import EPOCH, MAX_ACK_PENDING, Server, at, number_in, subject_of
from virtual_loop import VirtualLoop
from whole_operator import BURIED_WITHIN_S, Operator
from whole_process import Bounds, Process
from whole_witness import Trying, Witness

from pulse_bus.outgoing import Outgoing
from pulse_bus.presence import SILENCE_S
from pulse_contracts import headers
from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId
from pulse_contracts.outcome import Delivered, Failed, Outcome, Rejected
from pulse_contracts.routes import Rate, Route, RoutePolicy
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.topology import ACK_WAIT_S, DELIVER_MAX_ACK_PENDING
from pulse_contracts.turns import AskedRest, Notice
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.roster import RosterLimits
from pulse_storage.routes import StoredRoute

STEPS: Final = 24
ROUTES: Final = tuple(
    RouteAddress(kind="webhook", tenant=TenantId(f"t{tenant}"), route=RouteId(f"t{tenant}-r{route}"))
    for tenant in range(2)
    for route in range(2)
)
DEADLINE_S: Final = 4.0
OUTCOMES: Final[dict[str, Outcome]] = {
    "well": Delivered(),
    "busy": Failed(error="503", answered=True),
    "dead": Failed(error="refused", answered=False),
    "asks": Failed(error="429", answered=True, retry_after_s=3.0),
    "gone": Rejected(error="410", reason="status_410"),
}
HANGS: Final = "hangs"
SICK: Final = ROUTES[1]
"""A route that begins in trouble, so that its breaker has something to do."""
SICKLY: Final = ("busy", "busy", "dead", "asks")
MOODS: Final = ("well", "well", "busy", "busy", "dead", "asks", "gone", HANGS)
PATIENCE_S: Final = 120.0
CLEARED_WITHIN_S: Final = 5.0
"""What a process left behind of a route of which nothing waits any more."""


class World:
    """Runs one schedule; every step is followed by the invariants that can be seen at once."""

    def __init__(self, seed: int) -> None:
        random.seed(seed)  # what delivery itself draws
        self.chance = random.Random(seed)  # noqa: S311 - the seed must replay the schedule
        self.loop = VirtualLoop(self.chance)
        self.faults = self.chance.choice(("none", "none", "mild", "harsh", "harsh"))
        """Mild ones take no process's memory, so that it must know everything still."""
        self.is_cramped = self.chance.random() < 0.3
        """Whether there are more troubled routes than turns; then who waits for one waits for its turn."""
        self.mood = {address: self.chance.choice(MOODS) for address in ROUTES} | {SICK: self.chance.choice(SICKLY)}
        self.server = Server(self.chance.choice((15_000, 80_000, 80_000)), self.loop.time)
        self.sent_at: list[tuple[RouteAddress, float]] = []
        """Which route each message is for, and when it was routed."""
        self._names = 0
        self._silent_since: dict[str, float] = {}
        """Of processes that are gone or frozen."""
        self.replicas = self.chance.choice([1, 1, 2] if self.faults == "mild" else [1, 2, 2, 3])
        self.bounds = Bounds(
            lanes=LaneLimits(
                slots=self.chance.choice([2, 6, 24]),
                lane_in_flight=3,
                lane_waiting=self.chance.choice([1, 8]),
                stuck_in_flight=1,
                held_messages=MAX_ACK_PENDING * LaneLimits().held_messages // DELIVER_MAX_ACK_PENDING // self.replicas,
                held_bytes=self.chance.choice([5, 40]) * MAX_PAYLOAD,
                prefetch=self.chance.choice([2, 8]),
            ),
            turns=RosterLimits(openings=1, consumers=2) if self.is_cramped else RosterLimits(openings=8, consumers=16),
            places=self.chance.choice([2, 8]),
        )
        self.is_hasty = self.chance.random() < 0.1
        """Whether messages grow too old, while pauses are long."""
        self.policy = RoutePolicy(
            backoff_first_s=90.0 if self.is_hasty else 1.0,
            backoff_cap_s=90.0 if self.is_hasty else self.chance.choice([2.0, 8.0]),
            max_attempts=5,
            max_age_s=8.0 if self.is_hasty else 600.0,
            in_flight=self.chance.choice([3, 16]),
        )
        rate = Rate(per_s=4.0, burst=2) if self.chance.random() < 0.3 else None
        self.operator = Operator(self, stored_routes(self.policy, rate))
        self.witness = Witness(self)
        self.server.on_pause = self.witness.pauses
        self.server.on_burial = self.operator.buried
        self.processes: list[Process] = []
        self.gone: list[Process] = []

    def run(self) -> None:
        """Run the schedule and let everything come to its end."""
        with self.loop:
            try:
                self._play()
            finally:
                for process in (*self.processes, *self.gone):
                    process.end()

    def _play(self) -> None:
        self.processes += [self.start() for _ in range(self.replicas)]
        actions = self._what_may_happen()
        for _ in range(STEPS):
            self._advance(self.chance.choice((0.0, 0.1, 0.3, 1.0, 1.0)))
            self.chance.choice(actions)()
        self._settle()
        self.witness.check_end()

    def _what_may_happen(self) -> list[Callable[[], None]]:
        calm = [self._send] * 4 + [self._change_mood] * 3 + [self._wait] * 2
        rare = [self.operator.act] + [self._wait_long] * self.is_hasty
        mild = [self._restart_server, self._delete_turn, self._delete_turn]
        harsh = [self._kill, self._freeze, self._freeze, self._thaw, self._restart_server, self._delete_turn]
        harsh += [self._stand_still]
        return calm * 2 + rare + {"none": [], "mild": mild * 2, "harsh": harsh}[self.faults]

    # What the schedule may choose.

    def _send(self) -> None:
        address = self.chance.choice((*ROUTES, SICK, SICK))
        route = self.operator.route(address)
        if route.deleted and self.chance.random() < 0.8:
            return  # what the router had matched before it knew
        for _ in range(self.chance.choice((1, 3, 8))):
            self.sent_at.append((address, self.loop.time()))
            data = body(address, self.sent, self.chance.choice((0, 200, 600)))
            self.server.route(address, self.sent, data, route.revision)

    def _wait(self) -> None:
        """Let time pass only."""

    def _wait_long(self) -> None:
        """Let everything that waits grow too old, and a minute pass."""
        for _ in range(int(self.policy.max_age_s + BURIED_WITHIN_S) + 2):
            self._advance(1.0)

    def _change_mood(self) -> None:
        self.mood[self.chance.choice((*ROUTES, SICK, SICK))] = self.chance.choice(MOODS)

    def _kill(self) -> None:
        # Rather one that serves a route: then somebody has to take it over.
        serving = [index for index, process in enumerate(self.processes) if process.turns]
        index = self.chance.choice(serving or range(len(self.processes)))
        killed = self.processes[index]
        killed.owner.is_frozen = True
        self._silent_since.setdefault(killed.name, self.loop.time())
        self.server.disconnect(killed.name)
        self.gone.append(killed)
        self.witness.killed(killed)
        self.processes[index] = self.start()

    def _freeze(self) -> None:
        frozen = self.chance.choice(self.processes)
        frozen.owner.is_frozen = True
        self._silent_since.setdefault(frozen.name, self.loop.time())
        self.witness.froze(frozen)

    def _stand_still(self) -> None:
        """Freeze a process for so long that what it has is another's."""
        self._freeze()
        for _ in range(int(ACK_WAIT_S) + 1):
            self._advance(1.0)
        self._thaw()

    def _thaw(self) -> None:
        if any(process.is_frozen for process in self.processes):
            self.witness.thawed()
            self.operator.thawed()
        for process in self.processes:
            process.owner.is_frozen = False
            self._silent_since.pop(process.name, None)

    def _restart_server(self) -> None:
        self.witness.lost_turns(list(self.server.turns.items()))
        forgotten = self.chance.choice((0, 1, 3)) if self.faults == "harsh" else 0
        self.witness.restarted(forgotten)
        self.server.restart(forgotten)

    def _delete_turn(self) -> None:
        if self.server.turns:
            address = self.chance.choice(list(self.server.turns))
            self.witness.lost_turns([(address, self.server.turns[address])])
            self.server.close_turn(address)

    # What time brings.

    def _advance(self, passed_s: float) -> None:
        for process in self.processes:
            if process.is_frozen:
                process.lag_s += passed_s
        self.loop.advance(passed_s)
        self.server.expire()
        self.loop.advance(0.0)
        self.witness.check(passed_s)

    def start(self) -> Process:
        """Start another process; whoever plays no schedule has to end it."""
        self._names += 1
        name = f"p{self._names}"
        sender = _Destinations(self, name)
        return Process(
            name,
            self.loop,
            self.server,
            bounds=self.bounds,
            routes=self.operator.stored,
            chance=self.chance,
            sender=sender,
            answer=self._answer,
            tell=self._tell,
            lives=self._lives,
        )

    def _lives(self, owner: str) -> bool:
        """Whether a process would be heard to live."""
        return self.loop.time() - self._silent_since.get(owner, math.inf) < SILENCE_S

    async def _answer(self) -> None:
        """Let the network take its time, mostly none."""
        if self.chance.random() < 0.2:
            await asyncio.sleep(self.chance.choice((0.01, 0.1)))

    def _tell(self, teller: Process, address: RouteAddress, notice: Notice | AskedRest) -> None:
        self.server.happened[str(notice) if isinstance(notice, Notice) else "rest"] += 1
        for process in self.processes:
            if process is teller:
                continue
            if self.chance.random() < 0.9:
                process.follow(address, notice)
            else:
                self.witness.missed(process, address)

    @property
    def sent(self) -> int:
        return len(self.sent_at)

    def awake(self) -> Iterator[Process]:
        return (process for process in self.processes if not process.is_frozen)

    def named(self, name: str) -> Process:
        return next(process for process in (*self.processes, *self.gone) if process.name == name)

    def _settle(self) -> None:
        """Everybody is well again; what began comes to its end, in bounded time."""
        self._thaw()
        self.operator.enable_all()
        self.mood = dict.fromkeys(ROUTES, "well")
        end = self.loop.time() + PATIENCE_S
        while self._is_anything_left():
            assert self.loop.time() < end, f"{self.server.waiting()} and {sorted(self.server.delivery)} wait for ever"
            self._advance(0.5)
        end = self.loop.time() + CLEARED_WITHIN_S
        while self.server.turns:
            assert self.loop.time() < end, f"{self.server.turns} was left"
            self._advance(0.5)

    def _is_anything_left(self) -> bool:
        is_busy = any(process.turns or process.fast_lane.unsettled for process in self.processes)
        return bool(is_busy or self.server.delivery or self.server.waiting())


class _Destinations:
    """All webhooks, as one process reaches them."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    async def attempt(self, parcel: Parcel, route: Route, secrets: Mapping[str, object]) -> Outcome:  # noqa: ARG002 - a port
        world, address = self._world, route.address
        trying = Trying(self._name, address, number_in(parcel.envelope.message_id), world.loop.time())
        world.witness.begins(trying)
        mood = world.mood[address]
        await asyncio.sleep(DEADLINE_S if mood == HANGS else world.chance.choice((0.01, 0.05, 0.3)))
        outcome = OUTCOMES["dead" if mood == HANGS else world.mood[address] if world.mood[address] != HANGS else mood]
        world.witness.ends(trying, outcome)
        return outcome


def stored_routes(policy: RoutePolicy, rate: Rate | None) -> list[StoredRoute]:
    """Return all routes, the first of them with the rate."""
    return [
        StoredRoute(
            route=Route(
                route_id=address.route,
                tenant_id=address.tenant,
                name="r",
                revision=1,
                topic_filter="#",
                payload_filter=None,
                expression=None,
                kind=address.kind,
                config={"url": "https://example.com/"},
                policy=replace(policy, rate=rate if address is ROUTES[0] else None),
            ),
            secrets=None,
        )
        for address in ROUTES
    ]


@lru_cache(maxsize=4096)
def body(address: RouteAddress, number: int, padding: int) -> bytes:
    """Return the message of that number for a route."""
    return Envelope(
        message_id=MessageId(f"m-{number}"),
        tenant_id=address.tenant,
        device_id=DeviceId("d"),
        type="weather",
        topic=f"tenant/{address.tenant}/device/d/weather",
        time=EPOCH,
        received_at=EPOCH,
        supplied_id=False,
        traceparent=None,
        payload=b'{"p":"%s"}' % (b"x" * padding),
    ).encode()


def standing(address: RouteAddress, number: int, routed_at: float) -> Outgoing:
    """Return that message as it waits in the siding."""
    routed_at_ms = int(at(routed_at).timestamp() * 1000)
    return Outgoing(
        subject=subject_of(address),
        data=body(address, number, 0),
        message_id=f"m-{number}:{address.route}:s",
        headers={headers.ROUTE_REVISION: "1", headers.ROUTED_AT: str(routed_at_ms)},
    )
