"""The training samples that set the first ranges: some of every class, season and group, never a test sample.

A random draw from a set with one large site and one rare class calibrates for that site and misses that class. Here
strata are classes (label sets; fifths of the target for regression) crossed with seasons and groups, and samples are
dealt from them in turn: first one of each class, from another season each time, and in a season from another group.
Seasons come before groups because there are four of them, and often more groups than samples to deal. Samples whose day
is not known are a season of their own; where a paired set has no dates, classes and groups are all there is.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edge.sensors import Modality
from edge.tasks import Task
from edge.train.dates import season_counts, season_of
from edge.train.scaling import Scaling

Array = npt.NDArray[Any]
FIFTHS = 5
# What stands between a student's input and its first quantizer: normalisation (compress/export.py), and data movement.
BEFORE_QUANTIZER = ("Sub", "Mul", "IsNaN", "Where", "Transpose", "Reshape", "Flatten", "Unsqueeze", "Squeeze")


def stratified(task: Task, target: Array, groups: Array, count: int, seed: int, *, date: Array | None = None) -> Array:
    """Positions (at most `count`, sorted) among samples with `target` (n, ...), `groups` (n,) and `date` (n,)."""
    n = len(groups)
    if n <= count:
        return np.arange(n)
    classes = class_of(task, target)
    deals = [[classes, groups], [classes]]
    if date is not None:
        seasons = season_of(date)
        # Groups alone come first: then two seasons seldom take the same group while another has no sample yet.
        deals = [[groups], [classes, seasons, groups], [classes, seasons], [classes]]
    order = np.random.default_rng(seed).permutation(n)
    for strata in deals:  # the last one rules, those before it decide between equals
        order = order[np.argsort(_turns(np.stack(strata, axis=1)[order]), kind="stable")]
    return np.sort(order[:count])


def class_of(task: Task, target: Array) -> Array:
    """A class number (n,) for each sample: its class, its set of labels, or the fifth in which its target lies."""
    if task.kind == "regression":
        limits = np.quantile(target, np.arange(1, FIFTHS) / FIFTHS)
        return np.searchsorted(limits, target, side="right")
    if task.kind == "multilabel":
        return np.asarray(np.unique(target, axis=0, return_inverse=True)[1]).reshape(-1)
    return np.asarray(target)


def _turns(strata: Array) -> Array:
    """For each row of `strata` (n, k), how many equal rows stand before it."""
    number = np.asarray(np.unique(strata, axis=0, return_inverse=True)[1]).reshape(-1)
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], number[order])
    turns = np.empty(len(number), np.int64)
    turns[order] = np.arange(len(number)) - starts
    return turns


def statistics(
    task: Task, modality: Modality, values: Array, target: Array, groups: Array, *, date: Array | None = None
) -> dict[str, Any]:
    """What the calibration samples are, for the card: `samples`, `groups`, `classes`, `seasons` (None: no dates), and
    for each band its smallest, largest and mean value in sensor units and the share that is missing (None: all of it).

    `values` (n, *shape) in sensor units, NaN = missing.
    """
    counts = np.bincount(class_of(task, target)) if task.kind != "multilabel" else target.sum(axis=0)
    axis = modality.band_axis
    by_band = np.moveaxis(np.asarray(values, np.float64), axis + 1, 0).reshape(values.shape[axis + 1], -1)
    return {
        "samples": len(values),
        "groups": len(np.unique(groups)),
        "classes": [int(count) for count in counts],
        "seasons": None if date is None else season_counts(date),
        "bands": {band.name: _of_band(found) for band, found in zip(modality.bands, by_band, strict=True)},
    }


def _of_band(values: Array) -> dict[str, float | None]:
    there = values[~np.isnan(values)]
    if not len(there):
        return {"min": None, "max": None, "mean": None, "missing": 1.0}
    missing = 1 - len(there) / len(values)
    return {
        "min": float(there.min()), "max": float(there.max()), "mean": float(there.mean()), "missing": round(missing, 4)
    }  # fmt: skip


def input_limit(model: onnx.ModelProto) -> float | None:
    """The largest |z| that the quantizers of a placed graph's normalised input can hold; None if it stays in float."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    reached, limits = {model.graph.input[0].name}, []
    for node in model.graph.node:
        if not reached.intersection(node.input):
            continue
        if node.op_type == "QuantizeLinear":
            limits.append(127 * float(numpy_helper.to_array(weights[node.input[1]])))
        elif node.op_type in BEFORE_QUANTIZER:
            reached.update(node.output)
    return min(limits, default=None)


def with_limits(about: dict[str, Any], modality: Modality, scaling: Scaling, limit: float | None) -> dict[str, Any]:
    """`statistics` with `low` and `high` for each band: between them, in sensor units, lies what is not cut off."""
    if limit is None:
        return about
    mean, std = (np.broadcast_to(part, scaling.mean.shape).reshape(-1).astype(float) for part in
                 (scaling.mean, scaling.std))  # fmt: skip
    bands = {
        band.name: about["bands"][band.name] | {"low": mean[i] - limit * std[i], "high": mean[i] + limit * std[i]}
        for i, band in enumerate(modality.bands)
    }
    return about | {"bands": bands}
