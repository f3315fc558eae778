"""The plot: healthy routes' p99 without and beside hostility, one line a step, on a logarithmic scale. Plain SVG."""

import math
from collections.abc import Sequence
from typing import Final

from blast_radius.figures import GOAL
from blast_radius.records import Row

_WIDTH: Final = 860
_LEFT, _RIGHT, _TOP, _LINE = 250, 90, 64, 24
_LEAST_MS, _MOST_MS = 10.0, 20_000.0
_TICKS: Final = ((10, "10 ms"), (100, "100 ms"), (1_000, "1 s"), (10_000, "10 s"))
_GOOD, _BAD, _CALM, _FAINT, _TEXT = "#2563eb", "#dc2626", "#9ca3af", "#e5e7eb", "#374151"
_OPENING: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" '
    'font-size="12" fill="{text}">'
)
_SUBTITLE: Final = (
    "p99 from the device to the receiver: grey without, in colour beside hostile routes. "
    f"The bar is the goal: {GOAL.factor:g} times and {GOAL.extra_ms:g} ms more."
)
_NAMES: Final = {"pulse": "Pulse", "inline": "inline", "queued": "queue in memory"}


def render(rows: Sequence[Row]) -> str:
    """Return the SVG; what never arrives is drawn at the right edge, with an arrow."""
    height = _TOP + _LINE * len(rows) + 48
    parts = [
        _OPENING.format(width=_WIDTH, height=height, text=_TEXT),
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 24, "What healthy routes notice of hostile ones", size=15, weight=600),
        _text(16, 42, _SUBTITLE),
        *_axis(height),
        *(part for nth, row in enumerate(rows) for part in _draw(row, _TOP + _LINE * nth + _LINE / 2)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axis(height: float) -> list[str]:
    bottom = height - 36
    return [
        part
        for ms, label in _TICKS
        for part in (
            f'<line x1="{_x(ms):.1f}" y1="{_TOP}" x2="{_x(ms):.1f}" y2="{bottom}" stroke="{_FAINT}"/>',
            _text(_x(ms), bottom + 18, label, anchor="middle"),
        )
    ]


def _draw(row: Row, y: float) -> list[str]:
    calm, hostile = _x(row.calm_p99_ms), _x(row.hostile_p99_ms)
    colour = _GOOD if row.is_within_goal else _BAD
    name = f"{_NAMES[row.system]}: {row.step.rpartition('-')[0]}, {row.hostile_routes:,} of {row.routes:,}"
    parts = [
        _text(_LEFT - 12, y + 4, name, anchor="end"),
        f'<line x1="{calm:.1f}" y1="{y}" x2="{hostile:.1f}" y2="{y}" stroke="{colour}" stroke-width="2"/>',
        f'<circle cx="{calm:.1f}" cy="{y}" r="4.5" fill="{_CALM}"/>',
        f'<circle cx="{hostile:.1f}" cy="{y}" r="4.5" fill="{colour}"/>',
        _text(hostile + 9, y + 4, "never →" if row.hostile_p99_ms is None else _ms(row.hostile_p99_ms), fill=colour),
    ]
    if row.calm_p99_ms is not None:
        goal = _x(GOAL.bound_ms(row.calm_p99_ms))
        parts.insert(1, f'<line x1="{goal:.1f}" y1="{y - 8}" x2="{goal:.1f}" y2="{y + 8}" stroke="{_TEXT}"/>')
    return parts


def _x(ms: float | None) -> float:
    clamped = min(max(_MOST_MS if ms is None else ms, _LEAST_MS), _MOST_MS)
    share = math.log(clamped / _LEAST_MS) / math.log(_MOST_MS / _LEAST_MS)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: int = 400, fill: str = _TEXT
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{fill}">{text}</text>'
    )
