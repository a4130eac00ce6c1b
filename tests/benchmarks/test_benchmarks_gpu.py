"""benchmarks/gpu: all of it but the GPU."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge.benchmarks import gpu
from edge.benchmarks.latency import Times
from edge.build import build
from edge.deploy.engine import Parts, open_engine
from edge.recipe import Model, Recipe, Training
from edge.train.sources.simulated import simulate

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"
needs_builder = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed; pip install tensorrt-rtx==1.7.1.116",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with one FP32 bundle, which trains quickly; its own report's latencies do not matter here."""
    folder = tmp_path_factory.mktemp("gpu")
    simulate(folder / "set", task="regression", n=300, seed=3)
    recipe = Recipe(
        data=str(folder / "set"), method="mdico", model=Model(width=16, hidden=32, embedding=16),
        training=Training(epochs=4, lr=3e-3),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "edge.benchmarks.bench.measure_together", lambda runs, _: {key: Times([1e-3] * 20) for key in runs}
        )
        patch.setattr("edge.benchmarks.bench.peak_memory", lambda _g, _s, batches, **_: dict.fromkeys(batches))
        build(recipe, "optical", "fp32", folder / "run", command="edge build")
    return folder / "run"


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@needs_builder
def test_a_dry_run_compiles_engines_checks_parity_and_times_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    options = ["--dry-run", "--backend", "tensorrt_rtx", "--max-drop", "0.5"]
    result = CliRunner().invoke(gpu.main, [str(run), *options, "--out", str(tmp_path / "gpu.csv")])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["dry_run"] is True
    rows = read(tmp_path / "gpu.csv")
    assert [(row["contender"], row["precision"]) for row in rows] == [
        ("tensorrt_rtx", "fp32"), ("tensorrt_rtx", "fp16"), ("onnxruntime", "fp32"), ("torch eager", "fp32"),
    ]  # fmt: skip
    for row in rows:
        assert row["device"] == "cpu (dry run)"
        assert {row[name] for name in row if name.endswith("_ms")} == {""}
    for row in rows[:2]:
        assert (int(row["bytes"]) > 10_000, row["error"]) == (True, "compiled, not run: this is a dry run")
        assert row["version"].startswith("tensorrt_rtx 1.")
    for row in rows[2:]:
        assert (row["agrees"], row["within_gate"], row["error"]) == ("True", "True", "")
    assert 0 < float(rows[-1]["largest_difference"]) < 0.1  # torch adds in another order, in t/ha


def test_what_runs_is_timed_together_and_what_fails_keeps_its_reason(run, tmp_path, monkeypatch):
    """The GPU's place is taken by ONNX Runtime on the CPU, the stop-watch's by known times."""

    def contenders(_run, bundle, backend, *, dry):
        assert dry is False

        def broken():
            raise EPFail("CUDA error: no kernel image\nat some line")

        graph = bundle.graphs["fp32"]
        yield gpu.Contender(backend, "fp32", "fp32", lambda: open_engine(graph), 1, "tensorrt 10.3.0")
        yield gpu.Contender("upside down", "fp32", "fp32", lambda: Negated(graph))
        yield gpu.Contender("torch eager", "fp32", "fp32", broken)

    class EPFail(Exception):
        """ONNX Runtime's errors are nothing but exceptions."""

    class Negated:
        def __init__(self, graph):
            self._engine = open_engine(graph)

        def run(self, inputs):
            return {"prediction": -self._engine.run(inputs)["prediction"]}

        def close(self):
            self._engine.close()

    timed = Times([1.2e-3] * 1000, [Parts(1e-3, 5e-5, 5e-5)] * 1000)
    monkeypatch.setattr(gpu, "contenders", contenders)
    monkeypatch.setattr(gpu, "measure_together", lambda runs, _: dict.fromkeys(runs, timed))
    monkeypatch.setattr(gpu, "gpu_here", lambda: ("NVIDIA H100", "9.0"))
    arguments = [str(run), "--backend", "tensorrt", "--out", str(tmp_path / "gpu.csv")]
    result = CliRunner().invoke(gpu.main, arguments)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) | {"out": ""} == {
        "benchmark": "gpu", "dry_run": False, "out": "", "rows": 7, "failed": 1, "wrong": 3,
    }  # fmt: skip
    rows = {(row["contender"], row["batch"]): row for row in read(tmp_path / "gpu.csv")}
    good = rows["tensorrt", "32"]
    assert (good["device"], good["agrees"], good["within_gate"]) == ("NVIDIA H100", "True", "True")
    figures = [float(good[name]) for name in ("p50_ms", "gpu_ms", "copy_ms", "overhead")]
    np.testing.assert_allclose(figures, [1.2, 1.0, 0.1, 0.2])
    assert rows["upside down", "1"]["agrees"] == rows["upside down", "1"]["within_gate"] == "False"
    assert rows["torch eager", ""]["error"] == "CUDA error: no kernel image"


def test_without_a_gpu_the_way_out_is_named(run, tmp_path):
    result = CliRunner().invoke(gpu.main, [str(run), "--out", str(tmp_path / "gpu.csv")])
    assert (result.exit_code, "try --dry-run" in result.stderr) == (4, True)
    options = ["--dry-run", "--backend", "tensorrt_rtx", "--out", str(tmp_path / "gpu.csv")]
    result = CliRunner().invoke(gpu.main, [str(tmp_path), *options])
    assert (result.exit_code, "has no bundle with test samples" in result.stderr) == (2, True)
    assert not list(tmp_path.iterdir())


def test_the_script_is_bash_and_explains_itself():
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "benchmarks/gpu.sh dry-run --out gpu.csv RUN..." in done.stderr


def test_what_was_measured_is_kept_when_the_gpu_is_lost(run, tmp_path, monkeypatch):
    def measure(where, *_arguments, **_named):
        if where.name == "lost":
            raise KeyboardInterrupt
        return [dict.fromkeys(gpu.COLUMNS) | {"run": where.name}]

    (tmp_path / "lost").symlink_to(run)
    monkeypatch.setattr(gpu, "measure", measure)
    arguments = [str(run), str(tmp_path / "lost"), "--dry-run", "--backend", "tensorrt_rtx"]
    result = CliRunner().invoke(gpu.main, [*arguments, "--out", str(tmp_path / "gpu.csv")])
    assert result.exit_code == 1
    assert [row["run"] for row in read(tmp_path / "gpu.csv")] == ["run"]


def test_the_runtimes_pieces_are_joined_in_the_folder_that_is_asked_for(tmp_path):
    """With an unpacker that knows one place, as pack_gpu.py writes it."""
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces" / "trt-rtx.json").write_text("{}")
    code = "import pathlib, sys; pathlib.Path('/tmp/site/joined').write_text(' '.join(sys.argv[1:]))"
    (tmp_path / "pieces" / "unpack.py").write_text(code)
    environment = os.environ | {"PYTHON": sys.executable, "EDGE_GPU_SITE": str(tmp_path / "site")}
    subprocess.run(["bash", SCRIPT, "unpack", tmp_path / "pieces"], env=environment, check=True)
    assert (tmp_path / "site" / "joined").read_text() == f"{tmp_path / 'pieces'} trt-rtx"
    assert (tmp_path / "site" / "tensorrt_rtx" / "__init__.py").is_file()


@pytest.mark.slow
@needs_builder
def test_the_script_runs_dry_where_edge_is_not_installed_but_linked(run, tmp_path):
    """A Python that reads no .pth file, so that the editable install is not there."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    environment = os.environ | {
        "PYTHON": str(python), "PYTHONPATH": sysconfig.get_path("purelib"),
        "EDGE_GPU_SITE": str(tmp_path / "site"), "EDGE_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    command = ["bash", SCRIPT, "dry-run", "--out", tmp_path / "gpu.csv", run]
    done = subprocess.run(command, env=environment, cwd=SCRIPT.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(read(tmp_path / "gpu.csv")) == 4
    assert (tmp_path / "site" / "edge" / "benchmarks" / "gpu.py").samefile(gpu.__file__)
