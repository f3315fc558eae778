"""From rounds to figures: hostile rounds against the calm ones beside them, and the verdict."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from blast_radius.resources import Usage
from blast_radius.rounds import Round
from blast_radius.steps import Step
from blast_radius.systems import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a healthy route may notice: p99 at most *factor* times what it is without hostility, and *extra_ms*."""

    factor: float
    extra_ms: float

    def bound_ms(self, calm_ms: float) -> float:
        return self.factor * calm_ms + self.extra_ms


GOAL: Final = Goal(factor=1.05, extra_ms=20.0)
GATE: Final = Goal(factor=2 * GOAL.factor, extra_ms=2 * GOAL.extra_ms)
"""For a short form on a machine that others use: twice the goal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What one process may use at most, whatever stands beside it."""

    rss_mib: float
    sockets: int


CEILINGS: Final[Mapping[str, Ceiling]] = {
    "ingest": Ceiling(rss_mib=256, sockets=512),
    "router": Ceiling(rss_mib=256, sockets=64),
    "delivery": Ceiling(rss_mib=256, sockets=4096 + 64),
    "nats": Ceiling(rss_mib=512, sockets=128),
}
"""Of Pulse. Delivery's sockets are its slots, and what it needs beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of the healthy routes in one round."""

    messages: int
    missing: int
    """Did not arrive within the grace after the round."""
    p50_ms: float
    p99_ms: float
    ack_p99_ms: float
    per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A hostile round and the calm one next to it, for the same routes."""

    calm: Figures
    hostile: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """All pairs of one step. Ratios are medians over the pairs' own ratios."""

    step: str
    hostile_routes: int
    healthy_routes: int
    pairs: Sequence[Pair]
    usage: Mapping[str, Usage]
    """The most of any hostile round, by process."""
    calm_usage: Mapping[str, Usage]
    idle_share: float
    """Of the machine's processors, median of the hostile rounds: near zero, something else is measured as well."""

    @property
    def p50_ratio(self) -> float:
        return median(_ratio(pair.hostile.p50_ms, pair.calm.p50_ms) for pair in self.pairs)

    @property
    def p99_ratio(self) -> float:
        return median(_ratio(pair.hostile.p99_ms, pair.calm.p99_ms) for pair in self.pairs)

    @property
    def throughput_ratio(self) -> float:
        return median(_ratio(pair.hostile.per_s, pair.calm.per_s) for pair in self.pairs)

    @property
    def calm_p99_ms(self) -> float:
        return median(pair.calm.p99_ms for pair in self.pairs)

    @property
    def hostile_p99_ms(self) -> float:
        return median(pair.hostile.p99_ms for pair in self.pairs)

    def meets(self, goal: Goal) -> bool:
        """Whether the median p99 beside hostility is within the goal for the median p99 without."""
        return self.hostile_p99_ms <= goal.bound_ms(self.calm_p99_ms)

    def over_ceilings(self) -> list[str]:
        """Name the processes that used more than they may."""
        return over_ceilings(self.usage)


def over_ceilings(usage: Mapping[str, Usage]) -> list[str]:
    """Name the processes that used more than they may, with what they used."""
    return [
        f"{process}: {used.rss_mib:.0f} MiB and {used.sockets:,} sockets"
        for process, used in usage.items()
        if (most := CEILINGS.get(process)) and (used.rss_mib > most.rss_mib or used.sockets > most.sockets)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What became of everything acknowledged, by sets of ids: from the receivers and from the system's stores."""

    sent: int
    acknowledged: int
    delivered: int
    dead_lettered: int
    waiting: int
    lost: int
    duplicates: int


def figures(played: Round, strands: frozenset[int]) -> Figures:
    """Return the figures of *strands* in a round."""
    latencies, acks = sorted(played.latencies_s(strands)), sorted(played.acks_s(strands))
    return Figures(
        messages=len(latencies),
        missing=sum(map(math.isinf, latencies)),
        p50_ms=_quantile_ms(latencies, 0.50),
        p99_ms=_quantile_ms(latencies, 0.99),
        ack_p99_ms=_quantile_ms(acks, 0.99),
        per_s=round(played.arrivals_per_s(strands), 2),
    )


def results(rounds: Sequence[Round], routes: int) -> list[StepResult]:
    """Return the result of each step, in the order of their first rounds."""
    steps = list(dict.fromkeys(played.step for played in rounds if played.step))
    return [_result(step, rounds, frozenset(range(routes))) for step in steps]


def balance(rounds: Sequence[Round], accepted: Counter[str], account: Account) -> Balance:
    """Balance the books of all rounds."""
    owed = {message_id for played in rounds for message_id in played.acknowledged}
    delivered = owed & accepted.keys()
    dead = (owed - delivered) & account.dead_lettered
    waiting = (owed - delivered - dead) & account.waiting
    return Balance(
        sent=sum(len(played.sent) for played in rounds),
        acknowledged=len(owed),
        delivered=len(delivered),
        dead_lettered=len(dead),
        waiting=len(waiting),
        lost=len(owed - delivered - dead - waiting),
        duplicates=sum(times - 1 for times in accepted.values()),
    )


def _result(step: Step, rounds: Sequence[Round], routes: frozenset[int]) -> StepResult:
    pairs: list[Pair] = []
    hostile_rounds: list[Round] = []
    calm_rounds: list[Round] = []
    for index, played in enumerate(rounds):
        if played.step != step:
            continue
        calm = _calm_beside(rounds, index)
        healthy = routes - played.hostile
        pairs.append(Pair(calm=figures(calm, healthy), hostile=figures(played, healthy)))
        hostile_rounds.append(played)
        calm_rounds.append(calm)
    hostile = len(hostile_rounds[0].hostile)
    return StepResult(
        step=step.name,
        hostile_routes=hostile,
        healthy_routes=len(routes) - hostile,
        pairs=pairs,
        usage=_most(hostile_rounds),
        calm_usage=_most(calm_rounds),
        idle_share=median(played.load.idle_share for played in hostile_rounds),
    )


def _calm_beside(rounds: Sequence[Round], index: int) -> Round:
    return rounds[index - 1] if rounds[index - 1].step is None else rounds[index + 1]


def _most(rounds: Sequence[Round]) -> dict[str, Usage]:
    names = rounds[0].load.usages.keys()
    return {
        name: Usage(
            rss_mib=max(played.load.usages[name].rss_mib for played in rounds),
            descriptors=max(played.load.usages[name].descriptors for played in rounds),
            sockets=max(played.load.usages[name].sockets for played in rounds),
            cpu_s=max(played.load.usages[name].cpu_s for played in rounds),
        )
        for name in names
    }


def _quantile_ms(ordered: Sequence[float], share: float) -> float:
    return round(ordered[math.ceil(len(ordered) * share) - 1] * 1000, 2)


def _ratio(hostile: float, calm: float) -> float:
    """Return their ratio; a calm round in which nothing arrived is no ground to compare on."""
    return hostile / calm if calm and math.isfinite(calm) else math.nan
