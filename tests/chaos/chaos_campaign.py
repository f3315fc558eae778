"""Plays one cell in a world of its own and judges it."""

import asyncio
import gc
import time
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from chaos_cells import Cell
from chaos_signs import missing
from chaos_site import Scale, Site, Strike
from chaos_witness import watching
from chaos_world import Settled, World, open_world
from support.waiting import eventually

from pulse_cli.ledger.facts import NEVER, Books, Peak
from pulse_cli.ledger.findings import Finding
from pulse_cli.ledger.invariants import (
    as_quick_as_before,
    examine,
    latencies_s,
    quantile,
    unsettled,
)
from pulse_cli.ledger.repeats import Explained, duplicates, explained

_ACKS_WITHIN_S: Final = 60.0
_MOST_UNKNOWN: Final = 0.2
_TRIES: Final = 3
_LAST_S: Final = 1.0
"""What is sent in the last moment before a fault may meet it, and before the books are read may wait for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a run."""

    cell: Cell
    seed: int
    findings: list[Finding]
    """Broken invariants, what did not settle in time, and signs that no operator saw."""
    proofs: list[str]
    acknowledged: int
    duplicates: int
    explained: list[Explained]
    """By which fault."""
    settled_s: float
    took_s: float
    healthy_p99_ms: tuple[float, float]
    """Before the fault, and of what was sent after it."""
    peaks: list[Peak]
    complaints: dict[str, list[str]]
    """What `/ready` said, by service."""

    def line(self) -> str:
        """Return the figures as a row of a table."""
        before, after = self.healthy_p99_ms
        memory = max((peak.seen for peak in self.peaks if "memory" in peak.name), default=0.0)
        verdict = "ok" if not self.findings else "; ".join(map(str, self.findings))
        return (
            f"| {self.cell.number} | {self.cell.name} | {self.seed} | {self.acknowledged} | {self.duplicates} "
            f"| {self.settled_s:.1f} | {before:.0f} / {after:.0f} | {memory:.0f} | {self.took_s:.0f} | {verdict} |"
        )


async def play(site: Site, cell: Cell, seed: int, scale: Scale) -> Report:
    """Send, strike in the midst of it, heal, settle, examine. Fails if too little was sent or nothing broke."""
    started = time.monotonic()
    random = Random(f"{seed}: what is struck")  # noqa: S311 - replayable, not secret
    sent = Random(f"{seed}: what is sent")  # noqa: S311 - replayable, not secret
    async with open_world(site.pulse, cell.name, sent) as world, watching(site.pulse) as witness:
        strike = Strike(site=site, world=world, witness=witness, random=random, scale=scale)
        findings = await _beside_the_hanging(world, scale) if scale.calm else []
        async with world.flood.running():
            calm_since = time.monotonic()
            await _acknowledged(world, world.flood.acked + scale.before + random.randint(0, scale.before))
            strike.begin()
            struck_at = time.monotonic()
            await cell.strike(strike)
            await _acknowledged(world, world.flood.acked + scale.after)
        settled = await world.settle(scale.settle_s)
        seen = (calm_since, struck_at - _LAST_S)
        p99_ms = (
            await asyncio.to_thread(_p99_ms, world, settled, *seen),
            await asyncio.to_thread(_p99_ms, world, settled, world.healed_at, NEVER),
        )
        unseen = missing(cell.signs, witness, strike.refusals(), strike.logged)
        findings += [Finding(invariant="operator_sees", subjects=(each,)) for each in unseen]
        findings += await _judge(strike, settled)
        if scale.calm:
            findings += await _afterwards(world, scale, seen)
        books = settled.books
        return Report(
            cell=cell,
            seed=seed,
            findings=findings,
            proofs=strike.proofs,
            acknowledged=world.flood.acked,
            duplicates=duplicates(books),
            explained=explained(books),
            settled_s=settled.seconds,
            took_s=time.monotonic() - started,
            healthy_p99_ms=p99_ms,
            peaks=witness.peaks(),
            complaints={name: witness.complaints(name) for name in ("ingest", "router", "delivery")},
        )


async def _acknowledged(world: World, enough: int) -> None:
    await eventually(lambda: world.flood.acked >= enough, _ACKS_WITHIN_S, what=f"{enough} acknowledgements")


async def _beside_the_hanging(world: World, scale: Scale) -> list[Finding]:
    """Look whether healthy destinations are as quick beside some that hang as before; a hiccup gets two more tries."""
    found: list[Finding] = []
    for _ in range(_TRIES):
        await world.let_answer(scale.settle_s)
        before = await _interval(world, scale.calm)
        world.let_hang()
        during = await _interval(world, scale.calm)
        settled = await world.settle(scale.settle_s, since=time.monotonic())
        found = await asyncio.to_thread(_slower, world, settled, before, during)
        if not found:
            break
    return found


async def _afterwards(world: World, scale: Scale, before: tuple[float, float]) -> list[Finding]:
    """Look whether they are as quick after the fault as before, when no promise holds during it; and at the books."""
    found: list[Finding] = []
    for _ in range(_TRIES):
        after = await _interval(world, scale.calm)
        settled = await world.settle(scale.settle_s, since=time.monotonic())
        wrong = await asyncio.to_thread(_wrong, settled.books)
        found = await asyncio.to_thread(_slower, world, settled, before, after)
        if wrong or not found:
            return [*wrong, *found]
    return found


async def _interval(world: World, acks: int) -> tuple[float, float]:
    """Send until so much more is acknowledged; returns from when to when it was sent, the last moment left out."""
    # Of long books a full collection takes tenths of a second, in which the receivers stand still.
    gc.collect()
    gc.freeze()
    since = time.monotonic()
    async with world.flood.running():
        await _acknowledged(world, world.flood.acked + acks)
    return since, time.monotonic() - _LAST_S


async def _judge(strike: Strike, settled: Settled) -> list[Finding]:
    books = replace(settled.books, peaks=strike.witness.peaks())
    assert strike.proofs, "nothing shows that the fault happened"
    attempted, acknowledged = books.sendings.attempted, books.sendings.acknowledged
    unknown = len(attempted) - len(acknowledged)
    assert unknown <= _MOST_UNKNOWN * len(attempted), f"{unknown} were never acknowledged"
    untold = [*strike.world.untold(books), *strike.witness.unseen()]
    assert not untold, f"nothing was seen of {', '.join(untold)}"
    return await asyncio.to_thread(_wrong, books)


def _wrong(books: Books) -> list[Finding]:
    return [*examine(books), *unsettled(books)]


def _slower(world: World, settled: Settled, before: tuple[float, float], now: tuple[float, float]) -> list[Finding]:
    return as_quick_as_before(_latencies_s(world, settled, *before), _latencies_s(world, settled, *now))


def _p99_ms(world: World, settled: Settled, since: float, until: float) -> float:
    return quantile(_latencies_s(world, settled, since, until), 0.99) * 1000


def _latencies_s(world: World, settled: Settled, since: float, until: float) -> list[float]:
    return sorted(
        seconds
        for destination in world.healthy()
        for seconds in latencies_s(settled.books, destination, since=since, until=until)
    )
