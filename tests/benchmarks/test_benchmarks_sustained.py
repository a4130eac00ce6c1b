import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.benchmarks.cold_start import cold_starts
from edge.benchmarks.doubts import doubts
from edge.benchmarks.energy import repeat
from edge.benchmarks.sustained import slowdown, sustain


def test_a_sustained_run_is_summed_up_window_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.benchmarks.sustained.WINDOW_S", 0.05)
    found = sustain(lambda: time.sleep(0.001), 4, 0.3)
    assert found["batch"] == 4
    assert 3 <= len(found["windows"]) <= 7
    assert found["queries"] == sum(window["n"] for window in found["windows"])
    moments = [window["t_s"] for window in found["windows"]]
    assert moments == sorted(moments)
    assert 0 < moments[0] < moments[-1] < found["duration_s"]
    assert all(window["mean"] >= 1.0 for window in found["windows"])
    assert set(found["windows"][0]) == {"t_s", "n", "p50", "p90", "p99", "mean", "temperature_c", "power_w"}


def test_slowing_down_compares_the_ends() -> None:
    assert slowdown([1.0] * 10 + [5.0] * 80 + [1.5] * 10) == 1.5
    assert slowdown([2.0]) == 1.0
    assert slowdown([None, 2.0]) is None
    assert slowdown([]) is None


def test_repeating_counts_its_runs() -> None:
    done: list[int] = []
    count, seconds = repeat(lambda: done.append(1), 0.02)
    assert count == len(done)
    assert seconds >= 0.02


def test_a_cold_start_has_its_parts_and_a_broken_graph_none(student: Callable[..., Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    graphs = [(student(), {"optical": (4,)}, "onnxruntime"), (broken, {"optical": (4,)}, "onnxruntime")]
    start, nothing = cold_starts(graphs, threads=1, repeats=1)
    assert nothing is None
    assert start is not None
    assert start["n"] == 1
    parts = [start[name]["median"] for name in ("import_ms", "load_ms", "first_ms", "second_ms")]
    assert min(parts) > 0
    assert start["process_ms"]["median"] > sum(parts[:3])


def test_heat_and_scenarios_give_reason_to_doubt() -> None:
    row = {"method": "mdico", "precision": "int8", "batch": 1, "slowdown": 1.3, "duration_s": 1800.0, "power": None}
    hot = row | {"slowdown": 1.0, "power": {"throttled": True, "clock_drop": True, "source": "x", "notes": []}}
    server = row | {"scenario": "server", "rate_per_s": None, "bound_ms": 5.0, "percentile": "p99", "estimate_ms": None}
    stream = row | {"scenario": "multi-stream", "percentile": "p99", "estimate_ms": None, "queries": 100}
    assert doubts({"governor": None}, [], [server, stream], [row, hot]) == [
        "The processor was throttled while mdico INT8 at batch 1 ran.",
        "The clock fell while mdico INT8 at batch 1 ran.",
        "mdico INT8 at batch 1 became slower in 30.0 minutes under load: p50 at the end is 1.30 x that of the begin.",
        "No rate was found that mdico INT8 in the scenario server serves within 5 ms.",
        "100 queries of mdico INT8 in the scenario multi-stream are too few for p99; measure longer.",
    ]


def test_halves_that_differ_are_named() -> None:
    latency = {"p50": 1.0, "p90": 1.1, "p99": 1.2, "n": 1000, "drift": 1.25}
    row = {"method": "m", "precision": "fp32", "batch": 1, "latency_ms": latency, "metric": 0.5, "metric_ci95": [0, 1]}
    (said,) = doubts({}, [row])
    assert said.startswith("The latency of m FP32 at batch 1 drifted: the median of the second half is 1.25 x")
    assert doubts({}, [row | {"latency_ms": latency | {"drift": np.float64(1.05)}}]) == []
