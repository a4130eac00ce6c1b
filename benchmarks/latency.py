"""How long an engine takes: monotonic clock, warm-up by time, the garbage collector off, one thread of ours.

What is timed is `Engine.run` on arrays that already exist: from sensor values in memory to predictions in memory, with
the checks of the inputs, without reading files. Engines that will be compared are measured in one run, in turns of a
few milliseconds, so that drifting clocks and other load hit all of them alike: a ratio of two medians from one run
means something, a ratio of two runs may not.
"""

import contextlib
import gc
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from edge.benchmarks.statistics import samples_needed
from edge.deploy.engine import Engine

Inputs = dict[str, npt.NDArray[np.float32]]
Key = TypeVar("Key", bound=Hashable)

# One turn of an engine. Long beside the cost of a switch, short beside changes of the clock.
TURN_NS = 20_000_000


@dataclass(frozen=True)
class Timing:
    """How long to measure; seconds are per engine and count the time inside its runs."""

    warmup_s: float = 0.3
    min_duration_s: float = 1.0
    min_samples: int = samples_needed(0.99)  # 662: from here p99 may be reported
    max_duration_s: float = 3.0  # ends a slow engine before min_samples; the percentiles that it misses are then null


def measure(engine: Engine, inputs: Inputs, timing: Timing | None = None) -> list[float]:
    """Latencies of one engine in seconds; see `measure_together`."""
    return measure_together({"engine": (engine, inputs)}, timing)["engine"]


def measure_together(
    engines: Mapping[Key, tuple[Engine, Inputs]], timing: Timing | None = None
) -> dict[Key, list[float]]:
    """Latencies of several engines in seconds, measured in turns until each has what `timing` asks for.

    An engine that is done goes on taking its turns while another is not, so that all see the same conditions. The first
    run of a turn is not counted: it pays for the caches that the engine before has filled.
    """
    timing = timing or Timing()
    seconds: dict[Key, list[float]] = {key: [] for key in engines}
    with _undisturbed():
        for engine, inputs in engines.values():
            _warm_up(engine, inputs, timing.warmup_s)
        while any(_wants_more(samples, timing) for samples in seconds.values()):
            for key, (engine, inputs) in engines.items():
                seconds[key] += _turn(engine, inputs)
    return seconds


def _wants_more(samples: list[float], timing: Timing) -> bool:
    spent = sum(samples)
    enough = spent >= timing.min_duration_s and len(samples) >= timing.min_samples
    return not enough and spent < timing.max_duration_s


def _warm_up(engine: Engine, inputs: Inputs, duration_s: float) -> None:
    end = time.perf_counter() + duration_s
    engine.run(inputs)
    while time.perf_counter() < end:
        engine.run(inputs)


def _turn(engine: Engine, inputs: Inputs) -> list[float]:
    """One uncounted run, then runs for TURN_NS, at least one."""
    run, clock = engine.run, time.perf_counter_ns
    run(inputs)
    samples = []
    end = clock() + TURN_NS
    while True:
        before = clock()
        run(inputs)
        after = clock()
        samples.append((after - before) / 1e9)
        if after >= end:
            return samples


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """The garbage collector is off inside, and as it was afterwards."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
