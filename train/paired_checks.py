"""What data must satisfy before it becomes a paired set: values per band, targets, groups, dates."""

import numpy as np

from edge.errors import InputError
from edge.sensors import Modality
from edge.tasks import Task
from edge.train.dates import dates

SPLITS = ("train", "validation", "test")  # the meaning of 0, 1, 2 in split.npy


class BandFacts:
    """Collects, block by block, what decides whether a band can be used: missing values, minimum, maximum."""

    def __init__(self, modality: Modality) -> None:
        self.modality = modality
        self.valid = np.zeros(len(modality.bands), np.int64)
        self.low = np.full(len(modality.bands), np.inf, np.float32)
        self.high = np.full(len(modality.bands), -np.inf, np.float32)

    def add(self, rows: np.ndarray, start: int) -> np.ndarray:
        """Take (block, *shape) values that begin at sample `start`; give them back as float32, C order.

        InputError: an infinite value, also one that is too large for float32.
        """
        with np.errstate(over="ignore"):
            block = np.ascontiguousarray(rows, dtype="<f4")
        flat = np.moveaxis(block, self.modality.band_axis + 1, -1)  # (block, ..., bands)
        infinite = np.isinf(flat)
        if infinite.any():
            where = np.argwhere(infinite)[0]
            band = self.modality.bands[int(where[-1])].name
            raise InputError(
                f"modality {self.modality.name!r}, band {band!r}, sample {start + int(where[0])} (counted from 0): "
                f"{flat[tuple(where)]} is infinite or too large for float32; mark it as missing (NaN) or correct it"
            )
        flat = flat.reshape(-1, flat.shape[-1])  # (block * ..., bands)
        self.valid += np.count_nonzero(~np.isnan(flat), axis=0)
        self.low = np.fmin(self.low, np.fmin.reduce(flat, axis=0, initial=np.inf))
        self.high = np.fmax(self.high, np.fmax.reduce(flat, axis=0, initial=-np.inf))
        return block

    def check(self) -> None:
        """InputError for a band with only missing values, and for one that never changes."""
        for band, valid, low, high in zip(self.modality.bands, self.valid, self.low, self.high, strict=True):
            where = f"modality {self.modality.name!r}, band {band.name!r}"
            if not valid:
                raise InputError(f"{where}: every value is missing; leave the band out or check the nodata value")
            if low == high:
                raise InputError(f"{where}: every value is {low:g}, a constant band tells nothing; leave it out")


def checked_target(target: np.ndarray, task: Task) -> np.ndarray:
    """The target in the type that the task asks for (see edge.tasks.Task).

    InputError: wrong shape, NaN or infinite values, a class index out of range, a class without a sample, one class or
    value only.
    """
    values = np.asarray(target)
    columns = (task.n_outputs,) if task.kind == "multilabel" else ()
    if values.shape[1:] != columns or values.ndim != 1 + len(columns) or not len(values):
        expected = ", ".join(["samples", *map(str, columns)])
        raise InputError(f"target {task.name!r} has shape {list(values.shape)}; a {task.kind} task needs ({expected})")
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"target {task.name!r} holds {values.dtype}; give numbers (class indices for a classification)"
        )
    unusable = ~np.isfinite(values)
    if unusable.any():
        first = int(np.argwhere(unusable)[0][0])
        raise InputError(
            f"target {task.name!r}: {int(unusable.sum())} values are NaN or infinite, the first in sample {first} "
            "(counted from 0); leave out samples without a label"
        )
    return _checked_values(values, task) if task.kind == "regression" else _checked_classes(values, task)


def _checked_values(values: np.ndarray, task: Task) -> np.ndarray:
    if values.min() == values.max():
        raise InputError(f"target {task.name!r}: every value is {values[0]:g}; there is nothing to predict")
    return values.astype(np.float32)


def _checked_classes(values: np.ndarray, task: Task) -> np.ndarray:
    highest = 1 if task.kind == "multilabel" else len(task.classes) - 1
    wrong = (values < 0) | (values > highest) | (values != np.floor(values))
    if wrong.any():
        raise InputError(
            f"target {task.name!r}: value {values[wrong][0]:g} in sample {int(np.argwhere(wrong)[0][0])} "
            f"(counted from 0) is not a whole number from 0 to {highest}"
        )
    classes = values.astype(np.int64)
    if task.kind == "multilabel":
        counts = classes.sum(axis=0)
        for label, count in zip(task.classes, counts, strict=True):
            if count in (0, len(classes)):
                raise InputError(
                    f"target {task.name!r}: label {label!r} is set in {count} of {len(classes)} samples, which is "
                    "one class only; leave the label out"
                )
        return classes
    counts = np.bincount(classes, minlength=len(task.classes))
    if np.count_nonzero(counts) == 1:
        only = task.classes[int(counts.argmax())]
        raise InputError(f"target {task.name!r} has one class only, {only!r}; a classification needs two or more")
    empty = [label for label, count in zip(task.classes, counts, strict=True) if not count]
    if empty:
        raise InputError(f"target {task.name!r}: class {empty[0]!r} has no sample; leave it out of the classes")
    return classes


def checked_labels(key: str, values: np.ndarray, samples: int, groups: np.ndarray | None = None) -> np.ndarray:
    """`groups`, `fold` or `split` as int64 (samples,); a fold or split must keep every group on one side."""
    values = np.asarray(values)
    _check_length(key, values, samples, "number")
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all() or (values != np.floor(values)).any():
        raise InputError(f"{key} must be whole numbers, one per sample")
    labels = values.astype(np.int64)
    if key == "groups":
        return labels
    if labels.min() < 0 or (key == "split" and labels.max() >= len(SPLITS)):
        meaning = "0 train, 1 validation, 2 test" if key == "split" else "0, 1, 2 ..."
        raise InputError(f"{key} holds values from {labels.min()} to {labels.max()}; use {meaning}")
    if groups is not None:
        check_groups_apart(groups, labels, key)
    return labels


def checked_dates(values: np.ndarray, samples: int) -> np.ndarray:
    """`date` as datetime64[D] (samples,); InputError for what is no day, and where no day is known."""
    values = np.asarray(values)
    _check_length("date", values, samples, "day")
    days = dates(values, "date")
    if np.isnat(days).all():
        raise InputError("date: no day is known; leave the dates out")
    return days


def _check_length(key: str, values: np.ndarray, samples: int, what: str) -> None:
    if values.shape != (samples,):
        raise InputError(
            f"{key} has shape {list(values.shape)}, the target has {samples} samples; give one {what} each"
        )


def check_groups_apart(groups: np.ndarray, sides: np.ndarray, what: str) -> None:
    """InputError if samples of one group have different `sides`, arrays (n,)."""
    pairs = np.unique(np.stack([groups, sides]), axis=1)  # (2, number of different pairs)
    names, counts = np.unique(pairs[0], return_counts=True)
    if (counts > 1).any():
        group = int(names[counts > 1][0])
        found = sorted(int(side) for side in pairs[1][pairs[0] == group])
        raise InputError(
            f"group {group} stands on several sides of the {what} ({found}), so a test would see places that were "
            f"trained on; leave out the {what} or correct the groups"
        )
