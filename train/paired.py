"""A paired set: samples that several sensors saw, in one folder, memory-mapped.

The folder holds `dataset.json` (schema `edge.paired/1`) and plain `.npy` files:

    <modality>.npy   float32 (n, *shape of the modality), NaN = missing value; all NaN: the sample lacks the modality
    target.npy       what is predicted, see edge.tasks.Task
    groups.npy       int64 (n,): site, field, scene ... whatever must never stand on both sides of a split
    fold.npy         optional int64 (n,): 0 .. K-1, a published grouped cross-validation
    split.npy        optional int64 (n,): 0 train, 1 validation, 2 test
    date.npy         optional datetime64[D] (n,): the day that a sample stands for, on which its target was observed or
                     its series ends; NaT where it is not known (see edge.train.dates)

`dataset.json` holds the shape, the type, the size and the SHA-256 of every array, so its own SHA-256 is the fingerprint
of the whole set. Opening compares types, shapes and sizes; it does not hash large arrays again.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge.errors import InputError
from edge.files import inside, read_json, replacing_folder, sha256, write_json
from edge.sensors import Modality
from edge.tasks import Task
from edge.train.mapped import rows_of
from edge.train.paired_checks import BandFacts, checked_dates, checked_labels, checked_target

SCHEMA = "edge.paired/1"
MARKER = "dataset.json"
_LABELS = ("target", "groups", "fold", "split", "date")
_RESERVED = (*_LABELS, "prediction")  # `prediction` is the output of every student
_BLOCK = 1 << 22  # values per block: 16 MiB of float32


class Rows(Protocol):
    """What a modality's values may come from: an array, or a reader that makes the rows of a slice when asked."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, *shape of the modality)."""

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class PairedSet:
    """An opened paired set; `arrays` are read-only memory maps, the labels are in memory."""

    folder: Path
    name: str
    modalities: dict[str, Modality]
    task: Task
    source: dict[str, str]  # title, licence, citation, address ... whatever says where the data comes from
    default_modalities: tuple[str, ...]  # what `edge train` uses when nothing is named
    arrays: dict[str, np.ndarray]
    target: np.ndarray
    groups: np.ndarray
    fold: np.ndarray | None
    split: np.ndarray | None
    date: np.ndarray | None
    fingerprint: str
    _present: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.target)

    @property
    def has_groups(self) -> bool:
        """Whether any two samples stand in one group; otherwise nothing keeps samples of one place together."""
        return len(np.unique(self.groups)) < len(self)

    def present(self, modality: str) -> np.ndarray:
        """(n,) bool: False where the sample lacks the modality, that is, where every value is missing.

        The array is read once, in blocks; the result is read-only.
        """
        if modality not in self._present:
            array = rows_of(self.arrays[modality])
            axes = tuple(range(1, len(array.shape)))
            found = [~np.isnan(array[rows]).all(axis=axes) for rows in blocks(array.shape)]
            self._present[modality] = np.concatenate(found)
            self._present[modality].flags.writeable = False
        return self._present[modality]


def blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices over the first axis that keep a block of an array of `shape` near 16 MiB."""
    step = max(1, _BLOCK // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def write_paired_set(
    folder: Path,
    *,
    name: str,
    modalities: dict[str, Modality],
    arrays: Mapping[str, Rows],
    target: np.ndarray,
    task: Task,
    groups: np.ndarray,
    source: dict[str, str],
    fold: np.ndarray | None = None,
    split: np.ndarray | None = None,
    date: np.ndarray | None = None,
    default_modalities: Sequence[str] = (),
) -> PairedSet:
    """Check the data, write it to `folder` whole or not at all, and open it.

    `arrays[m]` is (n, *modalities[m].shape); it is read in blocks, so it may be larger than the memory.
    `date` is datetime64 or ISO 8601 text. Without `default_modalities` all of them are the default. InputError: names,
    lengths or shapes that do not fit, an infinite value, a band with only missing values or one value only, NaN or one
    class only in the target, a group on two sides, what is no date.
    """
    defaults = tuple(default_modalities) or tuple(modalities)
    _check_names(modalities, arrays, defaults)
    labels = {"target": checked_target(target, task)}
    for key, values in (("groups", groups), ("fold", fold), ("split", split)):
        if values is not None:
            labels[key] = checked_labels(key, values, len(labels["target"]), labels.get("groups"))
    if date is not None:
        labels["date"] = checked_dates(date, len(labels["target"]))
    _check_shapes(modalities, arrays, len(labels["target"]))

    with replacing_folder(folder, MARKER, keep=_not_of_a_set) as temporary:
        for key, modality in modalities.items():
            _write_rows(temporary / f"{key}.npy", modality, arrays[key])
        for key, values in labels.items():
            np.save(temporary / f"{key}.npy", values, allow_pickle=False)
        document = {
            "schema": SCHEMA,
            "name": name,
            "samples": len(labels["target"]),
            "nodata": "nan",
            "task": task.to_json(),
            "default_modalities": list(defaults),
            "modalities": {key: modality.to_json() for key, modality in modalities.items()},
            "arrays": {key: _entry(temporary / f"{key}.npy") for key in (*modalities, *labels)},
            "source": dict(source),
        }
        write_json(temporary / MARKER, document)
    return open_paired_set(folder)


def open_paired_set(folder: Path) -> PairedSet:
    """Open the paired set in `folder`; InputError names the file that is missing or not as `dataset.json` says."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; a paired set is a folder with {MARKER}")
    if not (folder / MARKER).is_file():
        raise InputError(f"{folder} is no paired set: it holds no {MARKER}; make one with `edge data import`")
    document = read_json(folder / MARKER)
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{folder / MARKER}: schema {schema!r} is not known; this version of edge reads {SCHEMA!r}")
    try:
        return _from_document(folder, document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{folder / MARKER} is incomplete or wrong: {type(error).__name__} {error}") from None


def _from_document(folder: Path, document: dict[str, Any]) -> PairedSet:
    samples = int(document["samples"])
    task = Task.from_json(document["task"])
    modalities = {key: Modality.from_json(key, entry) for key, entry in document["modalities"].items()}
    entries = document["arrays"]
    arrays = {
        key: _open_array(folder, entries[key], "float32", (samples, *modality.shape))
        for key, modality in modalities.items()
    }
    target_shape = (samples, task.n_outputs) if task.kind == "multilabel" else (samples,)
    target_type = "float32" if task.kind == "regression" else "int64"
    optional = {
        key: np.array(_open_array(folder, entries[key], dtype, (samples,))) if key in entries else None
        for key, dtype in (("fold", "int64"), ("split", "int64"), ("date", "datetime64[D]"))
    }
    return PairedSet(
        folder=folder,
        name=str(document["name"]),
        modalities=modalities,
        task=task,
        source=dict(document["source"]),
        default_modalities=tuple(document["default_modalities"]),
        arrays=arrays,
        target=np.array(_open_array(folder, entries["target"], target_type, target_shape)),
        groups=np.array(_open_array(folder, entries["groups"], "int64", (samples,))),
        fold=optional["fold"],
        split=optional["split"],
        date=optional["date"],
        fingerprint=hashlib.sha256((folder / MARKER).read_bytes()).hexdigest(),
    )


def _open_array(folder: Path, entry: dict[str, Any], dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    path = inside(folder, entry["file"])
    if not path.is_file():
        raise InputError(f"{path} is missing; import or fetch the paired set again")
    if path.stat().st_size != entry["bytes"]:
        raise InputError(
            f"{path} has {path.stat().st_size} bytes, {MARKER} says {entry['bytes']}: it is truncated or was changed; "
            "import or fetch the paired set again"
        )
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} is not a readable .npy file: {error}") from None
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise InputError(f"{path} holds {array.dtype} {array.shape}, expected {dtype} {shape}; import the set again")
    return array


def _entry(path: Path) -> dict[str, Any]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return {
        "file": path.name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
    }


def _not_of_a_set(path: Path) -> bool:
    """What somebody else put into the folder of a paired set."""
    return path.suffix != ".npy" and path.name != MARKER


def _write_rows(path: Path, modality: Modality, rows: Rows) -> None:
    """Stream `rows` into a .npy file by plain writes: a full disk is an OSError then, in a memory map it is a crash."""
    facts = BandFacts(modality)
    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(rows.shape)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in blocks(tuple(rows.shape)):
            block = facts.add(rows[part], part.start)
            file.write(block.tobytes())
    facts.check()


def _check_names(modalities: dict[str, Modality], arrays: Mapping[str, Rows], defaults: tuple[str, ...]) -> None:
    if not modalities:
        raise InputError("a paired set needs at least one modality")
    if set(modalities) != set(arrays):
        raise InputError(f"modalities {sorted(modalities)} are described, but arrays {sorted(arrays)} are given")
    for key, modality in modalities.items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", key) or key in _RESERVED:
            raise InputError(
                f"modality name {key!r}: use letters, digits and _ (a letter first), and none of {', '.join(_RESERVED)}"
            )
        names = [band.name for band in modality.bands]
        twice = sorted({band for band in names if names.count(band) > 1})
        if key != modality.name or twice:
            raise InputError(f"modality {key!r}: its name is {modality.name!r} and bands named twice are {twice}")
    unknown = [key for key in defaults if key not in modalities]
    if unknown:
        raise InputError(f"default modality {unknown[0]!r} is not known; known: {', '.join(modalities)}")


def _check_shapes(modalities: dict[str, Modality], arrays: Mapping[str, Rows], samples: int) -> None:
    for key, modality in modalities.items():
        shape = tuple(arrays[key].shape)
        if shape[:1] != (samples,):
            lengths = {name: array.shape[0] if array.shape else 0 for name, array in arrays.items()} | {
                "target": samples
            }
            raise InputError(
                f"paired arrays have different lengths: {json.dumps(lengths)}; give every modality one row per "
                "target; fill a modality that a sample lacks with NaN"
            )
        if shape[1:] != modality.shape:
            raise InputError(
                f"modality {key!r}: samples have shape {list(shape[1:])}, its description says {list(modality.shape)} "
                f"for axes {list(modality.dims)}"
            )
