"""The four scenarios of MLPerf inference (Reddi et al. 2020, https://arxiv.org/abs/1911.02549, section III):

    single-stream   one sample a query, the next when the one before is answered    p90 of a query's latency
    multi-stream    8 samples a query, the next when the one before is answered     p99 of a query's latency
    server          one sample a query, arriving by chance (Poisson) at some rate   highest rate with p99 in the bound
    offline         all samples are there at once                                   samples per second

Percentiles are LoadGen's estimates (edge.benchmarks.statistics). A submission to MLPerf runs each for 600 seconds, and
offline over 24,576 samples: that is what `--seconds 600` is for; the rules for queries and verdicts are the same.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge.benchmarks.bench import Entry, Inputs, batch_of, identity, open_all, samples_of
from edge.benchmarks.latency import Array, Times, Timing, measure_together, query, undisturbed, warm_up
from edge.benchmarks.machine import OtherLoad
from edge.benchmarks.server import Attempt, Monotonic, attempt, highest_rate
from edge.benchmarks.statistics import early_stopping_estimate, summarise
from edge.deploy.engine import Engine

# Samples per query, and the percentile that MLPerf reports.
STREAMS = {"single-stream": (1, "p90", 0.90), "multi-stream": (8, "p99", 0.99)}
SCENARIOS = (*STREAMS, "server", "offline")
Row = dict[str, Any]


def run_scenarios(
    entries: Sequence[Entry],
    inputs: Mapping[str, Inputs],
    names: Sequence[str],
    rows: Sequence[Row],
    *,
    bound_s: float | None,
    threads: Sequence[int] = (1,),
    timing: Timing | None = None,
    notify: Callable[[str], None] = lambda message: None,
) -> list[Row]:
    """Entries of a report's `scenarios`, by thread count and scenario.

    `rows` are the results of `bench_graphs` for the same entries: offline uses the batch size that had the highest
    throughput there, and a server answers at most the largest of the batch sizes at a time. `bound_s` is the server's,
    which is left out without it.
    """
    timing, found = timing or Timing(), []
    for count in threads:
        with contextlib.ExitStack() as opened:
            engines = open_all(entries, opened, count)
            given = [
                (entry, engine, samples_of(entry, inputs), [row for row in rows if _is_of(entry, count, row)])
                for entry, engine in zip(entries, engines, strict=True)
            ]
            for name in SCENARIOS:
                if name not in names or (name == "server" and bound_s is None):
                    continue
                notify(f"{name}, threads: {count}")
                load = OtherLoad()
                if name in STREAMS:
                    measured = _streams(name, given, timing)
                elif name == "server":
                    measured = [_server(*one, bound_s or 0.0, timing) for one in given]
                else:
                    measured = [_offline(*one, timing) for one in given]
                about = {"scenario": name, "threads": count, "other_load": load.cores()}
                found += [identity(e) | about | m for e, m in zip(entries, measured, strict=True)]
    return found


def _is_of(entry: Entry, threads: int, row: Row) -> bool:
    wanted = entry.method, entry.precision, entry.modality, entry.backend, threads
    return (row["method"], row["precision"], row["modality"], row["engine"], row["threads"]) == wanted


def _streams(name: str, given: Sequence[tuple[Entry, Engine, Array, Sequence[Row]]], timing: Timing) -> list[Row]:
    size, label, p = STREAMS[name]
    runs = {i: query(engine, entry.modality, batch_of(x, size)) for i, (entry, engine, x, _) in enumerate(given)}
    return [_stream(times, size, label, p) for times in measure_together(runs, timing).values()]


def _stream(times: Times, size: int, label: str, p: float) -> Row:
    milliseconds = np.asarray(times.seconds) * 1e3
    return {
        "samples_per_query": size,
        "queries": len(milliseconds),
        "duration_s": times.total_s,
        "latency_ms": summarise(milliseconds),
        "percentile": label,
        "estimate_ms": early_stopping_estimate(milliseconds, p),
        "throughput_per_s": size * len(milliseconds) / times.total_s,
    }


def _server(entry: Entry, engine: Engine, x: Array, rows: Sequence[Row], bound_s: float, timing: Timing) -> Row:
    largest = max(int(row["batch"]) for row in rows)
    waiting = batch_of(x, largest)
    runs = {k: query(engine, entry.modality, waiting[:k]) for k in range(1, largest + 1)}
    most = max(float(row["throughput_per_s"] or 0.0) for row in rows)

    def try_rate(rate: float, seed: int) -> Attempt:
        warm_up(runs[1], timing.warmup_s)
        return attempt(rate, timing.min_duration_s, bound_s, lambda k: runs[k](), largest, Monotonic(), seed)

    with undisturbed():
        best, tried = highest_rate(try_rate, most)
    milliseconds = best.latencies * 1e3 if best else None
    return {
        "samples_per_query": 1,
        "queries": len(milliseconds) if milliseconds is not None else 0,
        "duration_s": best.seconds if best else None,
        "latency_ms": summarise(milliseconds) if milliseconds is not None else None,
        "percentile": "p99",
        "estimate_ms": early_stopping_estimate(milliseconds, 0.99) if milliseconds is not None else None,
        "throughput_per_s": len(milliseconds) / best.seconds if best and milliseconds is not None else None,
        "rate_per_s": best.rate if best else None,
        "bound_ms": bound_s * 1e3,
        "largest_batch": largest,
        "attempts": [one.to_json() for one in tried],
    }


def _offline(entry: Entry, engine: Engine, x: Array, rows: Sequence[Row], timing: Timing) -> Row:
    best = max(rows, key=lambda row: float(row["throughput_per_s"] or 0.0))
    size = int(best["batch"])
    # As many samples as should fill the time, as LoadGen makes its one query from the expected rate.
    count = max(1, math.ceil(float(best["throughput_per_s"]) * timing.min_duration_s / size))
    pieces = range(min(count, math.ceil(len(x) / size)))
    runs = [query(engine, entry.modality, batch_of(x, size, start=piece * size)) for piece in pieces]
    with undisturbed():
        warm_up(runs[0], timing.warmup_s)
        begin = time.perf_counter()
        for i in range(count):
            runs[i % len(runs)]()
        seconds = time.perf_counter() - begin
    return {
        "samples_per_query": count * size,
        "queries": 1,
        "duration_s": seconds,
        "latency_ms": None,
        "percentile": None,
        "estimate_ms": None,
        "throughput_per_s": count * size / seconds,
        "batch": size,
    }
