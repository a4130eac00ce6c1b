"""The picture of `edge data show --picture`: one row of panels per modality, and one for the dates.

Series: the mean over time per class, or per third of the target. Vectors: histograms. Images: some samples.
Dates: samples per month of the year, and over the years.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import BackendMissing, InputError
from edge.files import replacing
from edge.sensors import Modality
from edge.train.dates import months_of
from edge.train.paired import PairedSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = 6  # bands or samples per modality
SAMPLES = 4000  # at most, spread over the set
COHORTS = 10  # classes with a line of their own
ENDINGS = (".png", ".svg", ".pdf")

Cohorts = list[tuple[str, np.ndarray]]  # name, which samples


def draw(data: PairedSet, file: Path) -> None:
    """Write the picture to `file` (.png, .svg or .pdf). BackendMissing without matplotlib."""
    if file.suffix not in ENDINGS:
        raise InputError(f"the picture {file} must end in {', '.join(ENDINGS)}")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendMissing("matplotlib is not installed; pip install 'edge-colearn[plot]'") from None
    index = np.unique(np.linspace(0, len(data) - 1, min(len(data), SAMPLES)).astype(np.int64))
    cohorts = _cohorts(data, index)
    days = data.date[~np.isnat(data.date)] if data.date is not None else None
    rows = len(data.modalities) + (days is not None)
    figure = Figure(figsize=(2.6 * PANELS, 2.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, PANELS, squeeze=False)
    for row, name in zip(axes, [*data.modalities, "date"], strict=False):
        for axis in row:
            axis.set_axis_off()
        row[0].set_title(name, loc="left", fontweight="bold", fontsize=9)
    for row, modality in zip(axes, data.modalities.values(), strict=False):
        _DRAW[modality.kind](row, modality, data.arrays[modality.name], index, cohorts)
    if days is not None:
        _draw_dates(axes[-1], days)
    series = [axis for axis in axes[:, 0] if axis.lines]
    if series:
        handles, labels = series[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=110)


def _cohorts(data: PairedSet, index: np.ndarray) -> Cohorts:
    target, task = data.target[index], data.task
    if task.kind == "regression":
        low, high = np.quantile(target, (1 / 3, 2 / 3))
        names = (f"{task.name} up to {low:.3g} {task.unit}", "middle third", f"from {high:.3g} {task.unit}")
        third = (target > low).astype(int) + (target > high)
        return [(name, third == i) for i, name in enumerate(names)]
    if task.kind == "multilabel":
        return [(name, target[:, i] == 1) for i, name in enumerate(task.classes[:COHORTS])]
    return [(name, target == i) for i, name in enumerate(task.classes[:COHORTS])]


def _draw_series(
    row: "np.ndarray[Any, Any]", modality: Modality, array: np.ndarray, index: np.ndarray, cohorts: Cohorts
) -> None:
    values = np.asarray(array[index])  # (samples, time, band)
    for axis, band in zip(row, _spread(len(modality.bands)), strict=False):
        _open_panel(axis, _titled(modality, band))
        for name, mask in cohorts:
            part = values[mask, :, band]
            count = np.maximum((~np.isnan(part)).sum(axis=0), 1)
            axis.plot(np.nansum(part, axis=0) / count, label=name, linewidth=1.2)
        axis.set_xticks(range(len(modality.times)), modality.times, fontsize=6)


def _draw_vector(
    row: "np.ndarray[Any, Any]", modality: Modality, array: np.ndarray, index: np.ndarray, cohorts: Cohorts
) -> None:
    values = np.asarray(array[index])  # (samples, band)
    for axis, band in zip(row, _spread(len(modality.bands)), strict=False):
        _open_panel(axis, _titled(modality, band))
        part = values[:, band]
        axis.hist(part[~np.isnan(part)], bins=30, color="0.4")


def _draw_images(
    row: "np.ndarray[Any, Any]", modality: Modality, array: np.ndarray, index: np.ndarray, cohorts: Cohorts
) -> None:
    bands = _picture_bands(modality)
    for axis, sample in zip(row, index[:: max(1, len(index) // PANELS)], strict=False):
        image = np.moveaxis(array[sample][bands], 0, -1)  # (y, x, 1 or 3)
        if np.isnan(image).all():
            continue
        low, high = np.nanpercentile(image, (2, 98))
        axis.imshow(np.nan_to_num(np.clip((image - low) / max(high - low, 1e-12), 0, 1)), cmap="gray")


def _draw_dates(row: "np.ndarray[Any, Any]", days: np.ndarray) -> None:
    for axis, title in zip(row, ("samples per month", "samples over time"), strict=False):
        _open_panel(axis, title)
    row[0].bar(range(1, 13), np.bincount(months_of(days), minlength=13)[1:], color="0.4")
    row[0].set_xticks(range(1, 13))
    row[1].hist(days, bins=30, color="0.4")
    row[1].tick_params(axis="x", rotation=45)


_DRAW = {"series": _draw_series, "vector": _draw_vector, "image": _draw_images}


def _picture_bands(modality: Modality) -> list[int]:
    """Red, green and blue if the bands say so; else the first three; else the first."""
    common = [band.common_name or band.name for band in modality.bands]
    if {"red", "green", "blue"} <= set(common):
        return [common.index(name) for name in ("red", "green", "blue")]
    return [0, 1, 2] if len(common) >= 3 else [0]


def _open_panel(axis: "Axes", title: str) -> None:
    axis.set_axis_on()
    axis.tick_params(labelsize=6)
    axis.set_title(title, fontsize=7, loc="right")


def _titled(modality: Modality, band: int) -> str:
    return f"{modality.bands[band].name} [{modality.bands[band].unit}]"


def _spread(count: int) -> list[int]:
    """Up to PANELS indices spread over `count`."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, PANELS)).tolist()})
