import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.benchmarks import machine
from edge.benchmarks.bench import Entry, Inputs, bench_graphs, predict
from edge.benchmarks.latency import Timing
from edge.benchmarks.memory import peak_memory
from edge.benchmarks.report import make_report
from edge.deploy.engine import open_engine
from edge.errors import InputError
from edge.metrics import bootstrap_interval, score
from edge.tasks import Task

CROP = Task("multiclass", name="crop", classes=("wheat", "maize", "rape"))
QUICK = Timing(warmup_s=0.0, min_duration_s=0.0, min_samples=64, max_duration_s=0.2)
Student = Callable[..., Path]


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process per graph is tested once, not in every test."""
    monkeypatch.setattr(
        "edge.benchmarks.bench.peak_memory", lambda _graph, _shapes, batches, **_: dict.fromkeys(batches)
    )


@pytest.mark.usefixtures("no_memory")
def test_rows_hold_latency_and_the_metric_of_the_deployed_engine(student: Student, x: np.ndarray) -> None:
    graphs = [student("a.onnx"), student("b.onnx", seed=7)]
    prediction = predict(open_engine(graphs[0]), "optical", x)
    target, groups = prediction.argmax(1), np.arange(50) // 5
    target[:10] = (target[:10] + 1) % 3  # a fifth is wrong
    entries = [Entry("mdico", "fp32", graphs[0], "optical", CROP), Entry("mdico", "int8", graphs[1], "optical", CROP)]
    rows = bench_graphs(entries, {"optical": Inputs(x, target, groups)}, batches=(1, 8), timing=QUICK)
    assert [(row["precision"], row["batch"]) for row in rows] == [("fp32", 1), ("fp32", 8), ("int8", 1), ("int8", 8)]
    assert rows[0]["metric"] == score(CROP, prediction, target)["macro_recall"]
    assert rows[0]["scores"]["accuracy"] == pytest.approx(0.8)
    assert rows[0]["metric_ci95"] == list(bootstrap_interval(CROP, prediction, target, groups))
    assert rows[2]["metric"] < rows[0]["metric"]
    assert rows[0]["latency_ms"]["n"] >= 64
    assert rows[0]["latency_ms"]["p50"] > 0
    assert rows[1]["throughput_per_s"] == pytest.approx(8 / rows[1]["latency_ms"]["mean"] * 1e3)
    assert rows[0]["model_bytes"] == graphs[0].stat().st_size
    assert rows[0]["energy_mj"] is None
    assert 0 < rows[0]["engine_ms"]["p50"] < rows[0]["latency_ms"]["p50"]
    assert rows[0]["engine_ms"]["n"] == rows[0]["latency_ms"]["n"]
    assert rows[0]["copy_ms"] is None
    assert [part["name"] for part in rows[0]["per_class"]] == ["wheat", "maize", "rape"]


@pytest.mark.usefixtures("no_memory")
def test_without_a_target_the_metric_is_null(student: Student, x: np.ndarray) -> None:
    rows = bench_graphs(
        [Entry("m", "fp32", student(), "optical", CROP)], {"optical": Inputs(x)}, batches=(1,), timing=QUICK
    )
    assert (rows[0]["metric"], rows[0]["metric_ci95"], rows[0]["scores"]) == (None, None, None)


@pytest.mark.usefixtures("no_memory")
def test_every_thread_count_has_rows_of_its_own(student: Student, x: np.ndarray) -> None:
    entries = [Entry("m", "fp32", student(), "optical", CROP)]
    rows = bench_graphs(entries, {"optical": Inputs(x)}, batches=(1, 2), threads=(1, 2), timing=QUICK)
    assert [(row["threads"], row["batch"]) for row in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_peak_memory_is_that_of_a_fresh_process(student: Student, x: np.ndarray) -> None:
    filler = np.ones(40_000_000)  # 305 MiB that the measuring process holds and a device does not
    peaks = peak_memory(student(), {"optical": (4,)}, (256, 1), backend="onnxruntime", threads=1)
    own = machine.peak_rss_mb()
    assert own is not None
    assert own > filler.nbytes / 2**20
    assert set(peaks) == {1, 256}
    assert 20 < peaks[1] <= peaks[256] < 250  # type: ignore[operator]


def test_peak_memory_of_a_graph_that_does_not_open_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    assert peak_memory(broken, {"x": (4,)}, (1,), backend="onnxruntime", threads=1) == {1: None}


def test_an_input_that_is_not_there_is_named(student: Student, x: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"needs the modality 'optical'; the inputs hold \['sar'\]"):
        bench_graphs([Entry("m", "fp32", student(), "optical", CROP)], {"sar": Inputs(x)})


def test_prediction_in_pieces_equals_prediction_at_once(student: Student, x: np.ndarray) -> None:
    engine = open_engine(student())
    whole = engine.run({"optical": x})["prediction"]
    np.testing.assert_allclose(predict(engine, "optical", x.astype(np.float64), batch=7), whole, rtol=1e-6)


def test_machine_facts_fit_the_schema_and_name_the_engine() -> None:
    facts = machine.machine_facts()
    make_report(dataset=None, modality="optical", task=CROP, protocol=None, results=[], machine=facts)
    assert facts["cores"] >= 1
    assert facts["versions"]["numpy"] == np.__version__
    assert "onnxruntime" in facts["versions"]


def test_other_load_is_what_the_machine_did_without_us(monkeypatch: pytest.MonkeyPatch) -> None:
    tick = os.sysconf("SC_CLK_TCK")
    busy, own, clock = 100.0, 10.0, 50.0
    monkeypatch.setattr(machine, "_text", lambda _: f"cpu {busy * tick:.0f} 0 0 99999 999 0 0 0 0 0")
    monkeypatch.setattr(os, "times", lambda: os.times_result((own, 0.0, 0.0, 0.0, 0.0)))
    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    load = machine.OtherLoad()
    busy, own, clock = 100 + 7, 10 + 4, 50 + 4  # in 4 s two cores worked 7 s, 4 s of it were ours
    assert load.cores() == pytest.approx(0.75)
    monkeypatch.setattr(machine, "_text", lambda _: None)
    assert machine.OtherLoad().cores() is None
