"""Training, validation and test samples, by one of four protocols.

    grouped     fold k tests, fold (k + 1) mod K validates, the rest trains; a group (site, field, scene) is in one of
                them. The folds are those that the set publishes if it has as many as asked, else `grouped_folds`;
                they do not depend on the seed.
    random      the same with folds of single samples, permuted by the seed: places stand on several sides.
    fixed       the set's own split into three.
    published   random folds, and fold k is the test AND the validation part. Co-learning papers and their code do it;
                it is here to compare with their numbers alone, because early stopping has then seen the test samples.

All methods of one fold and one seed get the same samples, which is what makes a comparison paired.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from edge.errors import InputError
from edge.recipe import Recipe
from edge.train.paired import PairedSet
from edge.train.paired_checks import check_groups_apart

FOLDS = 5  # where neither the user nor the set says how many
TOO_GOOD = (
    "protocol 'published': the validation fold is the test fold and folds are random, so every score is too good; "
    "compare it with published numbers and with nothing else"
)


@dataclass(frozen=True, eq=False)
class Split:
    """Sorted int64 indices of samples; the three are disjoint, but validation is test under `published`."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def protocol_of(data: PairedSet, protocol: str | None = None) -> str:
    """The protocol that None stands for: a set's own split is used as it is, otherwise folds are grouped.

    InputError: `fixed` for a set without a split.
    """
    if protocol == "fixed" and data.split is None:
        raise InputError(f"{data.name} has no split of its own for protocol 'fixed'; use grouped or random folds")
    return protocol or ("grouped" if data.split is None else "fixed")


def fold_count(data: PairedSet, folds: int | None = None, protocol: str | None = None) -> int:
    """How many folds there are; a fixed split has one.

    Without `folds` as many as the set publishes, else 5, or 4 or 3 where there are no more groups to keep apart.
    """
    name = protocol_of(data, protocol)
    if name == "fixed":
        return 1
    if folds:
        return folds
    if data.fold is not None:
        return int(data.fold.max()) + 1
    return FOLDS if name != "grouped" else max(3, min(FOLDS, len(np.unique(data.groups))))


def protocol_text(data: PairedSet, recipe: Recipe) -> str:
    """How the recipe keeps test samples apart, for reports and cards."""
    name, count = protocol_of(data, recipe.protocol), fold_count(data, recipe.folds, recipe.protocol)
    if name == "fixed":
        return f"fixed, the set's own split, seed {recipe.seed}"
    after = {
        "grouped": "" if data.has_groups else " (no groups are named: one place may be on several sides)",
        "random": " (the same places are on several sides)",
        "published": " (random folds, validation fold = test fold: scores are too good)",
    }
    return f"{name}, {count} folds{after[name]}, test fold {recipe.fold}, seed {recipe.seed}"


def places_known(data: PairedSet, protocol: str | None) -> bool:
    """Whether test samples may stand where training samples do: random folds, or a set that names no groups."""
    return protocol_of(data, protocol) in ("random", "published") or not data.has_groups


def split_indices(
    data: PairedSet, fold: int = 0, folds: int | None = None, *, protocol: str | None = None, seed: int = 0
) -> Split:
    """The split of `data` for test fold `fold` (0 .. K-1, see `fold_count`) by `protocol` (see `protocol_of`).

    InputError: `fold` out of range (a fixed split has fold 0 alone), fewer groups or samples than folds, an empty
    side, a group on two sides of a fixed split, a class that the training part lacks.
    """
    protocol, count = protocol_of(data, protocol), fold_count(data, folds, protocol)
    if protocol == "fixed":
        _check_fold(fold, 1, f"{data.name} has a split of its own, used unless another protocol is named")
        sides = np.asarray(data.split)
    else:
        _check_fold(fold, count, f"there are {count} folds")
        numbers = fold_numbers(data, folds, protocol, seed)
        sides = np.zeros(len(numbers), np.int64)
        sides[numbers == (fold + 1) % count] = 0 if protocol == "published" else 1
        sides[numbers == fold] = 2
    if protocol in ("grouped", "fixed"):
        check_groups_apart(data.groups, sides, "split")
    train, validation, test = (np.flatnonzero(sides == side).astype(np.int64) for side in range(3))
    if protocol == "published":
        validation = test
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if not len(part):
            raise InputError(f"the {name} part of fold {fold} has no sample; correct fold.npy or split.npy")
    _check_classes(data, train)
    return Split(train, validation, test)


def fold_numbers(data: PairedSet, folds: int | None, protocol: str, seed: int) -> np.ndarray:
    """The fold of each sample (n,) under a protocol with folds; InputError for too few or too many folds."""
    count = fold_count(data, folds, protocol)
    least = 2 if protocol == "published" else 3
    if count < least:
        few = f"{count} folds leave" if count > 1 else f"{count} fold leaves"
        raise InputError(f"{few} nothing to train on beside validation and test; use {least} or more")
    if protocol in ("random", "published"):
        return random_folds(len(data), count, seed)
    if data.fold is not None and count == int(data.fold.max()) + 1:
        return data.fold
    return grouped_folds(data.groups, count)


def _way_out(groups: int) -> str:
    """Grouped folds need one to test, one to validate and one to train on."""
    if groups >= 3:
        return f"use at most {groups} folds"
    return "three are the least; use --protocol random, or give the set a `split` of its own"


def random_folds(samples: int, folds: int, seed: int) -> np.ndarray:
    """Fold numbers (samples,) int64: a permutation of the samples dealt out like cards, so sizes differ by one."""
    if samples < folds:
        raise InputError(f"there are {samples} samples, fewer than the {folds} folds; use at most {samples} folds")
    numbers = np.empty(samples, np.int64)
    numbers[np.random.default_rng(seed).permutation(samples)] = np.arange(samples) % folds
    return numbers


def grouped_folds(groups: np.ndarray, folds: int) -> np.ndarray:
    """Fold numbers (n,) int64: the largest groups first, each onto the fold that is smallest so far.

    Groups of equal size go in the order of a hash of their number, so that the folds depend neither on the order of the
    rows nor on neighbouring numbers (which are often neighbouring places).
    """
    names, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise InputError(f"there are {len(names)} groups, fewer than the {folds} folds; {_way_out(len(names))}")
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
            f"class {absent[0]!r} has no sample in the training part: all that it has is for validation or test; "
            "use another fold, more folds, or leave the class out"
        )
