import gc
import time
from typing import Any

import numpy as np
import pytest

from edge.benchmarks.latency import Timing, measure_together, query
from edge.deploy.engine import Parts


def measure(run: Any, timing: Timing) -> list[float]:
    return measure_together({"one": run}, timing)["one"].seconds


class Sleeper:
    """Work that takes a known time and writes down when it was done."""

    def __init__(self, seconds: float, log: list["Sleeper"] | None = None) -> None:
        self.seconds, self.log = seconds, log if log is not None else []
        self.collected = gc.isenabled()

    def __call__(self) -> None:
        self.collected = gc.isenabled()
        self.log.append(self)
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass


def test_latencies_are_seconds_and_as_many_as_asked_for() -> None:
    timing = Timing(warmup_s=0.01, min_duration_s=0.02, min_samples=40, max_duration_s=5)
    seconds = measure(Sleeper(0.001), timing)
    assert len(seconds) >= 40
    assert 0.001 <= np.median(seconds) < 0.002


def test_a_slow_engine_stops_at_its_maximum() -> None:
    seconds = measure(Sleeper(0.03), Timing(warmup_s=0, min_duration_s=1, min_samples=1000, max_duration_s=0.08))
    assert 1 <= len(seconds) <= 4


def test_engines_take_turns_and_the_first_run_of_a_turn_is_not_counted() -> None:
    log: list[Sleeper] = []
    fast, slow = Sleeper(0.005, log), Sleeper(0.011, log)
    timing = Timing(warmup_s=0, min_duration_s=0, min_samples=6, max_duration_s=9)
    seconds = measure_together({"fast": fast, "slow": slow}, timing)
    turns = [engine for i, engine in enumerate(log[2:]) if i == 0 or log[2 + i - 1] is not engine]  # two of warm-up
    assert turns == [fast, slow] * (len(turns) // 2)
    assert len(turns) >= 4
    uncounted = len(turns) + 2
    assert len(seconds["fast"].seconds) + len(seconds["slow"].seconds) == len(log) - uncounted
    assert min(len(times.seconds) for times in seconds.values()) >= 6
    assert seconds["fast"].total_s == pytest.approx(sum(seconds["fast"].seconds))


def test_the_garbage_collector_rests_while_timing_and_works_again_after() -> None:
    engine = Sleeper(0.0001)
    measure(engine, Timing(0, 0, 1, 1))
    assert not engine.collected
    assert gc.isenabled()


class Counted:
    """An engine that tells its parts."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def run_in_parts(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], Parts]:
        self.given.append(inputs["optical"])
        return {}, Parts(0.25, 0.5, 0.125)


class Plain:
    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs


def test_a_query_converts_sensor_values_and_keeps_the_parts_that_the_engine_tells() -> None:
    engine = Counted()
    x = np.arange(12, dtype=np.uint16).reshape(3, 4)
    times = measure_together({"one": query(engine, "optical", x)}, Timing(0, 0, 2, 1))["one"]  # type: ignore[arg-type]
    assert engine.given[0].dtype == np.float32
    assert np.array_equal(engine.given[0], x)
    assert len(times.parts) == len(times.seconds)
    assert times.parts[0] == (0.25, 0.5, 0.125)
    assert query(Plain(), "optical", x)() is None  # type: ignore[arg-type]
