"""Graphs measured on this machine: latency of all of them together, accuracy on the engine that is deployed."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.benchmarks.accuracy import NOT_MEASURED, accuracy
from edge.benchmarks.energy import energy_of
from edge.benchmarks.latency import Array, Times, Timing, measure_together, query
from edge.benchmarks.machine import OtherLoad
from edge.benchmarks.memory import peak_memory
from edge.benchmarks.statistics import histogram, summarise
from edge.benchmarks.thermal import Sensors
from edge.deploy.engine import Engine, open_engine
from edge.errors import InputError
from edge.tasks import Task

BATCHES = (1, 32, 256)
Row = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A graph to measure on an engine: `method` and `precision` name it in the report; `modality` is its one input."""

    method: str
    precision: str
    graph: Path
    modality: str
    task: Task
    backend: str = "onnxruntime"  # the engine, see edge.deploy.engine


@dataclass(frozen=True)
class Inputs:
    """Sensor values x (N, *shape) of a modality, as they come; their targets (see `Task`) and groups (N,) if known."""

    x: Array
    target: Array | None = None
    groups: Array | None = None


def bench_graphs(
    entries: Sequence[Entry],
    inputs: Mapping[str, Inputs],
    *,
    batches: Sequence[int] = BATCHES,
    threads: Sequence[int] = (1,),
    timing: Timing | None = None,
    energy: bool = False,
    notify: Callable[[str], None] = lambda message: None,
) -> list[Row]:
    """Rows of a report, one per thread count, entry and batch size, in this order.

    `inputs`, by modality, are of the type in which they come: converting them is part of what is timed. Accuracy is
    computed over all of them, and None without a target; groups make its interval one over groups. Entries of one batch
    size are timed together (see `latency.measure_together`). `energy` measures it, too, which takes ten seconds for
    each row. `notify` is told what happens next.
    """
    rows = []
    for count in threads:
        with contextlib.ExitStack() as opened:
            engines = open_all(entries, opened, count)
            samples = [samples_of(entry, inputs) for entry in entries]
            scores = []
            for entry, engine, x in zip(entries, engines, samples, strict=True):
                notify(f"accuracy of {entry.method} {entry.precision} over {len(x)} samples")
                scores.append(_scores(entry, engine, inputs[entry.modality]))
            timed: dict[tuple[int, int], Row] = {}
            for batch in batches:
                notify(f"latency at batch {batch}, threads: {count}")
                timed |= {(i, batch): row for i, row in enumerate(_latency(entries, engines, samples, batch, timing))}
            if energy:
                for (i, batch), row in timed.items():
                    notify(f"energy of {entries[i].method} {entries[i].precision} at batch {batch}")
                    row |= energy_of(query(engines[i], entries[i].modality, batch_of(samples[i], batch)), batch)
                    if row["power"]["source"] is None:  # nor for the others
                        break
        for i, entry in enumerate(entries):
            notify(f"memory of {entry.method} {entry.precision}")
            shapes = {entry.modality: samples[i].shape[1:]}
            peaks = peak_memory(entry.graph, shapes, batches, backend=entry.backend, threads=count)
            for batch in batches:
                row = {"batch": batch, "threads": count, "peak_rss_mb": peaks[batch]}
                rows.append(identity(entry) | {"energy_mj": None} | row | timed[i, batch] | scores[i])
    return rows


def predict(engine: Engine, modality: str, x: Array, batch: int = 256) -> npt.NDArray[np.float32]:
    """Predictions (N, n_outputs) of a student for x (N, *shape), `batch` samples at a time."""
    parts = [
        engine.run({modality: np.ascontiguousarray(x[start : start + batch], np.float32)})["prediction"]
        for start in range(0, len(x), batch)
    ]
    return np.concatenate(parts)


def open_all(entries: Sequence[Entry], opened: contextlib.ExitStack, threads: int) -> list[Engine]:
    """The entries' engines, which `opened` closes."""
    engines = []
    for entry in entries:
        engine = open_engine(entry.graph, backend=entry.backend, threads=threads)
        opened.callback(engine.close)
        engines.append(engine)
    return engines


def samples_of(entry: Entry, inputs: Mapping[str, Inputs]) -> Array:
    """The sensor values that an entry takes, at least one sample."""
    if entry.modality not in inputs:
        raise InputError(
            f"{entry.method} {entry.precision} needs the modality {entry.modality!r}; the inputs hold {sorted(inputs)}"
        )
    x = inputs[entry.modality].x
    if not len(x):
        raise InputError(f"the inputs hold no sample of {entry.modality!r}")
    return x


def batch_of(x: Array, size: int, start: int = 0) -> Array:
    """`size` samples of x (N, *shape) from `start` on, from the first again where there are fewer."""
    return np.ascontiguousarray(x[np.arange(start, start + size) % len(x)])


def identity(entry: Entry) -> Row:
    """What a row says about its graph."""
    return {
        "method": entry.method,
        "precision": entry.precision,
        "modality": entry.modality,
        "engine": entry.backend,
        "model_bytes": entry.graph.stat().st_size,
    }


def _scores(entry: Entry, engine: Engine, given: Inputs) -> Row:
    if given.target is None:
        return NOT_MEASURED
    return accuracy(entry.task, predict(engine, entry.modality, given.x), given.target, given.groups)


def _latency(
    entries: Sequence[Entry], engines: Sequence[Engine], samples: Sequence[Array], batch: int, timing: Timing | None
) -> list[Row]:
    runs = {i: query(engines[i], entry.modality, batch_of(samples[i], batch)) for i, entry in enumerate(entries)}
    load, sensors = OtherLoad(), Sensors()
    events = sensors.events()
    timed = measure_together(runs, timing)
    about = {"other_load": load.cores(), "throttled": None if events is None else sensors.events() != events}
    return [_timed(times, batch) | about for times in timed.values()]


def _timed(times: Times, batch: int) -> Row:
    """The columns of a row that follow from its latencies."""
    milliseconds = np.asarray(times.seconds) * 1e3
    summary = summarise(milliseconds)
    mean = summary["mean"]
    return {
        "latency_ms": summary,
        "latency_histogram": histogram(milliseconds),
        "throughput_per_s": batch / mean * 1e3 if mean else None,
        "engine_ms": summarise([part.graph * 1e3 for part in times.parts]) if times.parts else None,
        "copy_ms": _copies(times),
    }


def _copies(times: Times) -> dict[str, Any] | None:
    """Copies to and from an accelerator; None where nothing is copied."""
    there = [part.copy_in * 1e3 for part in times.parts if part.copy_in is not None]
    back = [part.copy_out * 1e3 for part in times.parts if part.copy_out is not None]
    return {"in": summarise(there), "out": summarise(back)} if there and back else None
