"""Is what co-learning promises there? Measured on features: who can tell the modality, the sample, the target?

    modality probe   a linear classifier tells the modality: it should from specific features, should not from shared
    retrieval        the shared features of a sample find the same sample in another modality, by cosine similarity
    target probe     a linear model predicts the target from one part of one modality

Probes are fitted on training samples and scored on test samples, at most AT_MOST of either; features are standardised
by the training samples. The same table after INT8 shows what quantization left of it. Linear probes: Alain, Bengio
2016, arXiv 1610.01644; recall@k as in cross-modal retrieval (Frome et al. 2013, DeViSE).
"""

import warnings
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge.errors import BackendMissing
from edge.metrics import score
from edge.tasks import METRICS, Task
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


@torch.no_grad()
def views_of(model: Encodes, samples: Samples, index: Array) -> dict[str, Views]:
    """The features of each modality for those of the samples `index` that have it; at most AT_MOST, evenly spread."""
    index = index[np.unique(np.linspace(0, len(index) - 1, min(len(index), AT_MOST)).astype(np.int64))]
    found = {}
    for name in samples.inputs:
        own = index[samples.present[name].numpy()[index]]
        pieces = [model({name: piece})[name] for piece in samples.pieces(name, torch.from_numpy(own))]
        parts = {part: torch.cat([getattr(piece, part) for piece in pieces]).numpy() for part in PARTS}
        found[name] = Views(own, parts)
    return found


def analyse(task: Task, target: Array, train: dict[str, Views], test: dict[str, Views]) -> list[Row]:
    """The table: `measure`, `part`, `modality` (a query -> gallery pair for retrieval), `value`, `chance`, `n`."""
    rows = []
    for part in PARTS:
        told, count = modality_probe(part, train, test)
        rows.append(_row("modality probe", part, "all", told, 1 / len(train), count))
    for query, gallery in permutations(test, 2):
        common = np.intersect1d(test[query].index, test[gallery].index)
        a, b = (_shared_of(test[name], common) for name in (query, gallery))
        for rank, value in zip(RANKS, recall_at(a, b, RANKS), strict=True):
            chance = min(rank / max(len(common), 1), 1.0)
            rows.append(_row(f"recall@{rank}", "shared", f"{query} -> {gallery}", value, chance, len(common)))
    for name in train:
        for part in PARTS:
            found = target_probe(task, target, train[name], test[name], part)
            rows.append(_row(f"target probe, {METRICS[task.kind][0]}", part, name, found, None, len(test[name].index)))
    return rows


def modality_probe(part: str, train: dict[str, Views], test: dict[str, Views]) -> tuple[float, int]:
    """Macro recall of telling the modality from one part of the test samples, and how many there were."""
    x, y = _stacked(part, train)
    unseen, truth = _stacked(part, test)
    said = _logistic(x, y, unseen, n_classes=len(train))
    kinds = Task("multiclass", "modality", classes=tuple(train)) if len(train) > 2 else Task(
        "binary", "modality", classes=tuple(train)
    )  # fmt: skip
    return score(kinds, said, truth)["macro_recall"], len(truth)


def recall_at(queries: Array, gallery: Array, ranks: tuple[int, ...]) -> list[float | None]:
    """How often row i of `queries` (n, h) has row i of `gallery` among its k most similar; a tie counts against it."""
    if not len(queries):
        return [None for _ in ranks]
    similarity = _unit(queries) @ _unit(gallery).T  # (n, n)
    own = similarity.diagonal()[:, None]
    ahead = (similarity >= own).sum(axis=1) - 1  # others that are as near or nearer
    return [float((ahead < rank).mean()) for rank in ranks]


def target_probe(task: Task, target: Array, train: Views, test: Views, part: str) -> float:
    """The task's metric of a linear model on one part, for the test samples."""
    x, y, unseen, truth = train.parts[part], target[train.index], test.parts[part], target[test.index]
    if task.kind == "regression":
        said = _ridge(x, y, unseen)[:, None]
    elif task.kind == "multilabel":
        columns = [_logistic(x, y[:, label], unseen, n_classes=2)[:, 1] for label in range(y.shape[1])]
        said = np.stack(columns, axis=1)
    else:
        said = _logistic(x, y, unseen, n_classes=task.n_outputs)
    return score(task, said, truth)[METRICS[task.kind][0]]


def _row(measure: str, part: str, modality: str, value: float | None, chance: float | None, n: int) -> Row:
    return {"measure": measure, "part": part, "modality": modality, "value": value, "chance": chance, "n": n}


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
    said = np.zeros((len(unseen), n_classes))
    if len(np.unique(y)) == 1:
        said[:, int(y[0])] = 1.0
        return said
    model = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression(class_weight="balanced", max_iter=300)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separable classes never converge, and need not
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
