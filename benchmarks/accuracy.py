"""How good an engine's predictions are: the metric, and every class or part of the target by itself, with intervals.

By itself means: recall of a class, F1 of a label, and RMSE in each tenth of the target's values. Each of them is a
ratio of two sums over samples, so the same bootstrap serves all (edge.metrics.resamples).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from edge.metrics import bootstrap_interval, resamples, score
from edge.tasks import Task

Array = npt.NDArray[Any]
PARTS = 10  # of a regression's target
LEVEL = 0.95
ENOUGH = 50  # samples from which a class can fail a build: one that flips is then 2 points of its recall at most
NOT_MEASURED: dict[str, Any] = {"metric": None, "metric_ci95": None, "scores": None, "per_class": None}


def accuracy(task: Task, prediction: Array, target: Array, groups: Array | None = None) -> dict[str, Any]:
    """`metric`, its `metric_ci95`, all `scores`, and `per_class`.

    prediction (N, n_outputs), target see `Task`, groups (N,): resampling draws whole groups. See edge.metrics.score.
    """
    scores = score(task, prediction, target)
    interval = bootstrap_interval(task, prediction, target, groups)
    return {
        "metric": scores[task.metric],
        "metric_ci95": _finite(interval),
        "scores": scores,
        "per_class": per_class(task, prediction, target, groups),
    }


def per_class(task: Task, prediction: Array, target: Array, groups: Array | None = None) -> list[dict[str, Any]]:
    """{"name", "measure", "n", "value", "ci95"} for each class, label or tenth of the target.

    `n` counts its samples in the target. A class that the target lacks has value None; an interval is None where fewer
    than two units can be drawn. A resample without the class is left out of its interval.
    """
    names, measure, sums = _classes(task, prediction, target)
    values = _ratio(measure, sums.sum(axis=0))
    blocks = [_ratio(measure, some) for some in resamples(sums, groups)]
    drawn = np.concatenate(blocks) if blocks else np.full((1, len(names)), np.nan)
    found = []
    for i, name in enumerate(names):
        kept = drawn[np.isfinite(drawn[:, i]), i]
        interval = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(kept) else (np.nan, np.nan)
        known = bool(np.isfinite(values[i]))
        found.append(
            {
                "name": name,
                "measure": measure,
                "n": int(sums[:, i, 2].sum()),
                "value": float(values[i]) if known else None,
                "ci95": _finite(interval) if known else None,
            }
        )
    return found


def worst_class(task: Task, before: Array, after: Array, target: Array, groups: Array | None = None) -> dict[str, Any]:
    """The class, label or tenth of the target that loses most from predictions `before` to `after` (N, n_outputs).

    {"name", "measure", "n", "before", "after", "drop", "ci95", "enough", "left_out"}: `drop` is the fall of the recall
    or F1 (0.02 is two points), for regression the rise of the RMSE as a fraction of the one before; its interval is
    over resampled samples, or groups (N,) of them, the same for `before` and `after`. Classes with fewer than
    ENOUGH samples are left out; if that leaves none, the worst of all is given and `enough` is false.
    """
    names, measure, sums = _classes(task, before, target)
    both = np.stack([sums, _classes(task, after, target)[2]], axis=1)  # (N, 2, K, 3)
    first, second = _ratio(measure, both.sum(axis=0))
    counts = sums[:, :, 2].sum(axis=0)
    drops = _drop(measure, first, second)
    enough = counts >= ENOUGH
    usable = np.isfinite(drops) & (enough if enough.any() else counts > 0)
    at = int(np.argmax(np.where(usable, drops, -np.inf)))
    known = bool(usable.any())
    drawn = [_ratio(measure, some) for some in resamples(both[:, :, at], groups)]  # (k, 2) each
    falls = np.concatenate([_drop(measure, *each.T) for each in drawn]) if drawn else np.array([np.nan])
    falls = falls[np.isfinite(falls)]
    ends = np.quantile(falls, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(falls) else (np.nan, np.nan)
    return {
        "name": names[at],
        "measure": measure,
        "n": int(counts[at]),
        "before": float(first[at]),
        "after": float(second[at]),
        "drop": float(drops[at]) if known else None,
        "ci95": _finite(ends),
        "enough": bool(enough.any()),
        "left_out": [name for name, ok in zip(names, enough, strict=True) if not ok],
    }


def _drop(measure: str, before: Array, after: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        drop: Array = after / before - 1 if measure == "rmse" else before - after
    return drop


def _classes(task: Task, prediction: Array, target: Array) -> tuple[list[str], str, Array]:
    """Names (K), measure, and each sample's share (N, K, 3) of numerator, denominator and count."""
    if task.kind == "regression":
        return _tenths(task, prediction, target)
    if task.kind == "multilabel":
        predicted, actual = prediction >= 0.5, target > 0
        hits, either = 2 * (predicted & actual), predicted.astype(int) + actual
        return list(task.classes), "f1", np.stack([hits, either, actual], axis=2).astype(np.float64)
    actual = target[:, None] == np.arange(task.n_outputs)  # (N, K)
    hits = actual & (prediction.argmax(axis=1)[:, None] == np.arange(task.n_outputs))
    return list(task.classes), "recall", np.stack([hits, actual, actual], axis=2).astype(np.float64)


def _tenths(task: Task, prediction: Array, target: Array) -> tuple[list[str], str, Array]:
    """Tenths of equal counts; values that occur often can make two edges one, and then there are fewer."""
    actual = target.astype(np.float64)
    edges = np.unique(np.quantile(actual, np.linspace(0, 1, PARTS + 1)))
    count = max(1, len(edges) - 1)
    index = np.clip(np.searchsorted(edges, actual, side="right") - 1, 0, count - 1)
    inside = index[:, None] == np.arange(count)  # (N, K)
    squares = inside * ((prediction[:, 0].astype(np.float64) - actual) ** 2)[:, None]
    unit = "" if task.unit == "1" else f" {task.unit}"
    names = [f"{edges[i]:.4g} to {edges[min(i + 1, len(edges) - 1)]:.4g}{unit}" for i in range(count)]
    return names, "rmse", np.stack([squares, inside, inside], axis=2).astype(np.float64)


def _ratio(measure: str, sums: Array) -> Array:
    """(..., K, 3) -> (..., K); NaN for what the target lacks."""
    top, bottom, count = np.moveaxis(sums, -1, 0)
    ratio: Array = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=count > 0)
    return np.sqrt(ratio, out=ratio) if measure == "rmse" else ratio


def _finite(interval: Any) -> list[float] | None:
    low, high = (float(end) for end in interval)
    return [low, high] if np.isfinite([low, high]).all() else None
