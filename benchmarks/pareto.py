"""The Pareto picture: latency against accuracy, one mark per graph, drawn as SVG by hand.

    python -m edge.benchmarks.pareto report.json pareto.svg

Across: median latency at the smallest batch, on a logarithmic axis. Up: the metric with its 95 % interval. Colour tells
the method, form the precision (circle FP32, square INT8, diamond others). A filled mark is Pareto-best: no other graph
is as fast and as good. The dashed line joins those. It is drawn for 480 units, so that it can be read on a phone.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from edge.benchmarks import figures, palette
from edge.benchmarks.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale
from edge.benchmarks.report import Report, by_graph, graph_name, method_name, read_report
from edge.errors import InputError
from edge.files import write_text

LABEL_HEIGHT = 18
LABEL_RISE = 11  # names stand above the line of the front

STYLE = """.pareto text{font:14.5px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--muted)}
.pareto .label{font-weight:600;font-size:15px}
.pareto .label{paint-order:stroke;stroke:var(--surface);stroke-width:4px;stroke-linejoin:round}
.pareto .grid{stroke:var(--line);stroke-width:1}
.pareto .front{stroke:var(--muted);stroke-width:1.5;stroke-dasharray:2 4;fill:none;stroke-linecap:round}
.pareto .whisker{stroke-width:1.5;opacity:.6}
.pareto .leader{stroke:var(--muted);stroke-width:1;opacity:.6}
.pareto .mark{stroke-width:2.25}
"""


@dataclass(frozen=True)
class Point:
    """One graph in the picture."""

    label: str
    method: str
    precision: str
    latency: float  # ms
    metric: float
    low: float
    high: float


def points(report: Report) -> list[Point]:
    """The graphs of a report that have both a latency and a metric."""
    found = []
    for rows in by_graph(report["results"]):
        row = rows[0]
        latency, metric = row["latency_ms"]["p50"], row["metric"]
        if latency and metric is not None:
            low, high = row["metric_ci95"] or (metric, metric)
            found.append(
                Point(graph_name(row, report), method_name(row, report), row["precision"], latency, metric, low, high)
            )
    return found


def pareto_best(found: Sequence[Point], higher_is_better: bool = True) -> list[Point]:
    """The points that no other one beats: none is at least as fast and as good, and better in one of both."""
    sign = 1 if higher_is_better else -1

    def beaten(p: Point) -> bool:
        return any(
            q.latency <= p.latency
            and sign * q.metric >= sign * p.metric
            and (q.latency < p.latency or sign * q.metric > sign * p.metric)
            for q in found
        )

    return sorted((p for p in found if not beaten(p)), key=lambda p: p.latency)


def pareto_svg(report: Report) -> str | None:
    """The picture as an <svg> element that takes STYLE and the colours from its page; None without a metric."""
    found = points(report)
    if not found:
        return None
    best = pareto_best(found, report["metric"]["higher_is_better"])
    scale = Scale([p.latency for p in found], [m for p in found for m in (p.low, p.metric, p.high)])
    colours = {method: palette.series(i) for i, method in enumerate(dict.fromkeys(p.method for p in found))}
    metric = figures.metric_name(report["metric"]["name"])
    first = min(row["batch"] for row in report["results"])
    summary = "; ".join(f"{p.label}: {figures.significant(p.latency)} ms, {p.metric:.3f}" for p in found)
    return "\n".join(
        [
            f'<svg class="pareto" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{escape(metric)} against latency. {escape(summary)}</title>",
            *_axes(scale, metric, f"median latency at batch {first}, ms (log)"),
            _front(best, scale),
            *(_whisker(p, scale, colours[p.method]) for p in found),
            *_labels(found, scale, colours),
            *(_mark(p, scale, colours[p.method], p in best) for p in found),
            "</svg>",
        ]
    )


def standalone_svg(report: Report) -> str:
    """The picture as a file of its own, for a README; InputError if the report has no metric."""
    picture = pareto_svg(report)
    if picture is None:
        raise InputError(
            "the report holds no metric, so there is nothing to draw; measure with `edge bench --data FILE`"
        )
    head, _, rest = picture.partition("\n")
    style = palette.variables(".pareto") + STYLE
    frame = f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="var(--surface)"/>'
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)  # needed in a file, not in a page
    return f"{head}\n<style>\n{style}</style>\n{frame}\n{rest}\n"


def _axes(scale: Scale, up: str, across: str) -> list[str]:
    parts = []
    metrics = scale.metrics()
    decimals = max(0, -math.floor(math.log10(metrics[1] - metrics[0]) + 1e-9)) if len(metrics) > 1 else 3
    for metric in metrics:
        y = scale.y(metric)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{metric:.{decimals}f}</text>')
    for latency in scale.latencies():
        x = scale.x(latency)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{BOTTOM}" y2="{BOTTOM + 5}"/>')
        parts.append(f'<text x="{x:.1f}" y="{BOTTOM + 22}" text-anchor="middle">{latency:g}</text>')
    parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>')
    parts.append(f'<text x="{LEFT - 46}" y="18">{escape(up)}, 95 % interval</text>')
    parts.append(f'<text x="{RIGHT}" y="{BOTTOM + 46}" text-anchor="end">{escape(across)}</text>')
    parts.append(f'<text x="{LEFT - 46}" y="{BOTTOM + 46}">filled: Pareto-best</text>')
    return parts


def _front(best: Sequence[Point], scale: Scale) -> str:
    """A line of steps: at a given latency, the best metric that is to be had."""
    path = f"M{scale.x(best[0].latency):.1f} {scale.y(best[0].metric):.1f}"
    for p in best[1:]:
        path += f"H{scale.x(p.latency):.1f}V{scale.y(p.metric):.1f}"
    return f'<path class="front" d="{path}H{RIGHT}"/>'


def _whisker(p: Point, scale: Scale, colour: str) -> str:
    x, low, high = scale.x(p.latency), scale.y(p.low), scale.y(p.high)
    path = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"
    return f'<path class="whisker" d="{path}" style="stroke:{colour}" fill="none"/>'


def _mark(p: Point, scale: Scale, colour: str, filled: bool) -> str:
    x, y, r = scale.x(p.latency), scale.y(p.metric), 6.0
    style = f'class="mark" style="stroke:{colour};fill:{colour if filled else "var(--surface)"}"'
    if p.precision == "fp32":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" {style}/>'
    if p.precision.startswith("int8"):
        return f'<rect x="{x - 5.5:.1f}" y="{y - 5.5:.1f}" width="11" height="11" rx="1.5" {style}/>'
    return f'<path d="M{x:.1f} {y - r - 1:.1f}l{r + 1} {r + 1}l-{r + 1} {r + 1}l-{r + 1} -{r + 1}z" {style}/>'


def _labels(found: Sequence[Point], scale: Scale, colours: dict[str, str]) -> list[str]:
    """The names beside the marks, right of them where there is room; a line leads back from those that had to move."""
    parts = []
    taken: list[tuple[float, float, float]] = []  # left, right, middle height
    for p in sorted(found, key=lambda p: scale.y(p.metric)):
        x, mark_y = scale.x(p.latency), scale.y(p.metric)
        name = p.label if len(p.label) <= 24 else p.label[:23] + "…"
        width = 8.4 * len(name)
        side, anchor = (1, "start") if x + 11 + width < WIDTH else (-1, "end")
        left = x + 11 if side == 1 else x - 11 - width
        y = max(mark_y - LABEL_RISE, TOP)
        for other_left, other_right, other_y in taken:  # from the top, so that moving down once is enough
            if left < other_right and other_left < left + width and abs(y - other_y) < LABEL_HEIGHT:
                y = other_y + LABEL_HEIGHT
        taken.append((left, left + width, y))
        if abs(y + LABEL_RISE - mark_y) > 12:
            parts.append(f'<path class="leader" d="M{x + side * 7:.1f} {mark_y:.1f}L{x + side * 13:.1f} {y:.1f}"/>')
        parts.append(
            f'<text class="label" x="{x + side * 11:.1f}" y="{y + 5:.1f}" text-anchor="{anchor}" '
            f'style="fill:{colours[p.method]}">{escape(name)}</text>'
        )
    return parts


def main(arguments: Sequence[str]) -> None:
    """Draw the picture of the report `arguments[0]` into the file `arguments[1]`."""
    if len(arguments) != 2:
        raise InputError("usage: python -m edge.benchmarks.pareto REPORT.json OUT.svg")
    write_text(Path(arguments[1]), standalone_svg(read_report(Path(arguments[0]))))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        error.show()
        sys.exit(error.exit_code)
