"""One process of the whole model, whose destinations do what a test says, each message for itself."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from server_in_memory import Consumer, Server, number_in
from virtual_loop import VirtualLoop
from whole_process import Bounds, Process
from whole_world import ROUTES, body, standing, stored_routes

from pulse_contracts.outcome import Delivered, Outcome
from pulse_contracts.routes import Rate, Route, RoutePolicy
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.topology import ACK_WAIT_S
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.roster import RosterLimits

LIMITED: Final = ROUTES[0]
"""The route that has the rate, if a test gives one."""
ROUTE: Final = ROUTES[1]
STEP_S: Final = 0.01


@dataclass(slots=True, kw_only=True)
class OneProcess:
    """The process, and what it lives on."""

    loop: VirtualLoop
    server: Server
    answer_s: float
    takes_s: defaultdict[int, float] = field(default_factory=lambda: defaultdict[int, float](lambda: 0.05))
    """How long an attempt lasts, by message."""
    outcomes: defaultdict[int, Outcome] = field(default_factory=lambda: defaultdict[int, Outcome](Delivered))
    ended: dict[int, asyncio.Event] = field(default_factory=dict[int, asyncio.Event])
    """Attempts that end when the test says so."""
    begun: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """When which message was tried."""
    process: Process = field(init=False)

    async def attempt(self, parcel: Parcel, route: Route, secrets: Mapping[str, object]) -> Outcome:  # noqa: ARG002 - a port
        number = number_in(parcel.envelope.message_id)
        self.begun.append((self.loop.time(), number))
        if number in self.ended:
            await self.ended[number].wait()
        else:
            await asyncio.sleep(self.takes_s[number])
        return self.outcomes[number]

    async def answer(self) -> None:
        if self.answer_s:
            await asyncio.sleep(self.answer_s)

    def tell(self, *_told: object) -> None:
        """There is nobody to hear it."""

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.server.route(ROUTE, number, body(ROUTE, number, 0))

    def put_aside(self, *numbers: int, address: RouteAddress = ROUTE) -> None:
        """Have messages wait in the siding, as another process would."""
        for number in numbers:
            self.server.put_aside(address, standing(address, number, self.loop.time()))

    def tried(self) -> list[int]:
        return [number for _, number in self.begun]

    def stand_still(self, consumer: Consumer) -> None:
        """Let the process stand still for so long that what it had of a consumer is another's."""
        self.process.owner.is_frozen = True
        self.loop.advance(ACK_WAIT_S + 1)
        consumer.paused_until = float("inf")
        self.server.expire()
        assert not consumer.leases
        self.process.owner.is_frozen = False
        self.loop.advance(0.0)

    def until(self, holds: Callable[[], object], most_s: float = 5.0) -> None:
        """Let time pass until something holds."""
        end = self.loop.time() + most_s
        while not holds():
            assert self.loop.time() < end, "it does not happen"
            self.loop.advance(STEP_S)


@contextmanager
def one_process(
    *, limits: LaneLimits | None = None, rate: Rate | None = None, answer_s: float = 0.0
) -> Generator[OneProcess]:
    """Run a process; each answer of the server takes *answer_s*."""
    chance = random.Random(0)  # noqa: S311 - the seed must replay the schedule
    loop = VirtualLoop(chance)
    one = OneProcess(loop=loop, server=Server(1_000_000, loop.time), answer_s=answer_s)
    with loop:
        one.process = Process(
            "p",
            loop,
            one.server,
            bounds=Bounds(lanes=limits or LaneLimits(), turns=RosterLimits(), places=8),
            routes=lambda: stored_routes(RoutePolicy(), rate),
            chance=chance,
            sender=one,
            answer=one.answer,
            tell=one.tell,
            lives=lambda _owner: False,
        )
        try:
            one.until(lambda: one.process.has_started)
            yield one
        finally:
            one.process.end()
