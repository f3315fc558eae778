"""The short form of bench/blast_radius: most routes turn hostile, and the healthy ones do not notice."""

from pathlib import Path

import pytest
from blast_radius.baseline_system import open_baseline
from blast_radius.bench import Outcome, open_bench
from blast_radius.figures import GATE
from blast_radius.pulse_system import open_pulse
from blast_radius.rounds import Pace
from blast_radius.steps import parse_step

pytestmark = pytest.mark.alone

_ROUTES = 60
_HARD = parse_step("mixed-48")
_RATE_PER_S = 60.0


async def test_healthy_routes_do_not_notice_hostile_ones(tmp_path: Path) -> None:
    pace = Pace(seconds=3, rate_per_s=_RATE_PER_S)
    async with open_bench(lambda strands: open_pulse(tmp_path / "pulse", strands), _ROUTES, pace) as bench:
        outcome = await bench.run([_HARD], 3, lambda _round: None)
    figures = _described(outcome)
    assert outcome.balance.lost == outcome.balance.waiting == 0, figures
    assert outcome.balance.acknowledged == outcome.balance.sent, figures
    assert outcome.results[0].meets(GATE), figures
    assert not outcome.results[0].over_ceilings()


async def test_the_gate_stops_inline_delivery(tmp_path: Path) -> None:
    """What Pulse replaces, in the same harness: a gate that let it pass would be worth nothing."""
    pace = Pace(seconds=2, rate_per_s=_RATE_PER_S)
    async with open_bench(
        lambda strands: open_baseline("inline", tmp_path / "inline", strands), _ROUTES, pace
    ) as bench:
        outcome = await bench.run([_HARD], 1, lambda _round: None)
    assert not outcome.results[0].meets(GATE), _described(outcome)


def _described(outcome: Outcome) -> str:
    [result] = outcome.results
    text = f"healthy p99 {result.calm_p99_ms:.0f} -> {result.hostile_p99_ms:.0f} ms, {outcome.balance}, {result.pairs}"
    print(text)
    return text
