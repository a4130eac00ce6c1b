"""The picture of a training's structure: test samples in the first two principal components of a part's features.

A row of panels for each precision; shared and specific features, each coloured by modality and by class (regression:
by thirds of the target). Principal components are a linear map without settings: what lies apart here is apart. SVG
made by hand, as the learning curves are.
"""

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.benchmarks import palette
from edge.files import write_text
from edge.tasks import Task
from edge.train.structure import Views

Array = npt.NDArray[Any]
SHOWN = ("shared", "specific")
POINTS = 250  # of each modality; more hide each other
CELL, HEAD, FRAME = 230, 62, (14, 216, 30, 196)  # size of a panel, height of the title, left right top bottom
STYLE = """.structure text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--muted)}
.structure .name{font-weight:600;font-size:13.5px;fill:var(--ink)}
.structure .frame{fill:none;stroke:var(--line);stroke-width:1}
.structure .point{fill-opacity:.65}
"""


def draw(file: Path, task: Task, target: Array, views: dict[str, dict[str, Views]]) -> None:
    """Write the SVG; `views` are the test samples' features by precision and modality."""
    modalities, cohorts = list(next(iter(views.values()))), cohorts_of(task, target)
    columns = [(part, by) for part in SHOWN for by in ("modality", cohorts[0])]
    width, height = len(columns) * CELL + 20, HEAD + len(views) * (CELL + 10) + 10
    panels = [
        f'<g transform="translate({10 + column * CELL} {HEAD + row * (CELL + 10)})">'
        f"{''.join(_panel(part, by, precision, found, cohorts[2]))}</g>"
        for row, (precision, found) in enumerate(views.items())
        for column, (part, by) in enumerate(columns)
    ]
    legends = [
        f"by modality: {_legend(modalities)}",
        f"by {escape(cohorts[0])}: {_legend(cohorts[1], first=len(modalities))}",
    ]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="structure" viewBox="0 0 {width} {height}" role="img">',
        "<title>Test samples in the first two principal components of shared and specific features</title>",
        f"<style>\n{palette.variables('.structure')}{STYLE}</style>",
        f'<rect width="{width}" height="{height}" rx="10" fill="var(--surface)"/>',
        *(f'<text x="14" y="{24 + 20 * i}">{legend}</text>' for i, legend in enumerate(legends)),
        *panels,
        "</svg>\n",
    ]
    write_text(file, "\n".join(lines))


def cohorts_of(task: Task, target: Array) -> tuple[str, list[str], Array]:
    """What samples are coloured by: its name, the names of its values, and the value (n,) of each sample of the set.

    Classes beyond the palette share its last colour; a sample of several labels counts by the first that it has.
    """
    if task.kind == "regression":
        cuts = np.quantile(target, (1 / 3, 2 / 3))
        low, high = (f"{cut:.3g}" for cut in cuts)
        return f"{task.name}, thirds", [f"< {low}", f"{low} to {high}", f"> {high}"], np.digitize(target, cuts)
    value = target.argmax(axis=1) if task.kind == "multilabel" else target
    names = list(task.classes)
    if len(names) > palette.SERIES:
        names = [*names[: palette.SERIES - 1], "others"]
    return "class", names, np.minimum(value, palette.SERIES - 1)


def components(x: Array) -> tuple[Array, float]:
    """The first two principal components (n, 2) of standardised features (n, h), and their share of the variance."""
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    total = float((s**2).sum())
    return (u * s)[:, :2], float((s[:2] ** 2).sum()) / total if total else 0.0


def _panel(part: str, by: str, precision: str, found: dict[str, Views], cohort: Array) -> list[str]:
    left, right, top, bottom = FRAME
    kept = {name: np.linspace(0, len(v.index) - 1, min(len(v.index), POINTS)).astype(int) for name, v in found.items()}
    z, share = components(np.concatenate([view.parts[part][kept[name]] for name, view in found.items()]))
    modality = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(kept.values())])
    colour = modality
    if by != "modality":
        colour = len(found) + np.concatenate([cohort[view.index[kept[name]]] for name, view in found.items()])
    low, reach = z.min(axis=0), np.maximum(np.ptp(z, axis=0), 1e-9)
    places = (z - low) / reach * (right - left - 12, bottom - top - 12) + (left + 6, top + 6)
    lines = [
        f'<text class="name" x="{left}" y="{top - 9}">{part}, {precision.upper()}</text>',
        f'<text x="{right}" y="{top - 9}" text-anchor="end">{share:.0%} of var.</text>',
        f'<rect class="frame" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>',
    ]
    for (x, y), which, shape in zip(places, colour, modality, strict=True):
        lines.append(_mark(float(x), float(y), int(shape), palette.series(int(which))))
    return lines


def _mark(x: float, y: float, shape: int, colour: str) -> str:
    """Modalities also differ in form: circle, square, and from the third on a diamond."""
    if shape == 0:
        return f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="2.2" style="fill:{colour}"/>'
    turned = f' transform="rotate(45 {x:.1f} {y:.1f})"' if shape > 1 else ""
    return (
        f'<rect class="point" x="{x - 1.9:.1f}" y="{y - 1.9:.1f}" width="3.8" height="3.8"{turned} '
        f'style="fill:{colour}"/>'
    )


def _legend(names: list[str], first: int = 0) -> str:
    """Names in their colours; classes go on where the modalities ended."""
    return "&#160; ".join(
        f'<tspan style="fill:{palette.series(i)}">● {escape(name)}</tspan>' for i, name in enumerate(names, first)
    )
