"""Two reports as a page and a picture: how much slower and how much better every graph became.

Left, latency as B over A on a logarithmic axis: circle p50, square p99. Right, the metric in points. A line through a
mark spans what the change can be if both values are anywhere in their 95 % intervals: more than 95 %, and far more
where both metrics come from the same samples. Green is better, red is worse, grey is not told apart from no change.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from edge.benchmarks import figures
from edge.benchmarks.axes import round_values
from edge.benchmarks.compare import Change, comparison_lines
from edge.benchmarks.page import facts, figure, page, section, table, warnings
from edge.benchmarks.report import Report

WIDTH, TOP, ROW = 480, 52, 50
LATENCY, METRIC = (8.0, 268.0), (300.0, 472.0)  # left and right end of the two panels
STYLE = """.changes text{font:15px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--muted)}
.changes .label{fill:var(--ink);font-weight:600;paint-order:stroke;stroke:var(--surface);stroke-width:4px}
.changes .grid{stroke:var(--line)}
.changes .same{stroke:var(--ink);stroke-width:1.25}
.changes .better{fill:var(--good);stroke:var(--good)}
.changes .worse{fill:var(--bad);stroke:var(--bad)}
.changes .equal{fill:var(--muted);stroke:var(--muted)}
.changes .span{stroke-width:1.75;opacity:.55}
"""


def comparison_html(comparison: dict[str, Any], before: Report, after: Report, names: tuple[str, str]) -> str:
    """The page for what `compare` found; `names` are what the user called the two reports."""
    head, *lines = comparison_lines(comparison)
    alone = [f"Only in {where}: {name}" for where in "AB" for name in comparison[_ONLY[where]]]
    doubts = [
        f"{where}: {text}" for where, report in zip("AB", (before, after), strict=True) for text in report["warnings"]
    ]
    about = {
        f"{where}: {key}": str(value)
        for where, name, report in zip("AB", names, (before, after), strict=True)
        for key, value in (
            ("report", name), ("processor", report["machine"]["cpu"] or figures.NOT_MEASURED),
            ("measured", report["created"]), ("command", report["command"] or figures.NOT_MEASURED),
        )
    }  # fmt: skip
    parts = [
        f"<header><h1>A {escape(names[0])} → B {escape(names[1])}</h1></header>",
        warnings(comparison["warnings"] + alone + doubts),
        _failed(comparison["failed"]),
        section("What changed", figure(changes_svg(comparison), "")),
        section("Side by side", table(head, lines)),
        section("Reports", facts(about, "wide")),
    ]
    return page("Two reports compared", parts, STYLE, "edge.compare/1")


_ONLY = {"A": "only_before", "B": "only_after"}


def changes_svg(comparison: dict[str, Any]) -> str:
    """The picture; a change that is not known leaves its place empty."""
    rows = comparison["rows"]
    latencies = [_logs(row["changes"][name]) for row in rows for name in ("p50", "p99")]
    widest = max((abs(v) for values in latencies for v in values), default=0.0)
    across = _Panel(*LATENCY, max(widest, math.log(1.05)))
    points = [v for row in rows for v in _points(row["changes"]["metric"])]
    metric = _Panel(*METRIC, max((abs(v) for v in points), default=0.0) or 1.0)
    bottom = TOP + ROW * len(rows)
    name = figures.metric_name(comparison["metric"]["name"])
    parts = [
        f'<text x="{LATENCY[0]}" y="16">latency, B / A</text>',
        f'<text x="{METRIC[1]}" y="16" text-anchor="end">{escape(name)}, points</text>',
        *_axis(across, bottom, [(math.log(r), f"{r:g}") for r in _ratios(across.reach)]),
        *_axis(metric, bottom, [(v, f"{v:+.3g}" if v else "0") for v in round_values(-metric.reach, metric.reach, 4)]),
    ]
    up = 1 if comparison["metric"]["higher_is_better"] else -1
    for i, row in enumerate(rows):
        y, changes = TOP + ROW * i, row["changes"]
        label = f"{row['name']}, batch {row['row']['batch']}"
        parts.append(f'<text class="label" x="{LATENCY[0]}" y="{y + 4}">{escape(label)}</text>')
        parts.append(_mark(across, _logs(changes["p50"]), y + 16, -1, "circle"))
        parts.append(_mark(across, _logs(changes["p99"]), y + 28, -1, "square"))
        parts.append(_mark(metric, _points(changes["metric"]), y + 22, up, "circle"))
    said = "circle p50, square p99; line: both anywhere in their 95 %"
    return (
        f'<svg class="changes" viewBox="0 0 {WIDTH} {bottom + 48}" role="img"><title>What changed from A to B</title>'
        f'{"".join(parts)}<text x="{LATENCY[0]}" y="{bottom + 42}">{said}</text></svg>'
    )


class _Panel:
    """From -reach .. reach to places across."""

    def __init__(self, left: float, right: float, reach: float) -> None:
        self.left, self.right, self.reach = left, right, 1.1 * reach

    def x(self, value: float) -> float:
        return self.left + (value / self.reach + 1) / 2 * (self.right - self.left)


def _logs(change: Change) -> list[float]:
    """Logarithm of B / A, and of its bounds if they are known."""
    if not change.before or not change.after:
        return []
    found, a, b = [math.log(change.after / change.before)], change.before_ci95, change.after_ci95
    if a and b and min(*a, *b) > 0:
        found += [math.log(b[0] / a[1]), math.log(b[1] / a[0])]
    return found


def _points(change: Change) -> list[float]:
    return [] if change.absolute is None else [change.absolute, *(change.interval or [])]


def _ratios(reach: float) -> list[float]:
    """Round ratios on both sides of 1 that `reach` (a logarithm) holds: the two largest steps."""
    steps = [r for r in (1.02, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100) if math.log(r) < 0.9 * reach]
    chosen = steps[-1:]
    return [*(float(f"{1 / r:.2g}") for r in chosen), 1.0, *chosen]


def _axis(panel: _Panel, bottom: float, ticks: Sequence[tuple[float, str]]) -> list[str]:
    parts = []
    for value, said in ticks:
        kind, x = ("same" if abs(value) < 1e-12 else "grid"), panel.x(value)
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="28" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{said}</text>')
    return parts


def _mark(panel: _Panel, values: Sequence[float], y: float, up: int, form: str) -> str:
    """Coloured where the whole span is on one side of no change; grey where it is not told apart from none."""
    if not values:
        return ""
    low, high = (min(values), max(values)) if len(values) > 1 else (values[0], values[0])
    kind = "equal" if low <= 0 <= high else "better" if up * values[0] > 0 else "worse"
    x = panel.x(values[0])
    line = f'<line class="span {kind}" x1="{panel.x(low):.1f}" x2="{panel.x(high):.1f}" y1="{y}" y2="{y}"/>'
    if form == "circle":
        return f'{line}<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="4.5"/>'
    return f'{line}<rect class="{kind}" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'


def _failed(failed: Sequence[str]) -> str:
    items = "".join(f'<li class="bad"><b>failed</b><span>{escape(text)}</span></li>' for text in failed)
    return section("Conditions that failed", f'<ul class="gates">{items}</ul>') if failed else ""
