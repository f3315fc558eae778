"""A delivery process of the whole model: all of delivery as it is, on a virtual loop and the model's server."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, cast

from bus_in_memory import PublisherInMemory, PullsInMemory, into_dead_letters, into_siding
from server_in_memory import Consumer, Server, at
from virtual_loop import VirtualLoop
from yard_in_memory import YardInMemory

from pulse_bus.consumer import PullConsumer
from pulse_bus.notices import TurnNotices
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_bus.siding import PULL_EXPIRES_S, Siding
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import AskedRest, Notice
from pulse_delivery.adapters.attempt_spans import AttemptSpans
from pulse_delivery.adapters.attempts import Attempts
from pulse_delivery.adapters.route_book import RouteBook
from pulse_delivery.adapters.settler import Settler
from pulse_delivery.adapters.shunts import Shunts
from pulse_delivery.domain.bodies import Bodies
from pulse_delivery.domain.lanes import Lanes
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.memory import DeliveredMemory
from pulse_delivery.domain.ports import Sender
from pulse_delivery.domain.rates import Rates
from pulse_delivery.domain.room import SidingRoom
from pulse_delivery.domain.roster import Roster, RosterLimits
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.lanes.fast_lane import FastLane, Held
from pulse_delivery.lanes.outage import Outage
from pulse_delivery.siding.gate import FastLaneGate
from pulse_delivery.siding.keeper import TurnKeeper
from pulse_delivery.siding.places import Places
from pulse_delivery.siding.roll_call import RollCall
from pulse_delivery.siding.stocktaking import Stocktaking
from pulse_delivery.siding.sweep import Sweep
from pulse_delivery.siding.sweeping import Sweeping
from pulse_delivery.siding.tools import TurnTools
from pulse_delivery.siding.turn import Turn
from pulse_runtime.metrics import DeliveryMetrics
from pulse_runtime.spans import OFF
from pulse_storage.routes import StoredRoute
from pulse_storage.sealing import KeyRing


class _Unmeasured:
    """Every metric, and what it is asked to count: figures are not what the model is about."""

    def __getattr__(self, _name: str) -> "_Unmeasured":
        return self

    def __call__(self, *_: object, **__: object) -> "_Unmeasured":
        return self


_METRICS: Final = cast("DeliveryMetrics", _Unmeasured())
_KEYS: Final = KeyRing.parse(f"k:{'A' * 43}=")
_LINGER_S: Final = 0.1
"""Shunts gather: meanwhile a turn may find the siding empty."""
_TICK_S: Final = 0.5
"""The fast lane looks about this seldom: it may, and schedules are cheaper."""


@dataclass(frozen=True, slots=True)
class VirtualClock:
    """The loop's time; a sleep takes *least_s* at least."""

    loop: VirtualLoop
    least_s: float = 0.0

    def now(self) -> datetime:
        return at(self.loop.time())

    def monotonic(self) -> float:
        return self.loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, self.least_s) if seconds > 0 else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a process may do at once."""

    lanes: LaneLimits
    turns: RosterLimits
    places: int


class Process:
    """What `pulse_delivery.app` puts together, without senders, databases and servers."""

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        server: Server,
        *,
        bounds: Bounds,
        routes: Callable[[], Iterable[StoredRoute]],
        chance: random.Random,
        sender: Sender,
        answer: Callable[[], Awaitable[None]],
        tell: Callable[["Process", RouteAddress, Notice | AskedRest], None],
        lives: Callable[[str], bool],
    ) -> None:
        self.name = name
        self.bounds = bounds
        self.lag_s = 0.0
        self.owner = loop.new_owner()
        self._loop = loop
        self._server = server
        self._tell = tell
        self._routes = routes
        self._answer = answer
        clock, coarse, metrics, limits = VirtualClock(loop), VirtualClock(loop, _TICK_S), _METRICS, bounds.lanes
        self.book = RouteBook("", _KEYS, clock)
        self.lanes = Lanes[Held](limits, Rates(self.book.rate_of, clock.monotonic))
        self.troubles, room, outage = Troubles(), SidingRoom(0.5), Outage(coarse, metrics)
        siding = cast("Siding", YardInMemory(server, name, answer))
        attempts = Attempts({"webhook": sender}, DeliveredMemory(), clock, outage.note, AttemptSpans(OFF, clock))

        async def linger() -> None:
            await asyncio.sleep(chance.choice((0.0, _LINGER_S)))
            await answer()

        def publisher(
            stream: str, commit: Callable[[Outgoing], bool | None], answers: Callable[[], Awaitable[None]] = answer
        ) -> Publisher:
            return cast("Publisher", PublisherInMemory(stream, commit, answers))

        settler = Settler(
            shunts=Shunts(
                publisher("SIDING", partial(into_siding, server), linger),
                room,
                self.troubles,
                metrics=metrics,
                clock=clock,
            ),
            dead_letters=publisher("DEADLETTER", partial(into_dead_letters, server)),
            attempts=publisher("ATTEMPT", lambda _outgoing: False),
            descriptors={},
            secret_fields=self.book.secret_fields,
            metrics=metrics,
            clock=clock,
        )
        self.deliveries = PullsInMemory(
            server,
            lambda: server.lane,
            holder=name,
            name=server.lane.name,
            clock=clock,
            capacity=limits.prefetch,
            expires_s=5.0,
        )
        self.deliveries.set_capacity(0)
        self.fast_lane = FastLane(
            {"webhook": cast("PullConsumer", self.deliveries)},
            lanes=self.lanes,
            limits=limits,
            troubles=self.troubles,
            book=self.book,
            attempts=attempts,
            settler=settler,
            outage=outage,
            metrics=metrics,
            clock=coarse,
            lag_s=lambda: self.lag_s,
        )
        self.places = Places(max(1, limits.slots // 2), bounds.places)
        notices = cast("TurnNotices", self)
        self.gate = FastLaneGate(self.fast_lane, self.lanes, self.troubles, notices, clock, places=self.places)
        tools = TurnTools(
            siding=siding,
            sweep=Sweep(siding, self.book, attempts, settler, clock),
            book=self.book,
            troubles=self.troubles,
            attempts=attempts,
            outage=outage,
            settler=settler,
            gate=self.gate,
            bodies=Bodies(limits.turn_bytes),
            metrics=metrics,
            clock=clock,
            random=chance.random,
            stopping=asyncio.Event(),
            open_consumer=self._open_consumer,
        )
        self.keeper = TurnKeeper(
            siding,
            self.troubles,
            self.book,
            tools,
            self.gate,
            roster=Roster(name, bounds.turns, lives=lives),
            roll_call=RollCall(siding),
            stocktaking=Stocktaking(siding, room, metrics=metrics, random=chance.random),
            metrics=metrics,
            clock=clock,
        )
        self._sweeping = Sweeping(self.troubles.all, self.keeper.sweep, clock)
        self._clock = clock
        self._parts: list[asyncio.Task[None]] = []
        self._pulls_of_turns: list[PullsInMemory] = []
        self._reading: list[asyncio.Task[None]] = []
        self._work = loop.create_task(self._run(), context=self.owner.context)

    @property
    def turns(self) -> dict[RouteAddress, Turn]:
        return self.keeper._turns  # pyright: ignore[reportPrivateUsage] - asking the server would change the schedule

    @property
    def is_frozen(self) -> bool:
        return self.owner.is_frozen

    def tell(self, address: RouteAddress, notice: Notice | AskedRest) -> None:
        """Send a notice, as `TurnNotices` does."""
        self._tell(self, address, notice)

    @property
    def has_started(self) -> bool:
        return bool(self._parts)

    def has_in_hand(self, number: int, *, of_turn: bool) -> bool:
        """Whether that message is here, of the fast lane or *of_turn*, and not another's by now."""
        return any(pulls.has_in_hand(number) for pulls in (self._pulls_of_turns if of_turn else [self.deliveries]))

    def follow(self, address: RouteAddress, notice: Notice | AskedRest) -> None:
        """Let a notice of another process come."""
        if self._parts:
            self._loop.call_soon(self.gate.follow, address, notice, context=self.owner.context)

    def read_routes(self) -> None:
        """Have the process read the routes anew, as a notification does."""
        self._reading = [task for task in self._reading if not task.done()]
        self._reading.append(self._loop.create_task(self._read_routes(), context=self.owner.context))

    def failure(self) -> BaseException | None:
        """Return what ended the process, which should run for ever."""
        return (self._work.exception() or RuntimeError("it ended")) if self._work.done() else None

    def end(self) -> None:
        """Let go of everything, turns first; what that does is no part of the schedule."""
        self.owner.is_frozen = False
        self.lanes.withdraw_all()
        for task in (*self._reading, *self._parts, self._work):
            task.cancel()
            self._loop.advance(0.0)

    async def _read_routes(self) -> None:
        await self._answer()
        await self.book.learn(self._routes())

    async def _run(self) -> None:
        await self.book.learn(self._routes())
        await self.keeper.look_first()
        parts = (self.keeper, self.fast_lane, self.deliveries, self._sweeping)
        async with asyncio.TaskGroup() as group:
            self._parts += [group.create_task(part.run()) for part in parts]

    def _open_consumer(self, name: str) -> PullConsumer:
        server = self._server

        def find() -> Consumer | None:
            found = server.find_turn(name)
            return found[1] if found else None

        made = PullsInMemory(
            server, find, holder=self.name, name=name, clock=self._clock, capacity=1, expires_s=PULL_EXPIRES_S
        )
        left = [pulls for pulls in self._pulls_of_turns if pulls.has_any or server.find_turn(pulls.name)]
        self._pulls_of_turns = [made, *left]
        return cast("PullConsumer", made)
