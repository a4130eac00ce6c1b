"""How good a prediction is, with an interval: numpy only, because the device measures its own accuracy.

Every measure is a function of a few sums over samples: per class the number of hits, of true and of predicted samples;
for regression the sums of y, y^2, error^2 and |error|. A bootstrap resample is then a weighted sum of the groups' sums,
so a thousand resamples are one matrix product. `score` and `bootstrap_interval` share `_measures`, and cannot disagree.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import InputError
from edge.tasks import Task

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# Resample counts held in memory at once: 2**22 float64 are 32 MiB.
BLOCK = 1 << 22


def score(task: Task, prediction: npt.ArrayLike, target: npt.ArrayLike) -> dict[str, float]:
    """Measures of `prediction` (N, n_outputs) against `target` (see `Task`).

    - binary, multiclass: `macro_recall` (the papers' average accuracy), `accuracy`, `f1_macro`, `f1_weighted`, all 0-1.
    - multilabel, labels on at a probability of 0.5: `f1_macro`, `f1_micro`, `f1_weighted`, all 0-1.
    - regression: `r2` (at most 1), `rmse` and `mae` in `task.unit`, and `rrmse` = rmse / |mean(target)|, which is left
      out where that mean is 0.

    A class or label that is absent from the target is left out of macro averages, so `macro_recall` equals
    scikit-learn's `balanced_accuracy_score`. Empty ratios are 0. A constant target has R2 1 if it is met exactly, else
    0, as in scikit-learn. Raises InputError for shapes that do not fit, unknown classes, or values that are not finite.
    """
    sums = _sums(task, prediction, target).sum(axis=0)
    return {name: float(value) for name, value in _measures(task, sums).items() if np.isfinite(value)}


def bootstrap_interval(
    task: Task,
    prediction: npt.ArrayLike,
    target: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of `task.metric`.

    `groups` (N,) makes it a cluster bootstrap: whole groups are drawn, because samples of one site resemble each other
    and drawing them one by one gives an interval that is too narrow (Davison & Hinkley 1997, 3.8). One group alone, or
    one sample, says nothing about spread: (nan, nan).
    """
    sums = _sums(task, prediction, target)
    values = [_measures(task, some)[task.metric] for some in resamples(sums, groups, samples, seed)]
    if not values:
        return float("nan"), float("nan")
    low, high = np.quantile(np.concatenate(values), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resamples(
    sums: Floats, groups: npt.ArrayLike | None = None, samples: int = 1000, seed: int = 0
) -> Iterator[Floats]:
    """Sums of bootstrap resamples, some (k, ...) at a time and `samples` in all, from each sample's sums (N, ...).

    With `groups` (N,) whole groups are drawn. Nothing comes of fewer than two units: they say nothing about spread.
    """
    if groups is not None:
        sums = _sum_by_group(sums, np.asarray(groups))
    units = len(sums)
    if units < 2:
        return
    generator = np.random.default_rng(seed)
    at_once = max(1, BLOCK // units)
    for done in range(0, samples, at_once):
        yield _resampled(sums, min(at_once, samples - done), generator)


def relative_drop(task: Task, reference: dict[str, float], scores: dict[str, float]) -> float:
    """How much worse `scores` are than `reference`, as a fraction; negative if better.

    Classification: the relative loss of the main metric. Regression: the relative rise of RMSE, because R2's zero is
    the mean of whatever target was met: a fall from 0.02 to 0.01 is half of R2 and nothing in units. From a reference
    of 0, any rise of RMSE is infinite and no metric can fall.
    """
    if task.kind != "regression":
        before, after = reference[task.metric], scores[task.metric]
        return (before - after) / before if before else 0.0
    before, after = reference["rmse"], scores["rmse"]
    if before:
        return (after - before) / before
    return float("inf") if after else 0.0


def _sums(task: Task, prediction: npt.ArrayLike, target: npt.ArrayLike) -> Floats:
    """Each sample's share of the sums: (N, 3, K) for classes, (N, 6) for regression."""
    predicted, actual = _checked(task, np.asarray(prediction), np.asarray(target))
    if task.kind == "regression":
        actual = actual.astype(np.float64)
        error = predicted[:, 0].astype(np.float64) - actual
        # Sums of squares lose their digits far from zero; R2 does not depend on where zero is.
        centred = actual - actual.mean()
        return np.stack([np.ones(len(actual)), actual, centred, centred**2, error**2, np.abs(error)], axis=1)
    if task.kind == "multilabel":
        is_predicted, is_actual = predicted >= 0.5, actual > 0
    else:
        every_class = np.arange(task.n_outputs)
        is_predicted = predicted.argmax(axis=1)[:, None] == every_class  # (N, K)
        is_actual = actual[:, None] == every_class
    return np.stack([is_predicted & is_actual, is_actual, is_predicted], axis=1).astype(np.float64)


def _checked(task: Task, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Both arrays, or InputError that says which does not fit."""
    for name, array in (("prediction", prediction), ("target", target)):
        if array.ndim == 0 or array.dtype.kind not in "biuf":
            raise InputError(f"the {name} must be an array of numbers, not {array.dtype} of shape {array.shape}")
    expected = (len(target), task.n_outputs)
    if prediction.shape != expected:
        raise InputError(f"the prediction has shape {prediction.shape}; {len(target)} targets need {expected}")
    if target.shape != (expected if task.kind == "multilabel" else expected[:1]):
        raise InputError(f"the target of a {task.kind} task has shape {target.shape}, which does not fit {expected}")
    if not len(target):
        raise InputError("there is nothing to score: the target is empty")
    for name, array in (("prediction", prediction), ("target", target)):
        bad = int(np.size(array) - np.count_nonzero(np.isfinite(array)))
        if bad:
            raise InputError(f"the {name} holds {bad} values that are not finite (NaN or infinite) of {np.size(array)}")
    if task.kind in ("binary", "multiclass") and not (target.min() >= 0 and target.max() < task.n_outputs):
        raise InputError(f"the target holds class {target.max()} or below 0; there are {task.n_outputs} classes from 0")
    if task.kind != "regression" and (part := target[target != np.floor(target)]).size:
        raise InputError(f"the target holds {part.flat[0]:g}; classes are whole numbers from 0, labels are 0 or 1")
    return prediction, target


def _sum_by_group(sums: Floats, groups: Array) -> Floats:
    """(N, ...) -> (groups, ...)."""
    if groups.shape != (len(sums),):
        raise InputError(f"groups have shape {groups.shape}; one group per sample is {(len(sums),)}")
    labels, index = np.unique(groups, return_inverse=True)
    total = np.zeros((len(labels), *sums.shape[1:]))
    np.add.at(total, index, sums)
    return total


def _resampled(sums: Floats, count: int, generator: np.random.Generator) -> Floats:
    """Sums of `count` resamples of the units, drawn with replacement: (units, ...) -> (count, ...)."""
    units = len(sums)
    drawn = generator.integers(0, units, size=(count, units))
    drawn += np.arange(count)[:, None] * units
    times = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)
    return (times @ sums.reshape(units, -1)).reshape(count, *sums.shape[1:])


def _measures(task: Task, sums: Floats) -> dict[str, Floats]:
    """Measures from sums; leading axes are kept, so that one call serves one test set or a thousand resamples."""
    return _of_values(sums) if task.kind == "regression" else _of_classes(task, sums)


def _of_classes(task: Task, sums: Floats) -> dict[str, Floats]:
    hits, actual, predicted = sums[..., 0, :], sums[..., 1, :], sums[..., 2, :]  # (..., K)
    f1 = _ratio(2 * hits, actual + predicted)
    present = actual > 0
    measures = {
        "f1_macro": _ratio((f1 * present).sum(-1), present.sum(-1)),
        "f1_weighted": _ratio((f1 * actual).sum(-1), actual.sum(-1)),
    }
    if task.kind == "multilabel":
        return measures | {"f1_micro": _ratio(2 * hits.sum(-1), (actual + predicted).sum(-1))}
    recall = _ratio(hits, actual)
    return {
        "macro_recall": _ratio(recall.sum(-1), present.sum(-1)),
        "accuracy": _ratio(hits.sum(-1), actual.sum(-1)),
    } | measures


def _of_values(sums: Floats) -> dict[str, Floats]:
    n, total, centred, squares, errors, absolute = np.moveaxis(sums, -1, 0)
    spread = squares - centred**2 / n
    # Below rounding of the sums the target is constant.
    constant = spread <= 1e-12 * squares
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(constant, np.where(errors == 0, 1.0, 0.0), 1 - errors / spread)
        rmse = np.sqrt(errors / n)
        return {"r2": r2, "rmse": rmse, "mae": absolute / n, "rrmse": rmse / np.abs(total / n)}


def _ratio(part: Array, whole: Array) -> Floats:
    """The share `part` of `whole`, 0 where `whole` is 0."""
    result: Floats = np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) != 0)
    return result
