"""`edge engine`: really compiled by TensorRT-RTX; tested, timed and chosen on a stand-in for a board."""

import importlib.util
import json
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from fake_tensorrt import OUT_OF_MEMORY, FakeCuda, FakeTensorRT

from edge import engines
from edge.benchmarks.latency import Times
from edge.cli import main
from edge.deploy import choice, cuda, plan
from edge.deploy.bundle import Bundle
from edge.deploy.choice import graph_to_run
from edge.deploy.engine import open_engine

needs_builder = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed; pip install tensorrt-rtx==1.7.1.116",
)


def edge(*arguments: object):
    return CliRunner().invoke(main, ["engine", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def board(monkeypatch, tiny_bundle: Bundle):
    """An Orin with TensorRT 10.3; engines give what ONNX Runtime gives, off by `wrong`, in `times` milliseconds."""
    fake = FakeTensorRT()
    fake.plans = [b"plan"] * 9
    fake.cuda = FakeCuda()
    fake.times, fake.wrong = {"fp32": 3.0, "fp16": 2.0, "int8": 1.0}, dict.fromkeys(("fp32", "fp16", "int8"), 0.0)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setattr(cuda, "_runtime", lambda: fake.cuda)
    for module in (engines, plan):
        monkeypatch.setattr(module, "gpu_here", lambda: ("Orin", "8.7"))

    class Like:
        def __init__(self, path: Path, **_: object) -> None:
            sidecar = json.loads(path.with_suffix(".json").read_text())
            self.precision = sidecar["key"]["options"]["precision"]
            self._engine = open_engine(Path(sidecar["source"]))

        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            found = self._engine.run(inputs)["prediction"]
            return {"prediction": found[:, ::-1] if fake.wrong[self.precision] else found}

        def close(self) -> None:
            self._engine.close()

    order: list[str] = []

    def opened(path: Path, **named: object) -> Like:
        like = Like(path, **named)
        order.append(like.precision)
        return like

    def timed(runs, _timing):
        names = order[-len(runs) :]
        return {key: Times([fake.times[name] / 1e3] * 20) for key, name in zip(runs, names, strict=True)}

    monkeypatch.setattr(engines, "open_engine", opened)
    monkeypatch.setattr("edge.benchmarks.bench.open_engine", opened)
    monkeypatch.setattr("edge.benchmarks.bench.measure_together", timed)
    monkeypatch.setattr("edge.benchmarks.bench.peak_memory", lambda _g, _s, batches, **_: dict.fromkeys(batches))
    return fake


@needs_builder
def test_without_a_gpu_engines_are_compiled_and_nothing_else_is_claimed(tiny_bundle, tmp_path):
    result = edge(
        tiny_bundle.folder, "--backend", "tensorrt_rtx", "--max-batch", 8, "--json", "--out", tmp_path / "e.json"
    )
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document == json.loads((tmp_path / "e.json").read_text())
    assert document["builder"].startswith("tensorrt_rtx 1.")
    assert [engine["precision"] for engine in document["engines"]] == ["fp32", "fp16", "int8"]
    for engine in document["engines"]:
        assert engine["bytes"] > 10_000
        assert engine["builder"] == document["builder"]
        assert (engine["agrees"], engine["layers"], engine["error"]) == (None, None, None)
        assert Path(engine["plan"]).is_relative_to(tmp_path / "cache")
    assert (document["chosen"], document["report"]) == (None, None)
    assert document["why"] == ["no GPU that can run them is here: they were compiled, not tested and not timed"]


def test_the_fastest_is_chosen_and_remembered(board, tiny_bundle):
    result = edge(tiny_bundle.folder, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["builder"], document["chosen"]) == ("tensorrt 10.3.0", "int8")
    assert [gate["name"] for gate in document["report"]["gates"]] == [
        f"golden vectors on tensorrt 10.3.0, {name}" for name in ("fp32", "fp16", "int8")
    ]
    rows = [(row["precision"], row["engine"], row["batch"]) for row in document["report"]["results"]]
    assert rows == [(name, "tensorrt", batch) for name in ("fp32", "fp16", "int8") for batch in (1, 32, 256)]
    path, precision = graph_to_run(tiny_bundle, None, "tensorrt")
    assert (str(path), precision) == (document["engines"][2]["plan"], "int8")


def test_int8_that_does_not_pay_is_said_and_not_used(board, tiny_bundle):
    board.times["int8"] = 2.5
    result = edge(tiny_bundle.folder)
    assert result.exit_code == 0, result.stderr
    assert "FP16 is used: the fastest at batch 32 (2 ms)" in result.stdout
    assert "INT8 does not pay: 2.5 ms, FP16 2 ms" in result.stdout
    assert graph_to_run(tiny_bundle, None, "tensorrt")[1] == "fp16"


@pytest.mark.parametrize(("options", "graph"), [((), "fp32"), (("--strongly-typed",), "fp16")])
def test_a_strongly_typed_network_takes_the_fp16_graph_that_was_checked(board, make_bundle, options, graph):
    board.__version__ = "10.12.0"
    bundle = make_bundle(keys=("fp32", "fp16"))
    result = edge(bundle.folder, "--precision", "fp16", "--json", *options)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["chosen"] == "fp16"
    sidecar = json.loads(Path(document["engines"][0]["plan"]).with_suffix(".json").read_text())
    assert sidecar["source"].endswith(f"model.{graph}.onnx")


def test_an_engine_that_contradicts_the_golden_vectors_is_never_chosen(board, tiny_bundle):
    board.wrong["int8"] = 1
    document = json.loads(edge(tiny_bundle.folder, "--json").stdout)
    assert document["chosen"] == "fp16"
    assert [engine["agrees"] for engine in document["engines"]] == [True, True, False]
    assert [text for text in document["why"] if text.startswith("int8 is left out: golden vectors: ")]
    assert {row["precision"] for row in document["report"]["results"]} == {"fp32", "fp16"}


def test_where_none_agrees_nothing_is_chosen(board, tiny_bundle):
    board.wrong = dict.fromkeys(board.wrong, 1)
    result = edge(tiny_bundle.folder)
    assert result.exit_code == 4
    assert "agrees with the golden vectors on this machine" in result.stderr
    assert choice.remembered(tiny_bundle, "tensorrt") is None


def test_one_precision_that_cannot_be_built_is_left_out_and_all_of_them_is_an_error(board, tiny_bundle):
    board.while_building, board.plans = ["no kernel for it"], [b"plan", None, b"plan"]
    result = edge(tiny_bundle.folder, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["engines"][1]["plan"] is None
    assert "no kernel for it" in document["engines"][1]["error"]
    assert "fp16 cannot be built: tensorrt 10.3.0 cannot build" in result.stderr
    board.while_building, board.plans = [OUT_OF_MEMORY], [None] * 30
    assert edge(tiny_bundle.folder, "--force").exit_code == 4


def test_one_precision_can_be_asked_for_and_batches_with_it(board, tiny_bundle):
    document = json.loads(edge(tiny_bundle.folder, "--precision", "fp16", "--max-batch", 4, "--json").stdout)
    assert [engine["precision"] for engine in document["engines"]] == ["fp16"]
    sizes = board.configs[0].profiles[0].shapes["optical"]
    assert [size[0] for size in sizes] == [1, 4, 4]
    assert {row["batch"] for row in document["report"]["results"]} == {1, 4}


def test_wrong_batch_sizes_are_a_usage_error(board, tiny_bundle):
    result = edge(tiny_bundle.folder, "--min-batch", 8, "--max-batch", 4)
    assert (result.exit_code, "smallest <= usual <= largest" in result.stderr) == (2, True)


def test_a_bundle_without_int8_says_what_to_ask_for(board, make_bundle):
    bundle = make_bundle("float", keys=("fp32",))
    assert json.loads(edge(bundle.folder, "--json").stdout)["chosen"] == "fp16"
    result = edge(bundle.folder, "--precision", "int8")
    assert (result.exit_code, "use --precision auto, fp32 or fp16" in result.stderr) == (2, True)


def test_without_any_tensorrt_the_line_that_installs_it_is_given(tiny_bundle, monkeypatch):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    result = edge(tiny_bundle.folder)
    assert result.exit_code == 5
    assert "on Jetson it comes with JetPack: sudo apt-get install -y python3-libnvinfer" in result.stderr


def test_a_board_without_cuda_says_why_and_builds_nothing(board, tiny_bundle, monkeypatch):
    monkeypatch.setattr(cuda, "_runtime", lambda: FakeCuda(devices=0))
    result = edge(tiny_bundle.folder)
    assert (result.exit_code, "no NVIDIA GPU that CUDA can use" in result.stderr) == (4, True)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT())
    for name in cuda.MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    result = edge(tiny_bundle.folder)
    assert (result.exit_code, "cuda-python" in result.stderr) == (5, True)
    assert board.configs == []


def test_the_command_says_all_that_it_did(board, tiny_bundle):
    result = edge(tiny_bundle.folder)
    for name in ("fp32", "fp16", "int8"):
        assert f"{name}  tensorrt 10.3.0, weakly typed, 0.00 MB, golden vectors agree" in result.stderr
    assert isinstance(main.get_command(click.Context(main), "engine"), click.Command)


def test_predict_takes_the_engine_that_was_chosen(board, tiny_bundle, tmp_path, monkeypatch):
    edge(tiny_bundle.folder)
    monkeypatch.setattr("edge.deploy.predict.open_engine", engines.open_engine)
    np.savez(tmp_path / "x.npz", optical=tiny_bundle.golden()["input"])
    arguments = ["predict", tiny_bundle.folder, tmp_path / "x.npz", "-o", tmp_path / "y.csv", "--backend", "tensorrt"]
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["precision"] == "int8"
