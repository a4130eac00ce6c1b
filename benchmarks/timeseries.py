"""Minutes under load as pictures: latency, temperature and power over time, one below the other for each graph.

A panel whose figures no sensor gave is left out: a drawn line is always a measured one.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from edge.benchmarks import figures, palette
from edge.benchmarks.axes import round_values
from edge.benchmarks.report import Report, Row, method_name, run_name

WIDTH, LEFT, RIGHT = 480, 56, 472
HEAD, PANEL, GAP, FOOT = 24, 96, 26, 24  # heights
STYLE = """.series text{font:15px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--muted)}
.series .label{font-weight:600}
.series .grid{stroke:var(--line)}
.series .line{fill:none;stroke-width:1.75;stroke-linejoin:round}
.series-all{display:grid;gap:1.5rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr))}
"""
PANELS = {
    "p50": "p50 of latency, ms",
    "p99": "p99 of latency, ms",
    "temperature_c": "temperature, °C",
    "power_w": "power, W",
}


def pictures(report: Report) -> str | None:
    """An <svg> for each entry of the report's `sustained`; None if there is none to draw."""
    methods = list(dict.fromkeys(method_name(row, report) for row in report["results"]))
    drawn = []
    for row in report.get("sustained", []):
        method = method_name(row, report)
        place = methods.index(method) if method in methods else len(methods)
        drawn.append(_picture(row, run_name(row, report), palette.series(place)))
    whole = "".join(drawn)
    return f'<div class="series-all">{whole}</div>' if whole else None


def _picture(row: Row, name: str, colour: str) -> str:
    windows = row["windows"]
    panels = [key for key in PANELS if any(window[key] is not None for window in windows)]
    if not panels:
        return ""
    minutes, unit = (60.0, "min") if row["duration_s"] >= 120 else (1.0, "s")
    times, end = [window["t_s"] / minutes for window in windows], row["duration_s"] / minutes
    parts, top = [], HEAD + GAP
    for key in panels:
        parts += _panel(PANELS[key], [window[key] for window in windows], times, end, top, colour)
        top += PANEL + GAP
    bottom, height = top - GAP, top - GAP + FOOT
    for tick in round_values(0.0, end, 5):
        x = _x(tick, end)
        if x < RIGHT - 30:
            parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    said = f"batch {row['batch']}, end / begin {figures.short(row['slowdown'])}"
    return (
        f'<svg class="series" viewBox="0 0 {WIDTH} {height}" role="img"><title>{escape(name)}: {said}</title>'
        f'<text class="label" x="4" y="16" style="fill:{colour}">{escape(name)}</text>'
        f'<text x="{RIGHT}" y="16" text-anchor="end">{said}</text>{"".join(parts)}'
        f'<text x="{RIGHT}" y="{bottom + 18}" text-anchor="end">{unit}</text></svg>'
    )


def _panel(
    title: str, line: Sequence[float | None], times: Sequence[float], end: float, top: float, colour: str
) -> list[str]:
    known = [value for value in line if value is not None]
    low, high = min(known), max(known)
    room = max(0.1 * (high - low), 0.02 * abs(high), 1e-9)
    low, high = max(0.0, low - room) if low >= 0 else low - room, high + room

    def y(value: float) -> float:
        return top + PANEL - (value - low) / (high - low) * PANEL

    parts = [f'<text x="{LEFT}" y="{top - 8}">{title}</text>']
    for tick in round_values(low, high, 3):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 5:.1f}" text-anchor="end">{_said(tick)}</text>')
    parts.append(f'<path class="line" style="stroke:{colour}" d="{_path(line, times, end, y)}"/>')
    return parts


def _path(line: Sequence[float | None], times: Sequence[float], end: float, y: Any) -> str:
    """Windows without a figure leave a gap; a lone window is a dot's width long."""
    path, drawing = "", False
    for t, value in zip(times, line, strict=True):
        if value is not None:
            path += f"{'L' if drawing else 'M'}{_x(t, end):.1f} {y(value):.1f}" + ("" if drawing else "h1")
        drawing = value is not None
    return path


def _x(t: float, end: float) -> float:
    return LEFT + t / end * (RIGHT - LEFT)


def _said(tick: float) -> str:
    return "0" if math.isclose(tick, 0, abs_tol=1e-12) else f"{tick:.4g}"
