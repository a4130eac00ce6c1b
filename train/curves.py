"""What a training run leaves to look at: a line of JSON for each epoch, TensorBoard's events, a learning-curve picture.

    RUN/train/METHOD/epochs.jsonl    epoch, train {objective: loss}, validation {...}, seconds, samples_per_s
    RUN/train/METHOD/curves.svg      one panel for each objective; drawn at the end
    RUN/train/METHOD/tensorboard/    only where TensorBoard is installed: `tensorboard --logdir RUN`

The picture is SVG made by hand, as the Pareto picture is: training needs no plotting library, and a browser shows it.
"""

import contextlib
import json
import math
from html import escape
from pathlib import Path
from typing import Any

from edge.benchmarks import palette
from edge.benchmarks.axes import round_values
from edge.files import write_text
from edge.train.distributed import rank

Record = dict[str, Any]
LINES, PICTURE, EVENTS = "epochs.jsonl", "curves.svg", "tensorboard"

# The frame of a panel inside its cell, and how many cells stand in a row.
CELL_WIDTH, CELL_HEIGHT, COLUMNS = 300, 200, 3
LEFT, RIGHT, TOP, BOTTOM = 52, 288, 34, 166
HEAD = 54  # height of the title above the panels

STYLE = """.curves text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--muted)}
.curves .name{font-weight:600;font-size:13.5px;fill:var(--ink)}
.curves .grid{stroke:var(--line);stroke-width:1}
.curves .best{stroke:var(--muted);stroke-width:1.5;stroke-dasharray:2 4;stroke-linecap:round}
.curves .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
"""


class Journal:
    """The files of a run in `folder`, written by the first process; `history` are the epochs that a resumed run has.

    Lines follow the state on disk: they are written anew from `history`, so that an epoch never stands there twice,
    whatever an interruption left. The picture is drawn when the block ends well.
    """

    def __init__(self, folder: Path, label: str, history: list[Record]) -> None:
        self._folder, self._label, self._history = folder, label, list(history)
        self._writes = rank() == 0
        self._events: Any = None

    def __enter__(self) -> "Journal":
        if self._writes and self._history:
            write_text(self._folder / LINES, "".join(map(_line, self._history)))
        elif self._writes:
            (self._folder / LINES).unlink(missing_ok=True)
        return self

    def add(self, record: Record) -> None:
        """An epoch is done and its state is on disk."""
        if not self._writes:
            return
        self._history.append(record)
        with open(self._folder / LINES, "a", encoding="utf-8") as file:
            file.write(_line(record))
        self._add_events(record)

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if self._events is not None:
            self._events.close()
        if self._writes and failure is None and self._history:
            write_text(self._folder / PICTURE, curves_svg(self._label, self._history))

    def _add_events(self, record: Record) -> None:
        epoch = record["epoch"]
        if self._events is None:
            with contextlib.suppress(ImportError):  # TensorBoard is nobody's duty
                from torch.utils.tensorboard import SummaryWriter

                self._events = SummaryWriter(str(self._folder / EVENTS), purge_step=epoch)
        if self._events is not None:
            for part in ("train", "validation"):
                for name, value in record[part].items():
                    self._events.add_scalar(f"{name}/{part}", value, epoch)
            self._events.flush()


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def curves_svg(title: str, history: list[Record]) -> str:
    """The picture of at least one epoch: each objective in training and validation, the best epoch marked."""
    best = min(history, key=lambda record: record["validation"]["total"])["epoch"]
    names = sorted(history[-1]["validation"], key=lambda name: name != "total")  # the total first
    columns = min(COLUMNS, len(names))
    width, height = columns * CELL_WIDTH, HEAD + math.ceil(len(names) / columns) * CELL_HEIGHT
    panels = [
        f'<g transform="translate({i % columns * CELL_WIDTH} {HEAD + i // columns * CELL_HEIGHT})">'
        f"{''.join(_panel(name, history, best))}</g>"
        for i, name in enumerate(names)
    ]
    last = "; ".join(f"{name} {history[-1]['validation'][name]:.4g}" for name in names)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="curves" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{escape(title)}: losses over epochs. Validation at the end: {escape(last)}</title>",
            f"<style>\n{palette.variables('.curves')}{STYLE}</style>",
            f'<rect width="{width}" height="{height}" rx="10" fill="var(--surface)"/>',
            f'<text class="name" x="14" y="24">{escape(title)}</text>',
            f'<text x="14" y="44"><tspan style="fill:{palette.series(0)}">━ training</tspan>&#160; '
            f'<tspan style="fill:{palette.series(1)}">━ validation</tspan>&#160; ┊ lowest total in epoch {best}</text>',
            *panels,
            "</svg>\n",
        ]
    )


def _panel(name: str, history: list[Record], best: int) -> list[str]:
    epochs: list[int] = [record["epoch"] for record in history]
    series = {part: [record[part].get(name) for record in history] for part in ("train", "validation")}
    values: list[float] = [value for line in series.values() for value in line if value is not None]
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05  # a constant loss gets a frame, too
    low, high = low - room, high + room

    def x(epoch: float) -> float:
        return LEFT + (epoch - epochs[0]) / max(epochs[-1] - epochs[0], 1) * (RIGHT - LEFT)

    def y(value: float) -> float:
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)

    parts = [f'<text class="name" x="{LEFT}" y="{TOP - 12}">{escape(name)}</text>']
    for value in round_values(low, high, 5):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(
            f'<text x="{LEFT - 7}" y="{y(value) + 4:.1f}" text-anchor="end">{value + 0.0:.4g}</text>'
        )  # + 0.0: no -0
    parts += [
        f'<text x="{x(epoch):.1f}" y="{BOTTOM + 18}" text-anchor="middle">epoch {epoch}</text>'
        for epoch in sorted({epochs[0], epochs[-1]})
    ]
    parts.append(f'<line class="best" x1="{x(best):.1f}" x2="{x(best):.1f}" y1="{TOP}" y2="{BOTTOM}"/>')
    for i, line in enumerate(series.values()):
        points = [(x(epoch), y(value)) for epoch, value in zip(epochs, line, strict=True) if value is not None]
        path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
        parts.append(f'<path class="line" d="{path}h.01" style="stroke:{palette.series(i)}"/>')  # one epoch: a dot
    return parts
