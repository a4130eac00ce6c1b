"""How long something takes: monotonic clock, warm-up by time, the garbage collector off, one thread of ours.

For an engine two times come out of every run:

- end to end: from sensor values in memory, of the type in which they come, to predictions in memory: conversion to
  float32, the checks of the inputs, the graph. No file is read.
- the parts: the graph alone, and the copies to and from an accelerator where there is one.

What will be compared is measured in one run, in turns of a few milliseconds, so that drifting clocks and other load hit
all of them alike: a ratio of two medians from one run means something, a ratio of two runs may not.
"""

import contextlib
import gc
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edge.benchmarks.statistics import samples_needed
from edge.deploy.engine import Engine, Parts

Array = npt.NDArray[Any]
Key = TypeVar("Key", bound=Hashable)
# Does the work once; says how long its parts took if it knows.
Run = Callable[[], Parts | None]

# One turn. Long beside the cost of a switch, short beside changes of the clock.
TURN_NS = 20_000_000


@dataclass(frozen=True)
class Timing:
    """How long to measure; seconds are per engine and count the time inside its runs."""

    warmup_s: float = 0.3
    min_duration_s: float = 1.0
    min_samples: int = samples_needed(0.99)  # 662: from here p99 may be reported
    max_duration_s: float = 3.0  # ends a slow engine before min_samples; the percentiles that it misses are then null


@dataclass
class Times:
    """Seconds of each run in the order of measuring, and its parts where the engine tells them."""

    seconds: list[float] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)
    total_s: float = 0.0


def query(engine: Engine, modality: str, x: Array) -> Run:
    """One prediction of the samples x (n, *shape) end to end."""
    run_in_parts = getattr(engine, "run_in_parts", None)

    def parted() -> Parts | None:
        parts: Parts = run_in_parts({modality: np.ascontiguousarray(x, np.float32)})[1]  # type: ignore[misc]
        return parts

    def whole() -> None:
        engine.run({modality: np.ascontiguousarray(x, np.float32)})

    return whole if run_in_parts is None else parted


def measure_together(runs: Mapping[Key, Run], timing: Timing | None = None) -> dict[Key, Times]:
    """Times of several runs, measured in turns until each has what `timing` asks for.

    One that is done goes on taking its turns while another is not, so that all see the same conditions. The first run
    of a turn is not counted: it pays for the caches that the one before has filled.
    """
    timing = timing or Timing()
    times: dict[Key, Times] = {key: Times() for key in runs}
    with undisturbed():
        for run in runs.values():
            warm_up(run, timing.warmup_s)
        while any(_wants_more(found, timing) for found in times.values()):
            for key, run in runs.items():
                _turn(run, times[key])
    return times


def _wants_more(found: Times, timing: Timing) -> bool:
    enough = found.total_s >= timing.min_duration_s and len(found.seconds) >= timing.min_samples
    return not enough and found.total_s < timing.max_duration_s


def warm_up(run: Run, duration_s: float) -> None:
    """Run for so long, at least once."""
    end = time.perf_counter() + duration_s
    run()
    while time.perf_counter() < end:
        run()


def _turn(run: Run, times: Times) -> None:
    """One uncounted run, then runs for TURN_NS, at least one."""
    clock = time.perf_counter_ns
    run()
    end = clock() + TURN_NS
    while True:
        before = clock()
        parts = run()
        after = clock()
        seconds = (after - before) / 1e9
        times.seconds.append(seconds)
        times.total_s += seconds
        if parts is not None:
            times.parts.append(parts)
        if after >= end:
            return


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """The garbage collector is off inside, and as it was afterwards."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
