"""The layout file of `edge data import`: a small JSON file that says what the columns, folders or arrays mean.

    {"name": "my-fields",
     "task": {"kind": "multiclass", "name": "crop", "classes": ["wheat", "maize"]},
     "target": "crop", "groups": "field", "date": "day", "nodata": -9999,
     "modalities": {
       "optical": {"sensor": "Sentinel-2", "bands": ["B04", "B08"], "unit": "reflectance", "times": ["t-1", "t"],
                   "columns": "{band}({time})"},
       "weather": {"bands": [{"name": "temperature", "unit": "K"}]}}}

`task.kind`: binary, multiclass, multilabel (`target` is then a list, one 0/1 column per label) or regression (`unit`).
Optional: classes (else the values that occur, sorted), groups (else every sample is its own), fold, split, date (the
day of each sample, such as 2019-06-30), nodata, source, default_modalities. A modality takes what its form needs:

    table     bands, times, `columns`: a pattern with {band} and {time} (default "{band}"), or a list of names per time
    folders   `folder` (default: the modality's name), bands (default: those of the GeoTIFF), times for .npy series
    npz       `array` (default: the modality's name), bands (default: band_0 ...), times
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import InputError
from edge.files import read_json
from edge.sensors import MISSING, Band, Modality
from edge.tasks import Task
from edge.train.dates import dates
from edge.train.paired import PairedSet, Rows, write_paired_set
from edge.train.paired_checks import SPLITS

# The dims of a sample by its number of axes.
DIMS = {1: ("band",), 2: ("time", "band"), 3: ("band", "y", "x")}
MODALITY_KEYS = ("sensor", "bands", "unit", "times", "columns", "folder", "array")

Column = Callable[[str], np.ndarray]  # the name of a column -> its values (n,), text or numbers


@dataclass(frozen=True)
class Layout:
    """The layout file; see the module."""

    name: str
    task: dict[str, Any]
    target: str | list[str]
    modalities: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: str | None = None
    fold: str | None = None
    split: str | None = None
    date: str | None = None
    nodata: float | None = None
    source: dict[str, str] = field(default_factory=dict)
    default_modalities: tuple[str, ...] = ()


def read_layout(path: Path) -> Layout:
    """Read and check the layout file; InputError names an unknown or a missing key."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object with the keys of a layout")
    check_keys(values, Layout.__dataclass_fields__, str(path))
    missing = [key for key in ("name", "task", "target") if key not in values]
    if missing or not isinstance(values["task"], dict) or "kind" not in values["task"]:
        raise InputError(f"{path}: the key {(missing or ['task.kind'])[0]!r} is missing")
    check_keys(values["task"], ("kind", "name", "classes", "unit"), f"{path}, task")
    if not isinstance(values.get("modalities", {}), dict):
        raise InputError(f"{path}: modalities must be an object, name -> description")
    _check_types(values, path)
    for name, entry in values.get("modalities", {}).items():
        if not isinstance(entry, dict):
            raise InputError(f"{path}: modality {name!r} must be an object")
        check_keys(entry, MODALITY_KEYS, f"{path}, modality {name!r}")
    return Layout(**values)


def _check_types(values: dict[str, Any], path: Path) -> None:
    for key in ("name", "groups", "fold", "split", "date"):
        if not isinstance(values.get(key, ""), str):
            raise InputError(f"{path}: {key} is {values[key]!r}; expected a name")
    names = values["target"] if isinstance(values["target"], list) else [values["target"]]
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: target is {values['target']!r}; expected a name or a list of names")
    if not isinstance(values.get("nodata", 0), (int, float)):
        raise InputError(f"{path}: nodata is {values['nodata']!r}; expected a number")
    lists = [("task.classes", values["task"].get("classes")), ("default_modalities", values.get("default_modalities"))]
    for name, entry in values.get("modalities", {}).items():
        if isinstance(entry, dict):
            lists += [(f"modalities.{name}.{key}", entry.get(key)) for key in ("bands", "times")]
            for band in entry["bands"] if isinstance(entry.get("bands"), list) else ():
                if not isinstance(band, str) and not (isinstance(band, dict) and isinstance(band.get("name"), str)):
                    raise InputError(f"{path}: modality {name!r}: band {band!r} must be a name, or have one")
    for where, value in lists:
        if value is not None and not isinstance(value, list):
            raise InputError(f"{path}: {where} is {value!r}; expected a list")
    if not isinstance(values.get("source", {}), dict):
        raise InputError(f"{path}: source is {values['source']!r}; expected an object with title, licence ...")


def check_keys(values: Iterable[str], known: Iterable[str], where: str) -> None:
    """InputError for a key that is not known, with the nearest known one."""
    names = list(known)
    for key in values:
        if key not in names:
            raise InputError(f"{where}: the key {key!r} is not known; {nearest(key, names)}")


def nearest(name: str, known: list[str]) -> str:
    """What to say about a name that is not known."""
    near = difflib.get_close_matches(name, known, n=1)
    return (
        f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known[:12])}{' ...' if len(known) > 12 else ''}"
    )


def describe_modality(
    name: str,
    entry: dict[str, Any],
    shape: tuple[int, ...],
    file_bands: tuple[str, ...] = (),
    *,
    columns: tuple[str, ...] = (),
    nodata: float | None = None,
) -> Modality:
    """The modality of samples of `shape`; band names from the layout, else `file_bands`, else band_0, band_1 ..."""
    if len(shape) not in DIMS:
        raise InputError(
            f"modality {name!r}: samples have {len(shape)} axes; use a vector, (time, band) or (band, y, x)"
        )
    dims = DIMS[len(shape)]
    count = shape[dims.index("band")]
    given = entry.get("bands") or file_bands or [f"band_{i}" for i in range(count)]
    described = tuple(_band(name, band, entry.get("unit", "1")) for band in given)
    return Modality(
        name, described, dims, shape, entry.get("sensor", ""), tuple(entry.get("times", ())), columns, nodata
    )


def _band(modality: str, band: Any, unit: str) -> Band:
    if isinstance(band, str):
        return Band(band, unit)
    try:
        return Band(**{"unit": unit, **band})
    except TypeError:
        raise InputError(
            f"modality {modality!r}: band {band!r} must be a name, or have name, unit, common_name"
        ) from None


@dataclass(frozen=True, eq=False)
class Labels:
    """What a layout says about every sample besides its values."""

    task: Task
    target: np.ndarray
    groups: np.ndarray
    fold: np.ndarray | None
    split: np.ndarray | None
    date: np.ndarray | None


def read_labels(layout: Layout, column: Column) -> Labels:
    """Target, groups, fold, split and date (n,) from the columns that `layout` names."""
    task, target = _read_target(layout, column)
    if layout.groups is None:
        groups = np.arange(len(target))
    else:
        groups = np.unique(_texts(column(layout.groups), layout.groups), return_inverse=True)[1].reshape(-1)
    return Labels(
        task=task,
        target=target,
        groups=groups,
        fold=None if layout.fold is None else _read_fold(column(layout.fold), layout.fold),
        split=None if layout.split is None else _read_split(column(layout.split), layout.split),
        date=None if layout.date is None else dates(column(layout.date), layout.date),
    )


def write_imported(
    folder: Path,
    layout: Layout,
    labels: Labels,
    modalities: dict[str, Modality],
    arrays: Mapping[str, Rows],
    source: dict[str, str],
) -> PairedSet:
    """The last step of every import: what was read, with the layout's name, source and default modalities."""
    return write_paired_set(
        folder,
        name=layout.name,
        modalities=modalities,
        arrays=arrays,
        task=labels.task,
        target=labels.target,
        groups=labels.groups,
        fold=labels.fold,
        split=labels.split,
        date=labels.date,
        source={**source, **layout.source},
        default_modalities=layout.default_modalities,
    )


def numbers(values: np.ndarray, name: str) -> np.ndarray:
    """Column `name` as float64; an empty cell is NaN. InputError gives the row of a text that is no number."""
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    cells = ["nan" if str(cell).strip() in MISSING else cell for cell in values]
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        row = next(i for i, cell in enumerate(cells) if not _is_number(cell))
        raise InputError(
            f"column {name!r}, data row {row + 1}: {str(values[row])!r} is not a number; leave a missing value empty"
        ) from None


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _read_target(layout: Layout, column: Column) -> tuple[Task, np.ndarray]:
    kind, columns = layout.task["kind"], layout.target
    if (kind == "multilabel") != isinstance(columns, list):
        raise InputError(f"target {columns!r}: a multilabel task takes a list of columns, every other kind one name")
    name = layout.task.get("name", columns if isinstance(columns, str) else "labels")
    unit = layout.task.get("unit", "1")
    classes = tuple(str(label) for label in layout.task.get("classes", ()))
    if isinstance(columns, list):
        target = np.stack([_measured(column(label), label, layout) for label in columns], axis=1)
        return Task(kind, name, classes or tuple(columns), unit), target
    values = column(columns)
    if kind == "regression":
        return Task(kind, name, unit=unit), _measured(values, columns, layout)
    texts = _texts(values, columns, classes, layout.nodata)
    task = Task(kind, name, classes or tuple(sorted(set(texts), key=_by_number)), unit)
    return task, _class_indices(texts, task)


def _class_indices(texts: np.ndarray, task: Task) -> np.ndarray:
    """Indices (n,) of class names; whole numbers that are no class names are indices already."""
    index = {label: i for i, label in enumerate(task.classes)}
    unknown = next((text for text in texts if text not in index), None)
    if unknown is None:
        return np.array([index[text] for text in texts])
    if all(text.lstrip("-").isdigit() for text in texts) and not any(map(_is_number, task.classes)):
        return texts.astype(np.int64)
    row = int(np.flatnonzero(texts == unknown)[0])
    raise InputError(
        f"target {task.name!r}, sample {row} (counted from 0): class {str(unknown)!r} is not known; "
        f"{nearest(unknown, list(task.classes))}"
    )


def _measured(values: np.ndarray, name: str, layout: Layout) -> np.ndarray:
    """A target in numbers, NaN where it is the layout's nodata value."""
    found = numbers(values, name)
    return found if layout.nodata is None else np.where(found == layout.nodata, np.nan, found)


def _texts(values: np.ndarray, name: str, known: tuple[str, ...] = (), nodata: float | None = None) -> np.ndarray:
    """Labels as text; 3.0 is "3". InputError for a missing one, which a class of the `known` ones never is."""
    texts = []
    for row, value in enumerate(values):
        number = isinstance(value, (float, np.floating)) and np.isfinite(value) and value == int(value)
        texts.append(str(int(value)) if number else str(value).strip())
        text = texts[-1]
        empty = text in (*MISSING, "nan") or (nodata is not None and _is_number(text) and float(text) == nodata)
        if value is None or value != value or (empty and text not in known):
            raise InputError(
                f"column {name!r}, data row {row + 1}: the label is missing ({text!r}); fill it in or leave the row out"
            )
    return np.array(texts)


def _by_number(text: str) -> tuple[float, str]:
    return (float(text) if _is_number(text) else np.inf, text)


def _read_fold(values: np.ndarray, name: str) -> np.ndarray:
    found = numbers(values, name)
    if len(found) and np.nanmin(found) > 0:
        raise InputError(f"column {name!r} holds {np.nanmin(found):g} to {np.nanmax(found):g}; folds count from 0")
    return found


def _read_split(values: np.ndarray, name: str) -> np.ndarray:
    """0, 1, 2, or the words train, validation, test."""
    if values.dtype.kind in "UO" and set(values) <= set(SPLITS):
        return np.array([SPLITS.index(str(value)) for value in values])
    strange = next((str(value) for value in values if not _is_number(value) and str(value) not in SPLITS), None)
    if strange is not None:
        raise InputError(f"column {name!r}: {strange!r} is not one of {', '.join(SPLITS)} (or 0, 1, 2)")
    return numbers(values, name)
