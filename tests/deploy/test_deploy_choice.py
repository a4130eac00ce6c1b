"""Which engine for the CPU runs a bundle: chosen from a report, kept on this machine, taken by `edge predict`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny_bundles import values

from edge.benchmarks import bundles
from edge.benchmarks.latency import Timing
from edge.cli import main
from edge.deploy import choice
from edge.deploy.bundle import Bundle
from edge.deploy.choice import choose_for_cpu, chosen_for_cpu
from edge.deploy.engine import Engine, open_engine
from edge.errors import FitError, InputError


def row(engine: str, mean: float, batch: int = 256, precision: str = "int8", threads: int = 1) -> dict[str, Any]:
    latency = {"p50": None, "mean": mean}
    return {"engine": engine, "precision": precision, "batch": batch, "threads": threads, "latency_ms": latency}


def edge(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every engine is ONNX Runtime; those that are added here answer with the classes swapped."""
    names: set[str] = set()

    class Swapped:
        def __init__(self, engine: Engine) -> None:
            self._engine = engine

        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: array[:, ::-1] for name, array in self._engine.run(inputs).items()}

        def close(self) -> None:
            self._engine.close()

    def opened(graph: Path, *, backend: str) -> Engine | Swapped:
        engine = open_engine(graph)
        return Swapped(engine) if backend in names else engine

    monkeypatch.setattr(choice, "open_engine", opened)
    return names


def test_the_fastest_at_the_largest_batch_is_kept_for_this_bundle_alone(
    wrong: set[str], make_bundle: Callable[..., Bundle]
) -> None:
    bundle, other = make_bundle("one"), make_bundle("other", "regression")
    assert chosen_for_cpu(bundle) == "onnxruntime"
    rows = [
        row("onnxruntime", 0.1, batch=1), row("openvino", 0.2, batch=1),
        row("onnxruntime", 3.0), row("openvino", 2.0),
        row("tensorrt", 0.5), row("onnxruntime", 1.0, precision="fp32"), row("onnxruntime", 1.0, threads=2),
    ]  # fmt: skip
    assert choose_for_cpu(bundle, rows) == ("openvino", [])
    assert chosen_for_cpu(bundle) == "openvino"
    assert chosen_for_cpu(other) == "onnxruntime"
    assert choose_for_cpu(bundle, rows[:2]) == ("onnxruntime", [])
    assert chosen_for_cpu(bundle) == "onnxruntime"


def test_an_engine_that_differs_from_the_golden_vectors_is_not_taken(wrong: set[str], tiny_bundle: Bundle) -> None:
    rows = [row("onnxruntime", 3.0), row("openvino", 2.0)]
    wrong.add("openvino")
    chosen, (fault,) = choose_for_cpu(tiny_bundle, rows)
    assert chosen == chosen_for_cpu(tiny_bundle) == "onnxruntime"
    assert fault.startswith("openvino differs from the golden vectors: ")
    wrong.clear()
    choose_for_cpu(tiny_bundle, rows)
    wrong.update(["openvino", "onnxruntime"])
    with pytest.raises(FitError, match=r"no engine .* is fit .*: openvino differs .*% of the classes.*; onnxruntime d"):
        choose_for_cpu(tiny_bundle, rows)
    assert chosen_for_cpu(tiny_bundle) == "openvino", "what was kept before stays"


def test_without_a_row_of_the_precision_that_runs_nothing_is_chosen(tiny_bundle: Bundle) -> None:
    for rows in ([], [row("onnxruntime", 1.0, precision="fp32")], [row("tensorrt", 1.0)]):
        with pytest.raises(InputError, match="int8 was not measured on an engine for the CPU"):
            choose_for_cpu(tiny_bundle, rows)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"engine": "abacus"}', '{"engine": 1}'])
def test_a_choice_that_cannot_be_read_is_none(
    wrong: set[str], tiny_bundle: Bundle, tmp_path: Path, content: str
) -> None:
    choose_for_cpu(tiny_bundle, [row("openvino", 1.0)])
    (kept,) = (tmp_path / "cache").rglob("*.json")
    kept.write_text(content)
    assert chosen_for_cpu(tiny_bundle) == "onnxruntime"


def test_predict_takes_what_was_chosen_unless_it_is_told_otherwise(
    wrong: set[str], tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", values(4))
    ask = ("predict", tiny_bundle.folder, tmp_path / "x.npy", "-o", tmp_path / "out.csv", "--json")
    assert json.loads(edge(*ask).stdout)["backend"] == "onnxruntime"
    choose_for_cpu(tiny_bundle, [row("openvino", 1.0)])
    monkeypatch.setitem(sys.modules, "openvino", None)
    result = edge(*ask)
    assert (result.exit_code, "edge-colearn[openvino]" in result.stderr) == (5, True)
    assert json.loads(edge(*ask, "--backend", "onnxruntime").stdout)["backend"] == "onnxruntime"


def test_bench_chooses_for_one_bundle(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Timing(warmup_s=0.0, min_duration_s=0.0, min_samples=2, max_duration_s=0.1)
    monkeypatch.setattr(bundles.Plan, "timing", quick)
    monkeypatch.setattr(bundles, "cold_starts", lambda graphs, **_: [None for _ in graphs])
    monkeypatch.setattr("edge.benchmarks.bench.peak_memory", lambda _g, _s, batches, **_: dict.fromkeys(batches))
    result = edge("bench", tiny_bundle.folder, "--choose", "--batch", "1,4", "--scenario", "")
    assert result.exit_code == 0, result.output
    assert "edge predict takes onnxruntime for this bundle on this machine from now on" in result.stderr
    (kept,) = (tmp_path / "cache").rglob("*.json")
    assert json.loads(kept.read_text()) == {"engine": "onnxruntime"}
    for more in ((tiny_bundle.folder,), ("--power-mode", "15W")):
        result = edge("bench", tiny_bundle.folder, *more, "--choose")
        assert (result.exit_code, "--choose takes one bundle" in result.stderr) == (2, True)
