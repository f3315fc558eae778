"""The report: one table for the README, one plot, from any number of result files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from blast_radius.figures import over_ceilings
from blast_radius.plot import render
from blast_radius.records import Record, Row, read

_BEGIN: Final = "<!-- blast radius: begin -->"
_END: Final = "<!-- blast radius: end -->"
_HEAD: Final = (
    "| | hostile routes | healthy p99 without → beside | p50 ratio | p99 ratio | throughput ratio | goal |",
    "|---|---|---|---|---|---|---|",
)
_NAMES: Final = {"pulse": "**Pulse**", "inline": "inline, 4 workers", "queued": "queue in memory, 2 workers"}


def report(files: Sequence[Path], plot: Path, page: Path) -> bool:
    """Write the plot, and the table into *page* between its two marks; raises `ValueError` if it has none.

    Returns whether Pulse, in all of *files*, was within the goal and below its ceilings, and lost and kept nothing.
    """
    records = sorted(map(read, files), key=_place)
    rows = [row for record in records for row in record.rows]
    plot.write_text(render(rows), encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{page}: no marks {_BEGIN} … {_END}")
    table = "\n".join([*_HEAD, *map(_line, rows), "", *_notes(records)])
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")
    return all(map(_is_fine, (record for record in records if record.rows[0].system == "pulse")))


def _is_fine(record: Record) -> bool:
    balance = record.balance
    is_kept_or_lost = balance.lost or balance.waiting
    return not (is_kept_or_lost or over_ceilings(record.usage)) and all(row.is_within_goal for row in record.rows)


def _place(record: Record) -> tuple[int, int, str]:
    """Pulse before what it is compared with, the extreme after the rest, otherwise in the order of time."""
    first = record.rows[0]
    return list(_NAMES).index(first.system), first.routes, record.at


def _line(row: Row) -> str:
    latencies = f"{_ms(row.calm_p99_ms)} → {_ms(row.hostile_p99_ms)}"
    ratios = " | ".join(map(_times, (row.p50_ratio, row.p99_ratio, row.throughput_ratio)))
    verdict = "within" if row.is_within_goal else "**missed**"
    mode = row.step.rpartition("-")[0]
    hostile = f"{row.hostile_routes:,} of {row.routes:,}{', one tenant' if row.step.endswith('tenant') else ''}: {mode}"
    return f"| {_NAMES[row.system]} | {hostile} | {latencies} | {ratios} | {verdict} |"


def _notes(records: Iterable[Record]) -> list[str]:
    lines: list[str] = []
    for record in records:
        balance, first = record.balance, record.rows[0]
        kept = f"delivered {balance.delivered:,}, twice {balance.duplicates:,}, dead-lettered {balance.dead_lettered:,}"
        most = ", ".join(
            f"{process} {usage.rss_mib:.0f} MiB and {usage.sockets:,} sockets"
            for process, usage in record.usage.items()
        )
        pace = f"{first.routes:,} routes, {record.rate_per_s:g} messages a second, {first.pairs} pairs"
        books = f"sent {balance.sent:,}, acknowledged {balance.acknowledged:,}, {kept}, **lost {balance.lost:,}**"
        when = f"{record.at[:10]}, {record.machine}"
        lines.append(f"* {_NAMES[first.system]}, {pace}: {books}; at most {most}. {when}.")
    return lines


def _ms(value: float | None) -> str:
    if value is None:
        return "never"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def _times(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}"
