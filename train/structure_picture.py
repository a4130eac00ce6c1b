"""The picture of a training's structure: test samples in the first two principal components of a part's features.

A row of panels for each precision; shared and specific features, each coloured by modality and by class (regression:
by thirds of the target). Principal components are a linear map without settings: what lies apart here is apart. All
panels of a part have the axes of the first precision: what is elsewhere in the next row has moved. SVG made by hand, as
the learning curves are.
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
FORMS = "●■◆"  # of the modalities in the legend, see `_mark`
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
    places = {part: placed(part, views) for part in SHOWN}
    panels = [
        f'<g transform="translate({10 + column * CELL} {HEAD + row * (CELL + 10)})">'
        f"{_panel(f'{part}, {precision.upper()}', *places[part][precision], _marks(found, by, cohorts[2]))}</g>"
        for row, (precision, found) in enumerate(views.items())
        for column, (part, by) in enumerate(columns)
    ]
    legends = [
        f"by modality: {_legend(modalities, forms=FORMS)}",
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


def components(x: Array, of: Array) -> tuple[Array, float]:
    """Places (n, 2) of x (n, h) in the principal plane of standardised `of` (m, h), and the plane's share of variance.

    With `of` the same features before quantization, both lie in the same plane.
    """
    mean, spread = of.mean(axis=0), of.std(axis=0)
    spread = np.where(spread > 0, spread, 1)  # a unit that never fires stays where it is
    directions = np.linalg.svd((of - mean) / spread, full_matrices=False)[2][:2]
    x = (x - mean) / spread
    z, total = x @ directions.T, float(x.var(axis=0).sum())
    return z, float(z.var(axis=0).sum()) / total if total else 0.0


def placed(part: str, views: dict[str, dict[str, Views]]) -> dict[str, tuple[Array, float]]:
    """By precision: where the points of all modalities lie (n, 2), 0 to 1 over all precisions, and their variance."""
    features = {
        precision: np.concatenate([view.parts[part][_shown(view)] for view in found.values()])
        for precision, found in views.items()
    }
    first = next(iter(features.values()))
    flat = {precision: components(x, first) for precision, x in features.items()}
    every = np.concatenate([z for z, _ in flat.values()])
    low, reach = every.min(axis=0), np.maximum(np.ptp(every, axis=0), 1e-9)
    return {precision: ((z - low) / reach, share) for precision, (z, share) in flat.items()}


def _shown(view: Views) -> Array:
    return np.linspace(0, len(view.index) - 1, min(len(view.index), POINTS)).astype(int)


def _marks(found: dict[str, Views], by: str, cohort: Array) -> list[tuple[int, int]]:
    """The form of the same points, which is their modality's number, and their colour's number."""
    return [
        (number, number if by == "modality" else len(found) + int(cohort[sample]))
        for number, view in enumerate(found.values())
        for sample in view.index[_shown(view)]
    ]


def _panel(title: str, places: Array, share: float, marks: list[tuple[int, int]]) -> str:
    left, right, top, bottom = FRAME
    lines = [
        f'<text class="name" x="{left}" y="{top - 9}">{title}</text>',
        f'<text x="{right}" y="{top - 9}" text-anchor="end">{share:.0%} of var.</text>',
        f'<rect class="frame" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>',
    ]
    places = places * (right - left - 12, bottom - top - 12) + (left + 6, top + 6)
    for (x, y), (form, colour) in zip(places, marks, strict=True):
        lines.append(_mark(float(x), float(y), form, palette.series(colour)))
    return "".join(lines)


def _mark(x: float, y: float, shape: int, colour: str) -> str:
    """Modalities also differ in form: circle, square, and from the third on a diamond."""
    if shape == 0:
        return f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="2.2" style="fill:{colour}"/>'
    turned = f' transform="rotate(45 {x:.1f} {y:.1f})"' if shape > 1 else ""
    return (
        f'<rect class="point" x="{x - 1.9:.1f}" y="{y - 1.9:.1f}" width="3.8" height="3.8"{turned} '
        f'style="fill:{colour}"/>'
    )


def _legend(names: list[str], first: int = 0, forms: str = "●") -> str:
    """Names in their colours; classes go on where the modalities ended."""
    return "&#160; ".join(
        f'<tspan style="fill:{palette.series(first + i)}">{forms[min(i, len(forms) - 1)]} {escape(name)}</tspan>'
        for i, name in enumerate(names)
    )
