"""Bundles measured with data from a file, or with their own golden inputs."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.benchmarks.bench import Array, Entry, bench_graphs
from edge.benchmarks.latency import Timing
from edge.benchmarks.report import Report, make_report
from edge.deploy.bundle import Bundle, open_bundle
from edge.errors import InputError


def bench_bundles(
    folders: Sequence[Path],
    data: Path | None = None,
    *,
    precisions: Sequence[str] = ("fp32", "int8"),
    batches: Sequence[int] = (1, 32, 256),
    threads: int = 1,
    timing: Timing | None = None,
    command: str | None = None,
    notify: Callable[[str], None] = lambda message: None,
) -> Report:
    """A report over the bundles' graphs in these precisions, all measured in one run.

    `data` is an .npz with an array (N, *shape) per modality, `target` (see `Task`) and optionally `groups` (N,).
    Without it the golden inputs of the first bundle of each modality are timed, and no accuracy is measured. A bundle
    that lacks a precision is measured in those that it has. InputError: different tasks, data that do not fit.
    """
    bundles = [open_bundle(folder) for folder in folders]
    first = bundles[0]
    for bundle in bundles[1:]:
        if bundle.task != first.task:
            raise InputError(
                f"{bundle.folder} predicts {bundle.task.name!r}, {first.folder} {first.task.name!r}: one task at a time"
            )
    arrays = _golden_inputs(bundles) if data is None else _read_data(data, bundles)
    results = bench_graphs(
        _entries(bundles, precisions),
        arrays,
        arrays.get("target"),
        arrays.get("groups"),
        batches=batches,
        threads=threads,
        timing=timing,
        notify=notify,
    )
    failed = [
        f"{bundle.folder} failed the gate {name!r} when it was built."
        for bundle in bundles
        for name in bundle.failed_gates
    ]
    return make_report(
        dataset=None if data is None else data.name,
        modality=", ".join(dict.fromkeys(bundle.modality.name for bundle in bundles)),
        task=first.task,
        protocol=None,
        results=results,
        command=command,
        warnings=failed,
    )


def _entries(bundles: Sequence[Bundle], precisions: Sequence[str]) -> list[Entry]:
    methods = [str(bundle.card["properties"]["edge:training"].get("method", "student")) for bundle in bundles]
    names = list(zip(methods, (bundle.modality.name for bundle in bundles), strict=True))
    entries = []
    for bundle, method, name in zip(bundles, methods, names, strict=True):
        # Two bundles of one method and modality are told apart by their folders.
        label = f"{method} ({bundle.folder.resolve().name})" if names.count(name) > 1 else method
        found = [p for p in precisions if p in ({key.partition(".")[0] for key in bundle.graphs})]
        if not found:
            raise InputError(
                f"{bundle.folder} has no graph in {' or '.join(precisions)}; it has {', '.join(bundle.graphs)}"
            )
        entries += [Entry(label, p, bundle.graph_for(p), bundle.modality.name, bundle.task) for p in found]
    return entries


def _golden_inputs(bundles: Sequence[Bundle]) -> dict[str, Array]:
    return {bundle.modality.name: bundle.golden()["input"] for bundle in reversed(bundles)}


def _read_data(path: Path, bundles: Sequence[Bundle]) -> dict[str, Array]:
    """The arrays of the .npz, checked against the bundles' modalities."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, Array] = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    # A lone .npy is no context manager: AttributeError on Python 3.10, TypeError from 3.11.
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not an .npz of plain arrays: {error}") from None
    wanted = {bundle.modality.name: bundle.modality for bundle in bundles}
    for name in [*wanted, "target"]:
        if name not in arrays:
            raise InputError(f"{path} has no array {name!r}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    samples = len(arrays["target"]) if arrays["target"].ndim else 0
    for name, modality in wanted.items():
        _check(path, name, arrays[name], (samples, *modality.shape))
    if "groups" in arrays and arrays["groups"].shape != (samples,):
        raise InputError(f"{path}: groups has shape {arrays['groups'].shape}; it must be {(samples,)}")
    return arrays


def _check(path: Path, name: str, array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype.kind not in "iuf":
        raise InputError(f"{path}: {name} is {array.dtype} of shape {array.shape}; it must be numbers of shape {shape}")
