"""`just chaos`: plays cells, prints a row for each, and ends with 1 if one has findings or failed.

python tests/chaos/run.py [--cell N]... [--seed S]... [--long] [--outage S] [--results FILE]
"""

import argparse
import asyncio
import sys
import tempfile
import traceback
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from chaos_campaign import Report, play
from chaos_cells import CELLS, Cell
from chaos_site import LONG, SHORT, Ground, Scale, Site, open_site

from pulse_testkit.faults import FaultUnavailable

HEADER = (
    "| cell | fault | seed | acknowledged | duplicates | settled in s "
    "| healthy p99 in ms, before / after | most memory in MiB | took s | findings |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)

_LEAST_RATE = 10
"""Messages a second that gather while PostgreSQL is down, at least."""


async def main() -> int:
    wanted = _arguments()
    cells = [cell for cell in CELLS if not wanted.cell or cell.number in wanted.cell]
    seeds = wanted.seed or [int(datetime.now(UTC).timestamp()) % 100_000]
    scale = LONG if wanted.long else SHORT
    if wanted.outage:
        scale = replace(scale, backlog_s=wanted.outage, backlog=int(_LEAST_RATE * wanted.outage))
    _tell([f"{scale.name} form, PostgreSQL down for {scale.backlog_s:g} s, seeds {', '.join(map(str, seeds))}"])
    _say(HEADER, wanted.results)
    failed = 0
    for ground in Ground:
        if chosen := [cell for cell in cells if cell.ground is ground]:
            failed += await _play_on(ground, chosen, seeds, scale, wanted.results)
    return min(failed, 1)


async def _play_on(ground: Ground, cells: list[Cell], seeds: list[int], scale: Scale, results: Path | None) -> int:
    failed = 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        try:
            async with open_site(Path(folder), ground) as site:
                for cell in cells:
                    for seed in seeds:
                        failed += await _play(site, cell, seed, scale, results)
        except FaultUnavailable as exc:
            for cell in cells:
                _say(f"| {cell.number} | {cell.name} | - | - | - | - | - | - | - | skipped: {exc} |", results)
    return failed


async def _play(site: Site, cell: Cell, seed: int, scale: Scale, results: Path | None) -> bool:
    """Play one cell; whether it failed. A run that shows nothing does not keep the others from being played."""
    try:
        report = await play(site, cell, seed, scale)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is this cell's result
        _tell(traceback.format_exception(exc))
        reason = " ".join(str(_first(exc)).split()) or type(exc).__name__
        _say(f"| {cell.number} | {cell.name} | {seed} | - | - | - | - | - | - | failed: {reason} |", results)
        return True
    _say(report.line(), results)
    _tell(_explanation(report))
    return bool(report.findings)


def _first(exc: BaseException) -> BaseException:
    """Return what failed at first, out of the groups around it."""
    if isinstance(exc, BaseExceptionGroup):
        return _first(cast("BaseExceptionGroup[BaseException]", exc).exceptions[0])
    return exc


def _explanation(report: Report) -> Iterable[str]:
    peaks = (f"{peak.name}: {peak.seen:.0f} of {peak.cap:.0f}" for peak in report.peaks)
    complaints = (f"/ready of {name}: {', '.join(said)}" for name, said in report.complaints.items() if said)
    return (*report.proofs, *map(str, report.explained), *complaints, *peaks, *map(str, report.findings))


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(f"  {line.rstrip()}\n")
    sys.stderr.flush()


def _say(line: str, results: Path | None) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    if results:
        with results.open("a") as file:
            file.write(f"{line}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", type=int, action="append", choices=[cell.number for cell in CELLS])
    parser.add_argument("--seed", type=int, action="append", help="the same seed sends the same and strikes alike")
    parser.add_argument("--long", action="store_true", help="a minute instead of seconds")
    parser.add_argument("--outage", type=float, help="seconds that PostgreSQL is down, instead of what the form says")
    parser.add_argument("--results", type=Path, help="a file to append the table to")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
