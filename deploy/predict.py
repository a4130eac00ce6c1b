"""Predictions for files: a stream of samples through an engine into a table, an archive or a map.

Memory is bounded by two batches for .csv and by two pieces of a scene for .tif; a .npz holds the predictions, not the
inputs, until it is written. The result is there whole or not at all.

    OUT.csv   kept columns, then `prediction` and `probability_<class>`, or for regression `prediction` and `unit`.
              Several labels at once: `prediction` joins with ";" those of probability one half or more
    OUT.npz   `prediction` (n, outputs) float32, `classes` or `unit`, and one array of texts per kept column
    OUT.tif   the map of a scene, see edge.deploy.scene_map
"""

import contextlib
import csv
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edge.deploy.bundle import Bundle
from edge.deploy.calibrated import calibrated
from edge.deploy.choice import graph_to_run
from edge.deploy.engine import open_engine
from edge.deploy.samples import Samples, ahead, read_samples
from edge.deploy.scene_map import MAPS, write_map
from edge.errors import InputError
from edge.files import replacing
from edge.tasks import Task

# Samples and their outputs (k, n_outputs) float32.
Answers = Iterator[tuple[Samples, np.ndarray]]


def predict(
    bundle: Bundle,
    source: Path,
    out: Path,
    *,
    precision: str | None = None,
    backend: str = "onnxruntime",
    threads: int = 1,
    batch: int = 256,
    stride: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Predict every sample of `source` (edge.deploy.samples, or .scene for a map) into `out`, and return what was done.

    `precision`: "fp32" or "int8"; None takes the engine that `edge engine` chose here, else INT8 if the bundle has it.
    `stride`: pixels from one sample of a map to the next. `progress` gets the bytes of the source that a batch took.
    Among what is returned: `empty`, predicted samples that hold no value at all, so that their prediction says nothing
    (a map leaves such cells out). InputError: a source or an output that does not fit; then nothing is written.
    """
    is_map = out.suffix.lower() in MAPS
    if not is_map and out.suffix not in (".csv", ".npz"):
        raise InputError(f"the output {out} must end in .csv, .npz or, for the map of a scene, .tif")
    if stride is not None and not is_map:
        raise InputError(f"a stride is for maps, and {out} is none; end it in .tif")
    if out.exists() and (out.is_dir() or (source.exists() and out.samefile(source))):
        raise InputError(f"the output {out} is {'a folder' if out.is_dir() else 'the input'}; give another file")
    if batch < 1:
        raise InputError(f"batch is {batch}; it must be at least 1")
    graph, precision = graph_to_run(bundle, precision, backend)
    parts = None if is_map else read_samples(source, bundle.modality, batch)
    limits = calibrated(bundle.card, bundle.modality) if precision == "int8" else None
    empty = 0
    begin = time.perf_counter()
    with (
        contextlib.closing(open_engine(graph, backend=backend, threads=threads)) as engine,
        replacing(out) as temporary,
    ):

        def run(values: np.ndarray) -> np.ndarray:
            nonlocal empty
            empty += _count_empty(values)
            if limits is not None:
                limits.count(values)
            return engine.run({bundle.modality.name: values})["prediction"]

        if parts is None:
            done = write_map(
                temporary, source, bundle.modality, bundle.task, run, batch=batch, stride=stride, progress=progress
            )
        else:
            done = {"samples": _write_all(temporary, source, bundle.task, parts, run, progress)}
    return {
        "out": str(out),
        **done,
        "empty": empty,
        "precision": precision,
        "backend": backend,
        "seconds": time.perf_counter() - begin,
        "failed_gates": bundle.failed_gates,
        "outside_calibration": None if limits is None else limits.to_json(),
    }


def _count_empty(samples: np.ndarray) -> int:
    """How many of the samples (k, *shape) are missing altogether; only those that begin so are looked at."""
    rows = samples.reshape(len(samples), -1)
    return int(np.isnan(rows[np.isnan(rows[:, 0])]).all(axis=1).sum())


def _write_all(
    path: Path,
    source: Path,
    task: Task,
    parts: Iterator[Samples],
    run: Callable[[np.ndarray], np.ndarray],
    progress: Callable[[int], None] | None,
) -> int:
    """A table or an archive of all `parts` of the source; gives the number of samples."""
    if source.suffix.lower() not in (".npy", ".npz"):  # arrays are read in no time, text and many files are not
        parts = ahead(parts)

    def answers() -> Answers:
        for part in parts:
            yield part, run(part.values)
            if progress is not None:
                progress(part.size)

    samples = write_answers(path, task, answers())
    if samples == 0:
        raise InputError(f"{source} holds no samples")
    return samples


def write_answers(path: Path, task: Task, answers: Answers) -> int:
    """Write a .csv or .npz, as its ending says, and return the number of samples; nothing is written for none."""
    return (_write_csv if path.suffix == ".csv" else _write_npz)(path, task, answers)


def _write_csv(path: Path, task: Task, answers: Answers) -> int:
    """One template for a row: half the time of csv.writer with every number made a text on its own."""
    count = 0
    columns = _columns(task)
    numbers = ["%.7g"] * task.n_outputs  # seven digits, which is what a float32 holds
    cells = ["%.7g", "%s"] if task.kind == "regression" else ["%s", *numbers]
    with open(path, "w", newline="", encoding="utf-8") as file:
        for part, outputs in answers:
            if count == 0:
                _refuse_clash(part, columns)
                file.write(",".join(_quoted([*part.extras, *columns])) + "\n")
                row = ",".join(["%s"] * len(part.extras) + cells) + "\n"
            kept = map(_quoted, part.extras.values())
            file.writelines(row % values for values in zip(*kept, *_cells(task, outputs), strict=True))
            count += len(outputs)
    return count


def _columns(task: Task) -> list[str]:
    if task.kind == "regression":
        return ["prediction", "unit"]
    return ["prediction", *(f"probability_{name}" for name in task.classes)]


def _cells(task: Task, outputs: np.ndarray) -> list[list[Any]]:
    """One list per column: numbers, and texts as they stand in a CSV."""
    numbers: list[list[Any]] = outputs.T.tolist()
    if task.kind == "regression":
        return [numbers[0], _quoted([task.unit]) * len(outputs)]
    if task.kind == "multilabel":
        chosen = (outputs >= 0.5).tolist()
        names = _quoted(";".join(name for name, yes in zip(task.classes, row, strict=True) if yes) for row in chosen)
    else:
        classes = _quoted(task.classes)
        names = [classes[index] for index in outputs.argmax(axis=1).tolist()]
    return [names, *numbers]


def _quoted(texts: Iterable[str]) -> list[str]:
    """Each text as a cell of a CSV."""
    cells: list[str] = []
    writer = csv.writer(SimpleNamespace(write=cells.append))
    writer.writerows([text, ""] for text in texts)  # an empty text that stands alone would get quotes
    return [cell.removesuffix(",\r\n") for cell in cells]


def _write_npz(path: Path, task: Task, answers: Answers) -> int:
    outputs: list[np.ndarray] = []
    extras: dict[str, list[str]] = {}
    about = {"unit": np.array(task.unit)} if task.kind == "regression" else {"classes": np.array(task.classes)}
    for part, output in answers:
        if not outputs:
            _refuse_clash(part, ["prediction", *about])
        outputs.append(output)
        for name, texts in part.extras.items():
            extras.setdefault(name, []).extend(texts)
    if not outputs:
        return 0
    arrays = {
        "prediction": np.concatenate(outputs),
        **about,
        **{name: np.array(texts) for name, texts in extras.items()},
    }
    with zipfile.ZipFile(path, "w") as archive:  # numpy.savez has parameters of its own: no array may be called `file`
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return len(arrays["prediction"])


def _refuse_clash(part: Samples, columns: list[str]) -> None:
    for name in part.extras:
        if name in columns:
            raise InputError(f"the input has a column {name!r} already, which the result needs; rename it")
