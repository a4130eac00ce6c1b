"""Bundles measured with data from files, or with their own golden inputs."""

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.benchmarks.bench import BATCHES, Entry, Inputs, batch_of, bench_graphs, identity
from edge.benchmarks.cold_start import cold_starts
from edge.benchmarks.latency import Array, Timing, query
from edge.benchmarks.report import Report, make_report
from edge.benchmarks.scenarios import SCENARIOS, run_scenarios
from edge.benchmarks.sustained import sustain
from edge.deploy.bundle import Bundle, open_bundle
from edge.deploy.engine import backends, open_engine, placement_of
from edge.errors import InputError
from edge.files import inside
from edge.sensors import Modality


@dataclass(frozen=True)
class Plan:
    """What to measure; all of it in one run."""

    precisions: tuple[str, ...] = ("fp32", "int8")
    batches: tuple[int, ...] = BATCHES
    threads: tuple[int, ...] = (1,)
    scenarios: tuple[str, ...] = ("single-stream", "multi-stream", "offline")  # of edge.benchmarks.scenarios
    latency_ms: float | None = None  # the server's bound
    seconds: float = 1.0  # each engine is timed at least so long at each batch size
    minutes: float = 0.0  # each engine is kept under load so long
    energy: bool = False
    backends: tuple[str, ...] = ("onnxruntime",)  # engines, side by side

    def __post_init__(self) -> None:
        strange = [name for name in self.backends if name not in backends()]
        if strange or not self.backends:
            said = f"the backend {strange[0]!r} is not known" if strange else "no backend is named"
            raise InputError(f"{said}; use {', '.join(backends())}")
        unknown = [name for name in self.scenarios if name not in SCENARIOS]
        if unknown:
            raise InputError(f"the scenario {unknown[0]!r} is not known; use {', '.join(SCENARIOS)}")
        if "server" in self.scenarios and self.latency_ms is None:
            raise InputError("the scenario 'server' needs a bound on latency; give one with --latency-ms")

    @property
    def timing(self) -> Timing:
        """How long each engine is timed at each batch size."""
        return Timing(min_duration_s=self.seconds, max_duration_s=3 * self.seconds)


def bench_bundles(
    folders: Sequence[Path],
    data: Path | None = None,
    plan: Plan | None = None,
    *,
    command: str | None = None,
    notify: Callable[[str], None] = lambda message: None,
) -> Report:
    """A report over the bundles' graphs, all measured in one run.

    `data` is an .npz with an array (N, *shape) per modality, `target` (see `Task`) and optionally `groups` (N,), or a
    folder with such a file `<modality>.npz` for each. Without it the golden inputs of the first bundle of each modality
    are timed, and no accuracy is measured. A bundle that lacks a precision is measured in those that it has.
    InputError: different tasks, data that do not fit.
    """
    plan, bundles = plan or Plan(), [open_bundle(folder) for folder in folders]
    first = bundles[0]
    for bundle in bundles[1:]:
        if bundle.task != first.task:
            raise InputError(
                f"{bundle.folder} predicts {bundle.task.name!r}, {first.folder} {first.task.name!r}: one task at a time"
            )
    modalities = {bundle.modality.name: bundle.modality for bundle in bundles}
    inputs = inputs_of(bundles, data)
    entries = _entries(bundles, plan.precisions, plan.backends)
    dataset, protocol = _provenance(bundles, data)
    results = bench_graphs(
        entries, inputs, batches=plan.batches, threads=plan.threads, timing=plan.timing, energy=plan.energy,
        notify=notify,
    )  # fmt: skip
    return make_report(
        dataset=dataset,
        modality=", ".join(modalities),
        task=first.task,
        protocol=protocol,
        results=results,
        command=command,
        warnings=_failed_gates(bundles),
        scenarios=run_scenarios(
            entries, inputs, plan.scenarios, results, threads=plan.threads, timing=plan.timing,
            bound_s=plan.latency_ms and plan.latency_ms / 1e3, notify=notify,
        ),
        cold_start=_cold_starts(entries, inputs, plan, notify),
        sustained=_sustained(entries, inputs, plan, notify) if plan.minutes else (),
        settings=asdict(plan.timing) | {"batches": list(plan.batches), "threads": list(plan.threads)},
    )  # fmt: skip


def _failed_gates(bundles: Sequence[Bundle]) -> list[str]:
    return [
        f"{bundle.folder} failed the gate {name!r} when it was built."
        for bundle in bundles
        for name in bundle.failed_gates
    ]


def _cold_starts(
    entries: Sequence[Entry], inputs: Mapping[str, Inputs], plan: Plan, notify: Callable[[str], None]
) -> list[dict[str, Any]]:
    notify("cold starts")
    graphs = [(entry.graph, {entry.modality: inputs[entry.modality].x.shape[1:]}, entry.backend) for entry in entries]
    starts = cold_starts(graphs, threads=plan.threads[0])
    about = [identity(entry) | {"threads": plan.threads[0]} for entry in entries]
    return [row | start for row, start in zip(about, starts, strict=True) if start is not None]


def _sustained(
    entries: Sequence[Entry], inputs: Mapping[str, Inputs], plan: Plan, notify: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One engine after the other, at the first batch size and thread count: heat and power are theirs alone."""
    rows, batch, threads = [], plan.batches[0], plan.threads[0]
    for entry in entries:
        name = f"{entry.modality} {entry.method} {entry.precision} on {entry.backend}"
        notify(f"{name} at batch {batch} for {plan.minutes:g} minutes")
        engine = open_engine(entry.graph, backend=entry.backend, threads=threads)
        run = query(engine, entry.modality, batch_of(inputs[entry.modality].x, batch))
        measured = sustain(run, batch, 60 * plan.minutes, notify)
        engine.close()
        rows.append(identity(entry) | {"threads": threads} | measured)
    return rows


def _provenance(bundles: Sequence[Bundle], data: Path | None) -> tuple[str | None, str | None]:
    """Name and protocol of the test data: those of the bundles for the samples that their build kept (RUN/test beside
    RUN/bundles), else the name of the file.
    """
    if data is None:
        return None, None
    trained = [bundle.card["properties"]["edge:training"] for bundle in bundles]
    known = {(about.get("data"), about.get("protocol")) for about in trained}
    kept = {bundle.folder.resolve().parent.parent / "test" for bundle in bundles}
    inside_kept = data.resolve() in kept or data.resolve().parent in kept
    if inside_kept and len(kept) == len(known) == 1:
        (about,) = known
        return about
    return data.stem, None


def _entries(bundles: Sequence[Bundle], precisions: Sequence[str], engines: Sequence[str]) -> list[Entry]:
    methods = [str(bundle.card["properties"]["edge:training"].get("method", "student")) for bundle in bundles]
    names = list(zip(methods, (bundle.modality.name for bundle in bundles), strict=True))
    told_apart: dict[Path, str] = {}  # the bundles that share method and modality with another one
    for name in {name for name in names if names.count(name) > 1}:
        alike = [bundle.folder for bundle, other in zip(bundles, names, strict=True) if other == name]
        told_apart |= dict(zip(alike, where_they_differ(alike), strict=True))
    entries = []
    for bundle, method in zip(bundles, methods, strict=True):
        label = f"{method} ({told_apart[bundle.folder]})" if bundle.folder in told_apart else method
        for engine in engines:
            placement = placement_of(engine)
            found = [p for p in precisions if p in bundle.graphs or f"{p}.{placement}" in bundle.graphs]
            if not found:
                wanted = " or ".join(precisions)
                raise InputError(f"{bundle.folder} has no {wanted} for {engine}; it has {', '.join(bundle.graphs)}")
            graphs = {p: bundle.graph_for(p, placement) for p in found}
            entries += [Entry(label, p, graphs[p], bundle.modality.name, bundle.task, engine) for p in found]
    return entries


def where_they_differ(folders: Sequence[Path]) -> list[str]:
    """Each path without the folders that all begin or end with: old/bundles/sar, new/bundles/sar are `old` and `new`.

    InputError: the same folder twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, resolved, strict=True):
        if resolved.count(path) > 1:
            raise InputError(f"{folder} is given twice; name each bundle once")
    above = os.path.commonpath([path.parent for path in resolved])
    parts = [path.relative_to(above).parts for path in resolved]
    while min(map(len, parts)) > 1 and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    return ["/".join(part) for part in parts]


def inputs_of(bundles: Sequence[Bundle], data: Path | None) -> dict[str, Inputs]:
    """Inputs by modality: from `data` (see `bench_bundles`), or the golden ones of the first bundle of each."""
    modalities = {bundle.modality.name: bundle.modality for bundle in bundles}
    return _golden_inputs(bundles) if data is None else _read_data(data, modalities)


def _golden_inputs(bundles: Sequence[Bundle]) -> dict[str, Inputs]:
    return {bundle.modality.name: Inputs(bundle.golden()["input"]) for bundle in reversed(bundles)}


def _read_data(path: Path, modalities: Mapping[str, Modality]) -> dict[str, Inputs]:
    """Inputs by modality, from one file for all or from a folder with one for each."""
    files = {name: inside(path, f"{name}.npz") if path.is_dir() else path for name in modalities}
    opened = {file: _read_arrays(file) for file in dict.fromkeys(files.values())}
    return {name: _inputs(files[name], opened[files[name]], modality) for name, modality in modalities.items()}


def _read_arrays(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    # A lone .npy is no context manager: AttributeError on Python 3.10, TypeError from 3.11.
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not an .npz of plain arrays: {error}") from None


def _inputs(path: Path, arrays: Mapping[str, Array], modality: Modality) -> Inputs:
    """The arrays of one modality, checked."""
    for name in (modality.name, "target"):
        if name not in arrays:
            raise InputError(f"{path} has no array {name!r}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    x, target, groups = arrays[modality.name], arrays["target"], arrays.get("groups")
    samples = len(target) if target.ndim else 0
    shape = (samples, *modality.shape)
    if x.shape != shape or x.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: {modality.name} is {x.dtype} of shape {x.shape}; it must be numbers of shape {shape}"
        )
    if groups is not None and groups.shape != (samples,):
        raise InputError(f"{path}: groups has shape {groups.shape}; it must be {(samples,)}")
    return Inputs(x, target, groups)
