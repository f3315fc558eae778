"""Plays one cell in a world of its own and judges it."""

import time
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from chaos_cells import Cell
from chaos_site import Scale, Site, Strike
from chaos_witness import watching
from chaos_world import Settled, World, open_world
from support.waiting import eventually

from pulse_cli.ledger.facts import NEVER, Peak
from pulse_cli.ledger.invariants import (
    Finding,
    as_quick_as_before,
    duplicates,
    examine,
    latencies_s,
    quantile,
    unsettled,
)

_ACKS_WITHIN_S: Final = 60.0
_MOST_UNKNOWN: Final = 0.2
_TRIES: Final = 3


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
    settled_s: float
    took_s: float
    healthy_p99_ms: tuple[float, float]
    """Before the fault, and of what was sent after it."""
    peaks: list[Peak]

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
    random = Random(seed)  # noqa: S311 - replayable, not secret
    async with open_world(site.pulse, cell.name, random) as world, watching(site.pulse) as witness:
        strike = Strike(site=site, world=world, witness=witness, random=random, scale=scale)
        async with world.flood.running():
            before = scale.before + random.randint(0, scale.before)
            await _acknowledged(world, before)
            witness.reasons_since_now()
            struck_at = time.monotonic()
            await cell.strike(strike)
            await _acknowledged(world, world.flood.acked + scale.after)
        settled = await world.settle(scale.settle_s)
        slower = await _slower(world, scale, struck_at) if scale.calm else []
        took_s = time.monotonic() - started
        return _judge(strike, cell, seed, settled, slower=slower, struck_at=struck_at, took_s=took_s)


async def _acknowledged(world: World, enough: int) -> None:
    await eventually(lambda: world.flood.acked >= enough, _ACKS_WITHIN_S, what=f"{enough} acknowledgements")


async def _slower(world: World, scale: Scale, struck_at: float) -> list[Finding]:
    """Look whether healthy destinations are as quick as before; the machine's own hiccups get two more tries."""
    found: list[Finding] = []
    for _ in range(_TRIES):
        since = time.monotonic()
        async with world.flood.running():
            await _acknowledged(world, world.flood.acked + scale.calm)
        settled = await world.settle(scale.settle_s)
        found = as_quick_as_before(
            _latencies_s(world, settled, -NEVER, struck_at), _latencies_s(world, settled, since, NEVER)
        )
        if not found:
            break
    return found


def _judge(
    strike: Strike,
    cell: Cell,
    seed: int,
    settled: Settled,
    *,
    slower: list[Finding],
    struck_at: float,
    took_s: float,
) -> Report:
    world, books = strike.world, replace(settled.books, peaks=strike.witness.peaks())
    assert strike.proofs, "nothing shows that the fault happened"
    unknown = len(books.sendings.attempted) - len(books.sendings.acknowledged)
    assert unknown <= _MOST_UNKNOWN * len(books.sendings.attempted), f"{unknown} were never acknowledged"
    return Report(
        cell=cell,
        seed=seed,
        findings=[*examine(books), *unsettled(books), *_unseen(cell, strike), *slower],
        proofs=strike.proofs,
        acknowledged=world.flood.acked,
        duplicates=duplicates(books),
        settled_s=settled.seconds,
        took_s=took_s,
        peaks=list(books.peaks),
        healthy_p99_ms=(
            # What was sent in the last moment before it may have met the fault.
            _p99_ms(world, settled, -NEVER, struck_at - 1),
            _p99_ms(world, settled, world.healed_at, NEVER),
        ),
    )


def _p99_ms(world: World, settled: Settled, since: float, until: float) -> float:
    return quantile(_latencies_s(world, settled, since, until), 0.99) * 1000


def _latencies_s(world: World, settled: Settled, since: float, until: float) -> list[float]:
    return sorted(
        seconds
        for destination in world.healthy()
        for seconds in latencies_s(settled.books, destination, since=since, until=until)
    )


def _unseen(cell: Cell, strike: Strike) -> list[Finding]:
    """Return the signs that no operator could have seen."""
    witness = strike.witness
    unseen = [
        f"/ready of {service}: {words}"
        for service, signs in cell.signs.items()
        for words in signs
        if not witness.said(service, words)
    ]
    unseen += [
        f"log of {service}: {event}" for service, event in cell.logged.items() if not strike.pulse.log(service, event)
    ]
    return (
        [Finding(invariant="operator_sees", subjects=tuple(unseen), detail=f"of {witness.reasons}")] if unseen else []
    )
