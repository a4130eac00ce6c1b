"""Latency histograms as small pictures, one above the other.

They share one logarithmic axis in multiples of each graph's median: how steady a graph is can be compared, however fast
it is. The last bar holds everything slower.
"""

import math
from collections.abc import Sequence
from html import escape

from edge.benchmarks import figures, palette
from edge.benchmarks.report import Report, Row, by_graph, method_name, run_name

WIDTH, HEIGHT, TOP, BOTTOM = 480, 78, 22, 74
LETTER = 8.5  # its width, about
STYLE = """.histogram text{font:15px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--muted)}
.histogram .label{font-weight:600}
.histogram .base{stroke:var(--line)}
.histogram .median{stroke:var(--ink);stroke-width:1.5}
.histograms{display:grid;gap:.5rem}
"""


def histograms(report: Report) -> str | None:
    """SVG elements for the smallest batch of every graph; None if no row holds a histogram and a median."""
    shown = [rows[0] for rows in by_graph(report["results"])]
    shown = [row for row in shown if _can_be_drawn(row)]
    if not shown:
        return None
    relative = [[edge / row["latency_ms"]["p50"] for edge in row["latency_histogram"]["edges"]] for row in shown]
    low, high = min(edges[0] for edges in relative), max(edges[-1] for edges in relative)
    methods = list(dict.fromkeys(method_name(row, report) for row in report["results"]))
    pictures = [
        _histogram(
            row,
            run_name(row, report),
            palette.series(methods.index(method_name(row, report))),
            [_x(edge, low, high) for edge in edges],
            _x(1, low, high),
        )
        for row, edges in zip(shown, relative, strict=True)
    ]
    return f'<div class="histograms">{"".join(pictures)}{_axis(low, high)}</div>'


def _can_be_drawn(row: Row) -> bool:
    counted = row.get("latency_histogram")
    return bool(counted and row["latency_ms"]["p50"] and counted["edges"][0] > 0 and any(counted["counts"]))


def _x(relative: float, low: float, high: float) -> float:
    return 4 + (WIDTH - 8) * math.log(relative / low) / math.log(high / low)


def _histogram(row: Row, name: str, colour: str, edges: Sequence[float], median: float) -> str:
    counts: Sequence[int] = row["latency_histogram"]["counts"]
    tallest = max(counts)
    bars = "".join(
        f"M{left:.1f} {BOTTOM}V{BOTTOM - (BOTTOM - TOP) * count / tallest:.1f}H{right:.1f}V{BOTTOM}z"
        for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True)
        if count
    )
    latency = row["latency_ms"]
    texts = [f"{p} {figures.milliseconds(latency[p])}" for p in ("p50", "p90", "p99")]
    if LETTER * (len(name) + len(" · ".join(texts))) > WIDTH - 40:
        del texts[1]
    said = " · ".join(texts)
    return (
        f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f'<text class="label" x="4" y="15" style="fill:{colour}">{escape(name)}</text>'
        f'<text x="{WIDTH - 4}" y="15" text-anchor="end">{said} ms</text>'
        f'<path d="{bars}" style="fill:{colour}" fill-opacity=".75"/>'
        f'<path class="median" d="M{median:.1f} {TOP - 3}V{BOTTOM}"/>'
        f'<path class="base" d="M4 {BOTTOM}H{WIDTH - 4}"/></svg>'
    )


def _axis(low: float, high: float) -> str:
    """Multiples of the median: five round ones at most."""
    every = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, 50.0)
    ticks = [tick for tick in every if low < tick < high]
    others = [tick for tick in ticks if tick != 1]
    texts = "".join(
        f'<text x="{_x(tick, low, high):.1f}" y="13" text-anchor="middle">{tick:g}</text>'
        for tick in (1.0, *others[:: len(others) // 5 + 1])
        if 12 < _x(tick, low, high) < WIDTH - 90 and (tick == 1 or abs(_x(tick, low, high) - _x(1, low, high)) > 30)
    )
    said = f'<text x="{WIDTH - 4}" y="13" text-anchor="end">x median</text>'
    return f'<svg class="histogram" viewBox="0 0 {WIDTH} 18" aria-hidden="true">{texts}{said}</svg>'
