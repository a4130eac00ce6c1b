"""Graphs measured on this machine: latency of all of them together, accuracy on the engine that is deployed."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.benchmarks.latency import Inputs, Timing, measure_together
from edge.benchmarks.machine import OtherLoad
from edge.benchmarks.memory import peak_memory
from edge.benchmarks.statistics import histogram, summarise
from edge.deploy.engine import Engine, open_engine
from edge.errors import InputError
from edge.metrics import bootstrap_interval, score
from edge.tasks import Task

BATCHES = (1, 32, 256)
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Entry:
    """A graph to measure: `method` and `precision` name it in the report; `modality` is its one input."""

    method: str
    precision: str
    graph: Path
    modality: str
    task: Task


def bench_graphs(
    entries: Sequence[Entry],
    inputs: Mapping[str, Array],
    target: Array | None = None,
    groups: Array | None = None,
    *,
    batches: Sequence[int] = BATCHES,
    threads: int = 1,
    backend: str = "onnxruntime",
    timing: Timing | None = None,
    notify: Callable[[str], None] = lambda message: None,
) -> list[dict[str, Any]]:
    """Rows of a report, one per entry and batch size, sorted by entry.

    `inputs` has an array (N, *shape) of sensor values per modality. Accuracy is computed over all N samples and needs
    `target` (see `Task`); without it, metric and interval are None. `groups` (N,) makes the interval one over groups.
    Entries of one batch size are timed together (see `latency.measure_together`). `notify` is told what happens next.
    """
    with contextlib.ExitStack() as opened:
        engines = []
        for entry in entries:
            engine = open_engine(entry.graph, backend=backend, threads=threads)
            opened.callback(engine.close)
            engines.append(engine)
        samples = [_samples(entry, inputs) for entry in entries]
        accuracy = []
        for entry, engine, x in zip(entries, engines, samples, strict=True):
            notify(f"accuracy of {entry.method} {entry.precision} over {len(x)} samples")
            accuracy.append(_accuracy(entry, engine, x, target, groups))
        rows: dict[tuple[int, int], dict[str, Any]] = {}
        for batch in batches:
            notify(f"latency at batch {batch}")
            together = {i: (engine, _batch(entries[i], samples[i], batch)) for i, engine in enumerate(engines)}
            load = OtherLoad()
            timed = measure_together(together, timing)
            other_load = load.cores()
            for i, seconds in timed.items():
                rows[i, batch] = {"batch": batch, "threads": threads, "other_load": other_load} | _timed(seconds, batch)
    for i, entry in enumerate(entries):
        notify(f"memory of {entry.method} {entry.precision}")
        shapes = {entry.modality: samples[i].shape[1:]}
        for batch, peak in peak_memory(entry.graph, shapes, batches, backend=backend, threads=threads).items():
            rows[i, batch]["peak_rss_mb"] = peak
    return [
        _identity(entry, backend) | rows[i, batch] | accuracy[i] for i, entry in enumerate(entries) for batch in batches
    ]


def predict(engine: Engine, modality: str, x: Array, batch: int = 256) -> npt.NDArray[np.float32]:
    """Predictions (N, n_outputs) of a student for x (N, *shape), `batch` samples at a time."""
    parts = [
        engine.run({modality: np.ascontiguousarray(x[start : start + batch], np.float32)})["prediction"]
        for start in range(0, len(x), batch)
    ]
    return np.concatenate(parts)


def _samples(entry: Entry, inputs: Mapping[str, Array]) -> Array:
    if entry.modality not in inputs:
        raise InputError(
            f"{entry.method} {entry.precision} needs the modality {entry.modality!r}; the inputs hold {sorted(inputs)}"
        )
    if not len(inputs[entry.modality]):
        raise InputError(f"the inputs hold no sample of {entry.modality!r}")
    return inputs[entry.modality]


def _batch(entry: Entry, x: Array, size: int) -> Inputs:
    """The first `size` samples, from the start again where there are fewer."""
    return {entry.modality: np.ascontiguousarray(x[np.arange(size) % len(x)], np.float32)}


def _accuracy(entry: Entry, engine: Engine, x: Array, target: Array | None, groups: Array | None) -> dict[str, Any]:
    if target is None:
        return {"metric": None, "metric_ci95": None, "scores": None}
    prediction = predict(engine, entry.modality, x)
    scores = score(entry.task, prediction, target)
    low, high = bootstrap_interval(entry.task, prediction, target, groups)
    interval = [low, high] if np.isfinite([low, high]).all() else None
    return {"metric": scores[entry.task.metric], "metric_ci95": interval, "scores": scores}


def _timed(seconds: list[float], batch: int) -> dict[str, Any]:
    """The columns of a row that follow from its latencies."""
    milliseconds = np.asarray(seconds) * 1e3
    summary = summarise(milliseconds)
    mean = summary["mean"]
    return {
        "latency_ms": summary,
        "latency_histogram": histogram(milliseconds),
        "throughput_per_s": batch / mean * 1e3 if mean else None,
    }


def _identity(entry: Entry, backend: str) -> dict[str, Any]:
    return {
        "method": entry.method,
        "precision": entry.precision,
        "modality": entry.modality,
        "engine": backend,
        "model_bytes": entry.graph.stat().st_size,
        "energy_mj": None,
    }
