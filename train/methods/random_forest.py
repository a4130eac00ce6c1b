"""A random forest for each modality (Breiman 2001), scikit-learn's: the baseline that needs no network.

The values of a sample are one flat row in sensor units; an image is told by the quantiles of its bands. scikit-learn's
trees handle missing values themselves: each split learns from the training samples on which side they go. Classes are
balanced, as they are in the networks' losses. It has no epochs: the validation samples are scored and otherwise not
used.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import BackendMissing, InputError
from edge.recipe import Recipe
from edge.tasks import Task
from edge.train.mapped import rows_of
from edge.train.methods.method import Predicted, Prediction
from edge.train.paired import PairedSet
from edge.train.splits import Split

TREES = 200
LEAF = 3  # training samples in a leaf, at least; with scikit-learn's 1 the forest is weaker on lfmc, R2 0.02
FEATURES = {"regression": 0.4}  # tried at a split; the square root of their number for classes
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # what the forest is told of a band of an image
ABOUT = {"random-forest": "a forest on the values of one modality, which is all it needs"}
TOGETHER = False


def predict(data: PairedSet, recipe: Recipe, split: Split, folder: Path, *, resume: bool) -> dict[str, Predicted]:
    """One predictor for each modality, trained on the training samples that have it."""
    from edge.train.training import choose_modalities

    found = {}
    for name in choose_modalities(data, recipe):
        here = {part: having(data, name, split, part) for part in ("train", "validation", "test")}
        start = time.perf_counter()
        values, target = described(data, name, here["train"]), np.asarray(data.target)[here["train"]]
        model = forest(data.task, recipe, values, target)
        seconds = round(time.perf_counter() - start, 2)
        parts = {
            part: Prediction(here[part], probabilities(data.task, model, described(data, name, here[part])))
            for part in ("validation", "test")
        }
        found[name] = Predicted(parts, seconds, epochs=None, parameters=None)
    return found


def having(data: PairedSet, name: str, split: Split, part: str) -> np.ndarray:
    """The samples of a part that have the modality; InputError if there is none."""
    index: np.ndarray = getattr(split, part)
    index = index[data.present(name)[index]]
    if not len(index):
        raise InputError(f"no sample of the {part} part has the modality {name!r}; use another fold or leave it out")
    return index


def forest(task: Task, recipe: Recipe, values: np.ndarray, target: np.ndarray) -> Any:
    """scikit-learn's forest for this kind of task, fitted to values (n, F) and targets; BackendMissing without it.

    Its trees grow on all cores, or on one where folds have processes of their own (train/processes.py): they are the
    same. It predicts on one, because sums in another order are rounded differently.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    except ImportError:
        raise BackendMissing("scikit-learn is not installed; pip install 'edge-colearn[train]'") from None
    shared = {
        "n_estimators": TREES, "min_samples_leaf": LEAF, "max_features": FEATURES.get(task.kind, "sqrt"),
        "random_state": recipe.seed, "n_jobs": -1,
    }  # fmt: skip
    model = (
        RandomForestRegressor(**shared)
        if task.kind == "regression"
        else RandomForestClassifier(class_weight="balanced", **shared)
    )
    return model.fit(values, target).set_params(n_jobs=1)


def described(data: PairedSet, name: str, index: np.ndarray) -> np.ndarray:
    """(n, F): the values of a series or a vector; of an image the QUANTILES of each band, since trees see no shapes."""
    values = np.asarray(rows_of(data.arrays[name])[index], dtype=np.float32)
    if data.modalities[name].kind != "image":
        return values.reshape(len(index), -1)
    pixels = values.reshape(*values.shape[:2], -1)  # (n, B, H W)
    return np.concatenate([_quantiles(pixels[:, band]) for band in range(pixels.shape[1])], axis=1)


def _quantiles(pixels: np.ndarray) -> np.ndarray:
    """QUANTILES of each row of (n, P) that are there, (n, 5); NaN where none is."""
    missing = np.isnan(pixels)
    found = np.full((len(pixels), len(QUANTILES)), np.nan, np.float32)
    whole = ~missing.any(axis=1)
    found[whole] = np.quantile(pixels[whole], QUANTILES, axis=1).T  # nanquantile gives the same in five times the time
    for row in np.flatnonzero(~whole & ~missing.all(axis=1)):
        found[row] = np.quantile(pixels[row, ~missing[row]], QUANTILES)
    return found


def probabilities(task: Task, model: Any, values: np.ndarray) -> np.ndarray:
    """(n, K) as edge.metrics.score wants it; a class that no training sample has gets 0."""
    if task.kind == "regression":
        predicted: np.ndarray = model.predict(values)[:, None]
        return predicted
    result = np.zeros((len(values), task.n_outputs))
    if task.kind == "multilabel":
        for label, (classes, found) in enumerate(zip(model.classes_, model.predict_proba(values), strict=True)):
            result[:, label] = found[:, list(classes).index(1)] if 1 in classes else 0.0
        return result
    result[:, model.classes_] = model.predict_proba(values)
    return result
