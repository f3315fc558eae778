"""``python -m blast_radius``: see `--help`, or the recipes of ``bench/mod.just``."""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from blast_radius.baseline_system import open_baseline
from blast_radius.baselines.__main__ import KINDS
from blast_radius.bench import Outcome, open_bench
from blast_radius.figures import GATE, GOAL, figures
from blast_radius.pulse_system import open_pulse
from blast_radius.records import write
from blast_radius.report import report
from blast_radius.rounds import Pace, Round
from blast_radius.steps import CALM, parse_step
from blast_radius.systems import System
from blast_radius.world import Strand
from pulse_runtime.collection import collect_seldom

_SCRATCH: Final = Path(".pulse")
"""Not the system's folder for temporary files: that may be memory, where an fsync is free."""


@asynccontextmanager
async def open_system(kind: str, strands: Sequence[Strand]) -> AsyncGenerator[System, None]:
    """Yield Pulse or a baseline on a folder that is gone afterwards."""
    _SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_SCRATCH) as scratch:
        data = Path(scratch).absolute() / "data"
        async with open_baseline(kind, data, strands) if kind in KINDS else open_pulse(data, strands) as system:
            yield system


def _run(options: argparse.Namespace) -> int:
    return asyncio.run(_play(options))


def _report(options: argparse.Namespace) -> int:
    return 0 if report(options.files, options.plot, options.page) else 1


async def _play(options: argparse.Namespace) -> int:
    """Play the steps; returns 1 if a step misses its goal, a process its ceiling, or something is lost."""
    pace = Pace(seconds=options.seconds, rate_per_s=options.rate)
    async with open_bench(lambda strands: open_system(options.system, strands), options.routes, pace) as bench:
        steps = [parse_step(name) for name in options.steps]
        collect_seldom()
        outcome = await bench.run(steps, options.pairs, _reporter(options.routes))
    if options.into:
        write(outcome, options.into)
    return _judge(outcome, strict=not options.gate)


def _reporter(routes: int) -> Callable[[Round], None]:
    began = time.monotonic()

    def tell(played: Round) -> None:
        name = played.step.name if played.step else CALM
        healthy = figures(played, frozenset(range(routes)) - played.hostile)
        usage = ", ".join(
            f"{process} {most.rss_mib:.0f} MiB {most.descriptors} fd {most.cpu_s:.1f} s"
            for process, most in played.load.usages.items()
        )
        print(
            f"{time.monotonic() - began:6.1f} s  {name:14} p50 {healthy.p50_ms:7.1f} ms  p99 {healthy.p99_ms:7.1f} ms  "
            f"ack p99 {healthy.ack_p99_ms:7.1f} ms  {healthy.per_s:6.1f}/s  missing {healthy.missing}  "
            f"idle {played.load.idle_share:.0%} ({usage})",
            flush=True,
        )

    return tell


def _judge(outcome: Outcome, *, strict: bool) -> int:
    goal = GOAL if strict else GATE
    for result in outcome.results:
        ratios = (
            f"p50 x {result.p50_ratio:.2f}, p99 x {result.p99_ratio:.2f}, throughput x {result.throughput_ratio:.2f}"
        )
        verdict = f"{'within' if result.meets(goal) else 'MISSED'} {goal.factor:g} x + {goal.extra_ms:g} ms"
        latencies = f"{result.calm_p99_ms:.1f} -> {result.hostile_p99_ms:.1f} ms"
        print(f"{outcome.system} {result.step:14} healthy p99 {latencies}, {ratios}: {verdict}")
        for process in result.over_ceilings():
            print(f"{outcome.system} {result.step:14} OVER ITS CEILING {process}")
    print(outcome.balance)
    is_fine = all(result.meets(goal) and not result.over_ceilings() for result in outcome.results)
    return int(outcome.balance.lost > 0 or not is_fine)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="blast_radius", description=__doc__)
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run", help="play steps such as hang-20, mixed-180, mixed-tenant")
    running.add_argument("steps", nargs="+", metavar="STEP")
    running.add_argument("--system", choices=("pulse", *KINDS), default="pulse")
    running.add_argument("--routes", type=int, default=200)
    running.add_argument("--rate", type=float, default=50, help="messages a second over all routes")
    running.add_argument("--seconds", type=float, default=16, help="of sending in each round")
    running.add_argument("--pairs", type=int, default=5, help="rounds of each step")
    running.add_argument("--gate", action="store_true", help="judge by twice the goal")
    running.add_argument("--into", type=Path, help="file for the results")
    running.set_defaults(work=_run)
    reporting = commands.add_parser("report", help="write table and plot from result files")
    reporting.add_argument("files", nargs="+", type=Path)
    reporting.add_argument("--plot", type=Path, required=True)
    reporting.add_argument("--page", type=Path, required=True)
    reporting.set_defaults(work=_report)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _options()
    raise SystemExit(arguments.work(arguments))
