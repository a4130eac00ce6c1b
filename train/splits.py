"""Training, validation and test samples; a group (site, field, scene) never stands on two sides."""

import hashlib
from dataclasses import dataclass

import numpy as np

from edge.errors import InputError
from edge.train.paired import PairedSet
from edge.train.paired_checks import check_groups_apart


@dataclass(frozen=True, eq=False)
class Split:
    """Sorted int64 indices of samples; the three are disjoint."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_indices(data: PairedSet, fold: int = 0, folds: int = 5) -> Split:
    """The split of `data` for test fold `fold` (0 .. K-1).

    A published `split` is used as it is (`fold` must be 0). Otherwise the test is fold k, the validation is fold
    (k + 1) mod K and the rest is for training, where the folds are the published ones, or `folds` grouped folds of
    about equal size. InputError: `fold` out of range, fewer groups than folds, an empty side, a class that the training
    part lacks.
    """
    if data.split is not None:
        _check_fold(fold, 1, "this set has a published split")
        sides = data.split
    else:
        numbers = data.fold if data.fold is not None else grouped_folds(data.groups, folds)
        count = int(numbers.max()) + 1
        _check_fold(fold, count, f"there are {count} folds")
        if count < 3:
            raise InputError(f"{count} folds leave nothing to train on beside validation and test; use 3 or more")
        sides = np.zeros(len(numbers), np.int64)
        sides[numbers == (fold + 1) % count] = 1
        sides[numbers == fold] = 2
    check_groups_apart(data.groups, sides, "split")
    train, validation, test = (np.flatnonzero(sides == side).astype(np.int64) for side in range(3))
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if not len(part):
            raise InputError(f"the {name} part of fold {fold} has no sample; correct fold.npy or split.npy")
    _check_classes(data, train)
    return Split(train, validation, test)


def grouped_folds(groups: np.ndarray, folds: int) -> np.ndarray:
    """Fold numbers (n,) int64: the largest groups first, each onto the fold that is smallest so far.

    Groups of equal size go in the order of a hash of their number, so that the folds depend neither on the order of the
    rows nor on neighbouring numbers (which are often neighbouring places).
    """
    names, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise InputError(f"there are {len(names)} groups, fewer than the {folds} folds; use at most {len(names)} folds")
    order = sorted(range(len(names)), key=lambda i: (-int(sizes[i]), hashlib.sha256(b"%d" % names[i]).digest()))
    filled = np.zeros(folds, np.int64)
    fold_of = np.zeros(len(names), np.int64)
    for i in order:
        fold_of[i] = int(filled.argmin())
        filled[fold_of[i]] += sizes[i]
    result: np.ndarray = fold_of[inverse]
    return result


def _check_fold(fold: int, count: int, why: str) -> None:
    if not 0 <= fold < count:
        raise InputError(
            f"fold {fold} is out of range: {why}, so use 0 to {count - 1}"
            if count > 1
            else f"fold {fold} is out of range: {why}, so use 0"
        )


def _check_classes(data: PairedSet, train: np.ndarray) -> None:
    if data.task.kind == "regression":
        return
    target = data.target[train]
    seen = target.any(axis=0) if data.task.kind == "multilabel" else np.isin(range(data.task.n_outputs), target)
    absent = [name for name, found in zip(data.task.classes, seen, strict=True) if not found]
    if absent:
        raise InputError(
            f"class {absent[0]!r} has no sample in the training part: all of its groups are for validation or test; "
            "use another fold, more folds, or leave the class out"
        )
