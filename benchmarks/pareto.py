"""The Pareto picture: latency against accuracy, one mark per graph, drawn as SVG by hand.

    python -m edge.benchmarks.pareto report.json pareto.svg

Across: median latency at the smallest batch, on a logarithmic axis. Up: the metric with its 95 % interval. Colour tells
the method, form the precision (circle FP32, square INT8, diamond others). A filled mark is Pareto-best: no other graph
is as fast and as good. The dashed line joins those. Where energy was measured for every graph, the area of a mark is
its energy per sample. It is drawn for 480 units, so that it can be read on a phone.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from edge.benchmarks import figures, palette
from edge.benchmarks.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale
from edge.benchmarks.report import Report, by_graph, method_name, read_report, run_name
from edge.errors import InputError
from edge.files import write_text

RADIUS, LEAST_RADIUS, LARGEST_RADIUS = 6.0, 4.0, 13.0
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
    energy: float | None = None  # mJ per sample


def points(report: Report) -> list[Point]:
    """The graphs of a report that have both a latency and a metric."""
    found = []
    for rows in by_graph(report["results"]):
        row = rows[0]
        latency, metric = row["latency_ms"]["p50"], row["metric"]
        if latency and metric is not None:
            low, high = row["metric_ci95"] or (metric, metric)
            found.append(
                Point(
                    run_name(row, report),
                    method_name(row, report),
                    row["precision"],
                    latency,
                    metric,
                    low,
                    high,
                    row["energy_mj"],
                )
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
    radii = _radii(found)
    metric = figures.metric_name(report["metric"]["name"])
    first = min(row["batch"] for row in report["results"])
    summary = "; ".join(f"{p.label}: {figures.significant(p.latency)} ms, {p.metric:.3f}" for p in found)
    return "\n".join(
        [
            f'<svg class="pareto" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{escape(metric)} against latency. {escape(summary)}</title>",
            *_axes(scale, metric, f"median latency at batch {first}, ms (log)"),
            _energy_legend(found),
            _front(best, scale),
            *(_whisker(p, scale, colours[p.method]) for p in found),
            *_labels(found, best, radii, scale, colours),
            *(
                _mark(p, scale, r, colours[p.method], p in best)
                for p, r in sorted(zip(found, radii, strict=True), key=lambda pair: -pair[1])
            ),
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


def _radii(found: Sequence[Point]) -> list[float]:
    """Of the marks: area as energy if all of them have one, else all alike. The least ones stay visible."""
    energies = [p.energy for p in found if p.energy is not None and p.energy > 0]
    if len(energies) < len(found):
        return [RADIUS] * len(found)
    return [max(LEAST_RADIUS, LARGEST_RADIUS * math.sqrt(energy / max(energies))) for energy in energies]


def _energy_legend(found: Sequence[Point]) -> str:
    """What the largest mark stands for; nothing where marks are all alike."""
    energies = [p.energy for p in found if p.energy is not None and p.energy > 0]
    if len(energies) < len(found):
        return ""
    said = f"area: energy, largest {figures.short(max(energies))} mJ"
    return f'<text x="{RIGHT}" y="18" text-anchor="end">{said}</text>'


def _mark(p: Point, scale: Scale, r: float, colour: str, filled: bool) -> str:
    x, y = scale.x(p.latency), scale.y(p.metric)
    style = f'class="mark" style="stroke:{colour};fill:{colour if filled else "var(--surface)"}"'
    if p.precision == "fp32":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" {style}/>'
    if p.precision.startswith("int8"):
        half = 0.886 * r  # a square of the circle's area
        place = f'x="{x - half:.1f}" y="{y - half:.1f}" width="{2 * half:.1f}" height="{2 * half:.1f}"'
        return f'<rect {place} rx="1.5" {style}/>'
    d = round(1.253 * r, 1)  # a diamond of the circle's area
    return f'<path d="M{x:.1f} {y - d:.1f}l{d} {d}l-{d} {d}l-{d} -{d}z" {style}/>'


def _labels(
    found: Sequence[Point], best: Sequence[Point], radii: Sequence[float], scale: Scale, colours: dict[str, str]
) -> list[str]:
    """The names beside the marks, right of them where there is room, above or below what stands there already; a line
    leads back from those that had to move.
    """
    parts = []
    taken = [  # left, right, middle, half of the height
        (x - r - 2, x + r + 2, scale.y(p.metric), r)
        for p, r in zip(found, radii, strict=True)
        for x in [scale.x(p.latency)]
    ]
    ends = [*(scale.x(p.latency) for p in best[1:]), float(RIGHT)]  # of the steps of the front
    taken += [(scale.x(p.latency), end, scale.y(p.metric), 1.0) for p, end in zip(best, ends, strict=True)]
    for p, r in sorted(zip(found, radii, strict=True), key=lambda pair: scale.y(pair[0].metric)):
        x, mark_y = scale.x(p.latency), scale.y(p.metric)
        name = p.label if len(p.label) <= 24 else p.label[:23] + "…"
        width = 9.3 * len(name)
        away = r + 5
        side, anchor = (1, "start") if x + away + width < WIDTH else (-1, "end")
        left = x + away if side == 1 else x - away - width
        beside = [(y, half) for start, end, y, half in taken if left < end and start < left + width]
        y = _free(max(mark_y - LABEL_RISE, TOP), beside)
        taken.append((left, left + width, y, LABEL_HEIGHT / 2))
        if abs(y + LABEL_RISE - mark_y) > 12:
            parts.append(
                f'<path class="leader" d="M{x + side * (r + 1):.1f} {mark_y:.1f}L{x + side * (r + 7):.1f} {y:.1f}"/>'
            )
        parts.append(
            f'<text class="label" x="{x + side * away:.1f}" y="{y + 5:.1f}" text-anchor="{anchor}" '
            f'style="fill:{colours[p.method]}">{escape(name)}</text>'
        )
    return parts


def _free(wanted: float, taken: Sequence[tuple[float, float]]) -> float:
    """The height nearest to `wanted` at which a name covers nothing; `taken` are middles and half heights."""
    steps = sorted(range(int(TOP), int(BOTTOM) - LABEL_HEIGHT // 2), key=lambda y: abs(y - wanted))
    return next((y for y in (wanted, *steps) if all(abs(y - m) >= h + LABEL_HEIGHT / 2 for m, h in taken)), wanted)


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
