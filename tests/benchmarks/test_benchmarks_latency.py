import gc
import time
from typing import Any

import numpy as np

from edge.benchmarks.latency import Timing, measure, measure_together

INPUTS = {"x": np.zeros((1, 4), np.float32)}


class Sleeper:
    """An engine that takes a known time and writes down when it ran."""

    def __init__(self, seconds: float, log: list["Sleeper"] | None = None) -> None:
        self.seconds, self.log = seconds, log if log is not None else []
        self.collected = gc.isenabled()

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self.collected = gc.isenabled()
        self.log.append(self)
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass
        return inputs

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None: ...


def test_latencies_are_seconds_and_as_many_as_asked_for() -> None:
    timing = Timing(warmup_s=0.01, min_duration_s=0.02, min_samples=40, max_duration_s=5)
    seconds = measure(Sleeper(0.001), INPUTS, timing)
    assert len(seconds) >= 40
    assert 0.001 <= np.median(seconds) < 0.002


def test_a_slow_engine_stops_at_its_maximum() -> None:
    seconds = measure(
        Sleeper(0.03), INPUTS, Timing(warmup_s=0, min_duration_s=1, min_samples=1000, max_duration_s=0.08)
    )
    assert 1 <= len(seconds) <= 4


def test_engines_take_turns_and_the_first_run_of_a_turn_is_not_counted() -> None:
    log: list[Sleeper] = []
    fast, slow = Sleeper(0.005, log), Sleeper(0.011, log)
    timing = Timing(warmup_s=0, min_duration_s=0, min_samples=6, max_duration_s=9)
    seconds = measure_together({"fast": (fast, INPUTS), "slow": (slow, INPUTS)}, timing)
    turns = [engine for i, engine in enumerate(log[2:]) if i == 0 or log[2 + i - 1] is not engine]  # two of warm-up
    assert turns == [fast, slow] * (len(turns) // 2)
    assert len(turns) >= 4
    uncounted = len(turns) + 2
    assert len(seconds["fast"]) + len(seconds["slow"]) == len(log) - uncounted
    assert min(len(samples) for samples in seconds.values()) >= 6


def test_the_garbage_collector_rests_while_timing_and_works_again_after() -> None:
    engine = Sleeper(0.0001)
    measure(engine, INPUTS, Timing(0, 0, 1, 1))
    assert not engine.collected
    assert gc.isenabled()
