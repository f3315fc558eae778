"""The bench's arithmetic: a figure that flatters is worse than none."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from blast_radius.figures import GOAL, balance, figures, results
from blast_radius.fleet import Sent
from blast_radius.resources import Load
from blast_radius.rounds import Round
from blast_radius.steps import Step, parse_step, schedule
from blast_radius.systems import Account
from blast_radius.tempers import HOSTILE, Temper, spread
from blast_radius.world import TENANTS, plan

_ALL = frozenset(range(2))


def _round(
    latencies_s: Mapping[int, Sequence[float | None]], step: Step | None = None, hostile: int | None = None
) -> Round:
    """A round in which each strand's messages took so long; None never arrived."""
    sent: list[Sent] = []
    arrived_at: dict[str, float] = {}
    for strand, taken in latencies_s.items():
        for nth, latency_s in enumerate(taken):
            message = Sent(strand=strand, message_id=f"{step}-{strand}-{nth}", begun_at=float(nth), acknowledged_at=nth)
            sent.append(message)
            if latency_s is not None:
                arrived_at[message.message_id] = nth + latency_s
    return Round(
        step=step,
        seconds=10,
        sent=sent,
        arrived_at=arrived_at,
        ends_at=10,
        hostile=frozenset() if hostile is None else frozenset({hostile}),
        load=Load(usages={}),
    )


def test_p99_is_the_slowest_of_fewer_than_a_hundred() -> None:
    seen = figures(_round({0: [0.1] * 98 + [0.5]}), _ALL)
    assert (seen.p50_ms, seen.p99_ms) == (100.0, 500.0)


def test_what_never_arrives_is_slower_than_everything_else() -> None:
    seen = figures(_round({0: [0.1, 0.1, None]}), _ALL)
    assert (seen.missing, seen.p50_ms, seen.p99_ms) == (1, 100.0, math.inf)


def test_throughput_counts_what_arrived_before_the_end() -> None:
    assert figures(_round({0: [0.1, 9.5, None]}), _ALL).per_s == 0.1


def test_a_step_compares_healthy_routes_with_themselves() -> None:
    step = Step(mode="hang", hostile=1)
    calm, hostile = _round({0: [9.0], 1: [0.1]}), _round({0: [None], 1: [0.2]}, step, hostile=0)
    [result] = results([calm, hostile], routes=2)
    assert (result.calm_p99_ms, result.hostile_p99_ms, result.p99_ratio) == (100.0, 200.0, 2.0)
    assert not result.meets(GOAL)


def test_the_goal_is_a_factor_and_some_milliseconds() -> None:
    assert GOAL.bound_ms(100.0) == pytest.approx(125.0)


def test_lost_is_what_was_acknowledged_and_is_nowhere() -> None:
    played = _round({0: [0.1, 0.1, 0.1, None]})
    ids = [message.message_id for message in played.sent]
    books = balance(
        [played],
        Counter({ids[0]: 2}),
        Account(dead_lettered=frozenset({ids[0], ids[1]}), waiting=frozenset({ids[1], ids[2]})),
    )
    assert (books.delivered, books.dead_lettered, books.waiting, books.lost, books.duplicates) == (1, 1, 1, 1, 1)


@pytest.mark.parametrize("repetitions", [1, 2, 3])
@pytest.mark.parametrize("steps", [["hang-1"], ["hang-1", "mixed-2"], ["hang-1", "mixed-2", "drip-3"]])
def test_each_hostile_round_has_a_calm_one_beside_it(steps: list[str], repetitions: int) -> None:
    rounds = list(schedule([parse_step(name) for name in steps], repetitions))
    played = Counter(step.name for step in rounds if step)
    assert played == dict.fromkeys(steps, repetitions)
    for index, step in enumerate(rounds):
        assert step is None or None in rounds[max(0, index - 1) : index + 2]


def test_mixed_is_every_kind_of_trouble() -> None:
    assert set(spread("mixed", range(5)).values()) == set(HOSTILE)
    assert Temper.CALM not in HOSTILE


def test_hostile_routes_are_spread_over_all_tenants_or_are_all_of_one() -> None:
    strands = plan(200, port=1)
    evenly = parse_step("hang-20").tempers(strands)
    assert len({strands[index].tenant for index in evenly}) == TENANTS
    one = parse_step("mixed-tenant").tempers(strands)
    assert {strand.tenant for strand in strands if strand.index in one} == {strands[0].tenant}
    assert len(one) == len(strands) / TENANTS


@pytest.mark.parametrize("name", ["", "hang", "calm-3", "hang-x", "hang--1"])
def test_a_step_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a step is"):
        parse_step(name)
