"""A whole bench: receivers, a system under test, and the rounds of all steps."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from blast_radius.figures import Balance, StepResult, balance, results
from blast_radius.fleet import Fleet, open_session
from blast_radius.receiving import Receivers, open_receivers
from blast_radius.rounds import Pace, Round, play
from blast_radius.steps import Step, schedule
from blast_radius.systems import System
from blast_radius.world import Strand, plan

_WARM_UP_S: Final = 2.0

OpenSystem = Callable[[Sequence[Strand]], AbstractAsyncContextManager[System]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a bench came to."""

    system: str
    routes: int
    pace: Pace
    results: Sequence[StepResult]
    balance: Balance


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A system that runs and has warmed up."""

    system: System
    receivers: Receivers
    fleet: Fleet
    pace: Pace

    async def run(self, steps: Sequence[Step], repetitions: int, report: Callable[[Round], None]) -> Outcome:
        """Play all rounds of *steps* and balance the books; *report* is told of each round."""
        rounds: list[Round] = []
        for step in schedule(steps, repetitions):
            played = await play(step, self.system, self.receivers, self.fleet, self.pace)
            rounds.append(played)
            report(played)
        routes = len(self.system.strands)
        return Outcome(
            system=self.system.name,
            routes=routes,
            pace=self.pace,
            results=results(rounds, routes),
            balance=balance(rounds, self.receivers.accepted, await self.system.account()),
        )


@asynccontextmanager
async def open_bench(open_system: OpenSystem, routes: int, pace: Pace) -> AsyncGenerator[Bench, None]:
    """Yield a bench of so many routes; nothing is left running after it."""
    async with (
        open_receivers(routes) as receivers,
        open_system(plan(routes, receivers.port)) as system,
        open_session() as session,
    ):
        fleet = Fleet(system, session)
        await fleet.send(_WARM_UP_S, max(pace.rate_per_s, routes / _WARM_UP_S))
        await system.settle(lambda: receivers.become({}))
        await receivers.look()
        receivers.accepted.clear()
        yield Bench(system=system, receivers=receivers, fleet=fleet, pace=pace)
