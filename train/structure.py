"""Is what co-learning promises there? Measured on features: who can tell the modality, the sample, the target?

    modality probe   a linear classifier tells the modality: it should from specific features, should not from shared
    retrieval        the shared features of a sample find the same sample in another modality, by cosine similarity
    target probe     a linear model predicts the target from one part of one modality

Probes are fitted on training samples and scored on test samples, at most AT_MOST of either; features are standardised
by the training samples. Intervals (95 %) are a bootstrap over the test samples' groups. The same table after INT8 shows
what quantization left of it. Linear probes: Alain, Bengio 2016, arXiv 1610.01644; recall@k as in cross-modal retrieval
(Frome et al. 2013, DeViSE).
"""

import warnings
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge.errors import BackendMissing, InputError
from edge.metrics import bootstrap_interval, resamples, score
from edge.tasks import Task
from edge.train.model import Features
from edge.train.samples import Samples

Array = npt.NDArray[Any]
Row = dict[str, Any]
AT_MOST = 2000  # samples of a part: enough for probes of some hundred weights, and quick
PARTS = ("specific", "unused", "shared")
RANKS = (1, 10)


class Encodes(Protocol):
    """The co-learner in float or under fake quantization."""

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Features]:
        """Normalised samples of each modality -> features."""


@dataclass(frozen=True)
class Views:
    """What one student makes of some samples: `index` (n,) of the set, and the features (n, h) of each part."""

    index: Array
    parts: dict[str, Array]


@dataclass(frozen=True)
class Value:
    """A measure over `n` test samples and its 95 % interval; None: there is nothing to tell it from."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@torch.no_grad()
def views_of(model: Encodes, samples: Samples, index: Array) -> dict[str, Views]:
    """The features of each modality for those of the samples `index` that have it; at most AT_MOST, evenly spread.

    A modality that none of them has is left out.
    """
    index = index[np.unique(np.linspace(0, len(index) - 1, min(len(index), AT_MOST)).astype(np.int64))]
    found = {}
    for name in samples.inputs:
        own = index[samples.present[name].numpy()[index]]
        if not len(own):
            continue
        pieces = [model({name: piece})[name] for piece in samples.pieces(name, torch.from_numpy(own))]
        parts = {part: torch.cat([getattr(piece, part) for piece in pieces]).numpy() for part in PARTS}
        found[name] = Views(own, parts)
    return found


def analyse(task: Task, target: Array, groups: Array, train: dict[str, Views], test: dict[str, Views]) -> list[Row]:
    """The table, from target and groups (n,) of the whole set and the features of training and test samples.

    Columns: `measure`, `part`, `modality` (query -> gallery for retrieval), `value`, `low`, `high`, `chance` (None: the
    measure has none), `n` (test samples; for retrieval also the size of the gallery). InputError: no sample of one part
    has a modality, or there is one modality only.
    """
    if len(train | test) < 2:
        raise InputError(f"structure is measured between modalities, and there is {', '.join(train | test)} only")
    for name in train | test:
        if name not in train or name not in test:
            raise InputError(f"no sample of one part has the modality {name!r}; use another fold")
    rows = []
    for part in PARTS:
        found = modality_probe(part, train, test, groups)
        rows.append(_row("modality probe", part, "all", found, 1 / len(train)))
    for query, gallery in permutations(test, 2):
        for rank, found in zip(RANKS, retrieval(test[query], test[gallery], groups), strict=True):
            chance = min(rank / found.n, 1.0) if found.n else None
            rows.append(_row(f"recall@{rank}", "shared", f"{query} -> {gallery}", found, chance))
    for name in train:
        for part in PARTS:
            found = target_probe(task, target, train[name], test[name], part, groups)
            rows.append(_row(f"target probe, {task.metric}", part, name, found, None))
    return rows


def headline(train: dict[str, Views], test: dict[str, Views]) -> dict[str, float | None]:
    """Modality probes by part and mean recall@1 (None: no sample has two modalities), for a study of many students.

    Probes are fitted on the features of `train` and scored on those of `test`.
    """
    probes = {f"modality probe, {part}": modality_probe(part, train, test).value for part in PARTS}
    firsts = [retrieval(test[query], test[gallery])[0].value for query, gallery in permutations(test, 2)]
    known = [value for value in firsts if value is not None]
    return {**probes, "recall@1": sum(known) / len(known) if known else None}


def modality_probe(part: str, train: dict[str, Views], test: dict[str, Views], groups: Array | None = None) -> Value:
    """Macro recall of telling the modality from one part of the test samples."""
    x, y = _stacked(part, train)
    unseen, truth = _stacked(part, test)
    said = _logistic(x, y, unseen, n_classes=len(train))
    kind = Task("binary" if len(train) == 2 else "multiclass", "modality", classes=tuple(train))
    index = np.concatenate([view.index for view in test.values()])
    return _scored(kind, said, truth, None if groups is None else groups[index])


def retrieval(query: Views, gallery: Views, groups: Array | None = None) -> list[Value]:
    """Recall at each of RANKS from one modality's shared features to another's, over samples that have both."""
    common = np.intersect1d(query.index, gallery.index)
    hits = found_at(_shared_of(query, common), _shared_of(gallery, common), RANKS)
    return [_share(column, None if groups is None else groups[common]) for column in hits.T]


def found_at(queries: Array, gallery: Array, ranks: tuple[int, ...]) -> Array:
    """(n, ranks) bool: row i of `queries` (n, h) has row i of `gallery` among its k nearest; ties count against it."""
    similarity = _unit(queries) @ _unit(gallery).T  # (n, n)
    ahead = (similarity >= similarity.diagonal()[:, None]).sum(axis=1) - 1  # others that are as near or nearer
    found: Array = ahead[:, None] < np.array(ranks)
    return found


def target_probe(task: Task, target: Array, train: Views, test: Views, part: str, groups: Array | None = None) -> Value:
    """The task's metric of a linear model on one part, for the test samples."""
    x, y, unseen, truth = train.parts[part], target[train.index], test.parts[part], target[test.index]
    if task.kind == "regression":
        said = _ridge(x, y, unseen)[:, None]
    elif task.kind == "multilabel":
        columns = [_logistic(x, y[:, label], unseen, n_classes=2)[:, 1] for label in range(y.shape[1])]
        said = np.stack(columns, axis=1)
    else:
        said = _logistic(x, y, unseen, n_classes=task.n_outputs)
    return _scored(task, said, truth, None if groups is None else groups[test.index])


def _scored(task: Task, said: Array, truth: Array, groups: Array | None) -> Value:
    value = score(task, said, truth)[task.metric]
    interval = (np.nan, np.nan) if groups is None else bootstrap_interval(task, said, truth, groups)
    return Value(value, *_known(interval), len(truth))


def _share(hits: Array, groups: Array | None) -> Value:
    """How many of (n,) are True; the interval draws queries and leaves the gallery as it is."""
    if not len(hits):
        return Value(None, None, None, 0)
    sums = np.stack([hits, np.ones(len(hits))], axis=1)
    drawn = [] if groups is None else [some[:, 0] / some[:, 1] for some in resamples(sums, groups)]
    interval = np.quantile(np.concatenate(drawn), (0.025, 0.975)) if drawn else (np.nan, np.nan)
    return Value(float(hits.mean()), *_known(interval), len(hits))


def _known(interval: Any) -> tuple[float | None, float | None]:
    """None for what has no spread: one group alone."""
    low, high = (float(value) if np.isfinite(value) else None for value in interval)
    return low, high


def _row(measure: str, part: str, modality: str, found: Value, chance: float | None) -> Row:
    named = {"measure": measure, "part": part, "modality": modality}
    return {**named, "value": found.value, "low": found.low, "high": found.high, "chance": chance, "n": found.n}


def _stacked(part: str, views: dict[str, Views]) -> tuple[Array, Array]:
    x = np.concatenate([view.parts[part] for view in views.values()])
    return x, np.concatenate([np.full(len(view.index), number) for number, view in enumerate(views.values())])


def _shared_of(view: Views, index: Array) -> Array:
    rows: Array = view.parts["shared"][np.searchsorted(view.index, index)]
    return rows


def _unit(x: Array) -> Array:
    norm: Array = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return norm


def _logistic(x: Array, y: Array, unseen: Array, *, n_classes: int) -> Array:
    """Probabilities (n, n_classes) of a balanced logistic regression; a class without training samples gets 0."""
    linear_model, pipeline, preprocessing = _scikit_learn()
    from sklearn.exceptions import ConvergenceWarning

    said = np.zeros((len(unseen), n_classes))
    if len(np.unique(y)) == 1:
        said[:, int(y[0])] = 1.0
        return said
    model = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression(class_weight="balanced", max_iter=300)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # separable classes may take longer, and need not
        model.fit(x, y)
    said[:, model.classes_.astype(int)] = model.predict_proba(unseen)
    return said


def _ridge(x: Array, y: Array, unseen: Array) -> Array:
    linear_model, pipeline, preprocessing = _scikit_learn()
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.RidgeCV(np.logspace(-2, 4, 13)))
    said: Array = model.fit(x, y).predict(unseen)
    return said


def _scikit_learn() -> tuple[Any, Any, Any]:
    try:
        from sklearn import linear_model, pipeline, preprocessing
    except ImportError:
        raise BackendMissing("scikit-learn is not installed; pip install 'edge-colearn[train]'") from None
    return linear_model, pipeline, preprocessing
