"""Results as JSON: what a run writes and a report reads."""

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from blast_radius.bench import Outcome
from blast_radius.figures import GOAL, Balance, StepResult
from blast_radius.resources import Usage

NEVER: Final = None
"""How JSON writes a latency that has no end: most of the messages it stands for did not arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One step of one system, as a report shows it; None stands for never, or for no ground to compare on."""

    system: str
    step: str
    routes: int
    hostile_routes: int
    pairs: int
    calm_p99_ms: float | None
    hostile_p99_ms: float | None
    p50_ratio: float | None
    p99_ratio: float | None
    throughput_ratio: float | None
    is_within_goal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run of one system."""

    at: str
    commit: str
    machine: str
    rate_per_s: float
    rows: Sequence[Row]
    balance: Balance
    usage: Mapping[str, Usage]
    """The most of any round beside hostility, by process."""


def write(outcome: Outcome, path: Path) -> None:
    """Write an outcome; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_finite(_described(outcome)), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Record:
    """Read what `write` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = [Row(system=found["system"], routes=found["routes"], **_shown(step)) for step in found["steps"]]
    usage: dict[str, Usage] = {}
    for step in found["steps"]:
        for name, most in step["usage"].items():
            known = asdict(usage[name]) if name in usage else most
            usage[name] = Usage(**{key: max(value, known[key]) for key, value in most.items()})
    return Record(
        at=found["at"],
        commit=found["commit"],
        machine=found["machine"],
        rate_per_s=found["rate_per_s"],
        rows=rows,
        balance=Balance(**found["balance"]),
        usage=usage,
    )


def _described(outcome: Outcome) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "system": outcome.system,
        "routes": outcome.routes,
        "rate_per_s": outcome.pace.rate_per_s,
        "seconds": outcome.pace.seconds,
        "steps": [_described_step(result) for result in outcome.results],
        "balance": asdict(outcome.balance),
    }


def _described_step(result: StepResult) -> dict[str, Any]:
    return {
        "calm_p99_ms": result.calm_p99_ms,
        "hostile_p99_ms": result.hostile_p99_ms,
        "p50_ratio": result.p50_ratio,
        "p99_ratio": result.p99_ratio,
        "throughput_ratio": result.throughput_ratio,
        "is_within_goal": result.meets(GOAL),
        **asdict(result),
    }


def _shown(step: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: step[name] for name in step if name in Row.__slots__}
    return {**kept, "pairs": len(step["pairs"])}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else NEVER
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}  # pyright: ignore[reportUnknownVariableType] - JSON
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]  # pyright: ignore[reportUnknownVariableType] - JSON
    return value


def _commit() -> str:
    command = ("git", "describe", "--always", "--dirty")
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a command of ours
    return asked.stdout.strip() or "unknown"
