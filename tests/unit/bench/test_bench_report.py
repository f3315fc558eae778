"""What makes the report of a long form fail."""

import json
from pathlib import Path
from typing import Any

import pytest
from blast_radius.report import report

STEP: dict[str, Any] = {
    "step": "mixed-20",
    "hostile_routes": 20,
    "pairs": [{}],
    "calm_p99_ms": 20.0,
    "hostile_p99_ms": 40.0,
    "p50_ratio": 1.0,
    "p99_ratio": 2.0,
    "throughput_ratio": 1.0,
    "is_within_goal": True,
    "usage": {"delivery": {"rss_mib": 120.0, "descriptors": 300, "sockets": 200, "cpu_s": 3.0}},
}
BALANCE = {"sent": 9, "acknowledged": 9, "delivered": 9, "dead_lettered": 0, "waiting": 0, "lost": 0, "duplicates": 0}


def reported(
    folder: Path,
    *,
    system: str = "pulse",
    step: dict[str, Any] | None = None,
    balance: dict[str, int] | None = None,
) -> bool:
    """Report one run whose only step and whose balance differ from those of a good one."""
    run = {
        "at": "2026-11-29T12:00:00+00:00",
        "commit": "c",
        "machine": "m",
        "rate_per_s": 50,
        "system": system,
        "routes": 200,
        "steps": [{**STEP, **(step or {})}],
        "balance": {**BALANCE, **(balance or {})},
    }
    (folder / "run.json").write_text(json.dumps(run))
    page = folder / "page.md"
    page.write_text("<!-- blast radius: begin -->\n<!-- blast radius: end -->\n")
    return report([folder / "run.json"], folder / "plot.svg", page)


def test_a_run_within_its_goal_is_fine(tmp_path: Path) -> None:
    assert reported(tmp_path)
    assert "20 of 200: mixed" in (tmp_path / "page.md").read_text()


@pytest.mark.parametrize(
    "step",
    [
        {"is_within_goal": False},
        {"usage": {"delivery": {"rss_mib": 5_000.0, "descriptors": 300, "sockets": 200, "cpu_s": 3.0}}},
        {"usage": {"delivery": {"rss_mib": 120.0, "descriptors": 9_000, "sockets": 9_000, "cpu_s": 3.0}}},
    ],
)
def test_one_beyond_its_goal_or_its_ceilings_is_not(tmp_path: Path, step: dict[str, Any]) -> None:
    assert not reported(tmp_path, step=step)


@pytest.mark.parametrize("balance", [{"lost": 1}, {"waiting": 1}])
def test_nor_one_that_lost_or_kept_something(tmp_path: Path, balance: dict[str, int]) -> None:
    assert not reported(tmp_path, balance=balance)


def test_what_pulse_is_compared_with_may_miss_it(tmp_path: Path) -> None:
    assert reported(tmp_path, system="inline", step={"is_within_goal": False}, balance={"lost": 3})
