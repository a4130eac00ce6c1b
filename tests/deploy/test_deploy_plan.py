"""A plan that does not fit is built again and never loaded."""

import json
import stat
import sys
from pathlib import Path

import onnx
import pytest
from fake_tensorrt import FakeCuda, FakeTensorRT
from tiny_bundles import TASKS, student

from edge.deploy import plan as plans
from edge.deploy.builder_tensorrt import Options
from edge.deploy.choice import graph_to_run, remember
from edge.deploy.plan import misfit, obtain, plan_key, read_plan
from edge.errors import InputError


@pytest.fixture
def trt(monkeypatch, tmp_path):
    """TensorRT 10.3 on an Orin with L4T 36.4.3, not real."""
    fake = FakeTensorRT()
    fake.plans = [f"plan {number}".encode() for number in range(20)]
    fake.cuda = FakeCuda()
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(plans, "gpu_here", lambda: ("Orin", "8.7"))
    monkeypatch.setattr(plans, "l4t_release", lambda: "36.4.3")
    return fake


@pytest.fixture
def graph(tmp_path) -> Path:
    onnx.save(student(TASKS["binary"], "fp32"), tmp_path / "model.fp32.onnx")
    return tmp_path / "model.fp32.onnx"


def test_a_plan_that_fits_is_not_built_again(trt, graph):
    told = []
    first = obtain(graph, Options(), notify=told.append)
    again = obtain(graph, Options(), notify=told.append)
    assert (again.path, again.about) == (first.path, json.loads(json.dumps(first.about)))
    assert read_plan(again) == b"plan 0"
    assert len(trt.configs) == 1
    assert told == []
    assert stat.S_IMODE(first.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("version", "TensorRT was 10.3.0, and is 10.7.0"),
        ("capability", "the compute capability was 8.7, and is 11.0"),
        ("gpu", "the GPU was Orin, and is Thor"),
        ("l4t", "L4T was 36.4.3, and is 36.5.0"),
        ("options", "batch was [1, 32, 256], and is [1, 1, 1]"),
    ],
)
def test_each_part_of_the_key_counts_and_the_line_says_which(trt, graph, monkeypatch, change, reason):
    obtain(graph, Options())
    options = Options()
    if change == "version":
        trt.__version__ = "10.7.0"
    elif change == "capability":
        monkeypatch.setattr(plans, "gpu_here", lambda: ("Orin", "11.0"))
    elif change == "gpu":
        monkeypatch.setattr(plans, "gpu_here", lambda: ("Thor", "8.7"))
    elif change == "l4t":
        monkeypatch.setattr(plans, "l4t_release", lambda: "36.5.0")
    else:
        options = Options(batch=(1, 1, 1))
    told = []
    found = obtain(graph, options, notify=told.append)
    assert told == [f"building {found.path.name} again from {graph}: {reason}"]
    assert read_plan(found) == b"plan 1"
    assert trt.loaded == []  # nothing was deserialized on the way


def test_another_graph_has_another_plan(trt, graph):
    first = obtain(graph, Options())
    onnx.save(student(TASKS["regression"], "fp32"), graph)
    assert obtain(graph, Options()).path != first.path


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"X"), "its bytes are not those that were written"),
        (lambda path: path.write_bytes(b"not a plan"), "its bytes are not those that were written"),
        (lambda path: path.with_suffix(".json").unlink(), "json is missing"),
        (lambda path: path.with_suffix(".json").write_text("{"), "is not valid JSON"),
        (lambda path: path.with_suffix(".json").write_text("[]"), "its sidecar is not of the format edge.plan/1"),
    ],
)
def test_a_plan_that_was_changed_is_built_again(trt, graph, damage, reason):
    damage(obtain(graph, Options()).path)
    told = []
    found = obtain(graph, Options(), notify=told.append)
    assert reason in told[0]
    assert read_plan(found) == b"plan 1"


def test_a_sidecar_with_the_right_key_does_not_make_a_foreign_plan_fit(trt, graph):
    """Somebody puts their plan in place of ours, and writes our key into the sidecar."""
    ours = obtain(graph, Options())
    theirs = obtain(graph, Options(batch=(1, 1, 1)))
    sidecar = json.loads(theirs.path.with_suffix(".json").read_text())
    sidecar["key"] = ours.key
    theirs.path.with_suffix(".json").write_text(json.dumps(sidecar))
    assert misfit(theirs.path, ours.key) == "its bytes are not those that were written"


def test_a_plan_stands_for_its_graph_and_options_and_one_from_elsewhere_does_not(trt, graph, tmp_path):
    made = obtain(graph, Options(batch=(1, 2, 4)))
    trt.__version__ = "10.7.0"
    again = obtain(made.path)
    assert again.graph == graph
    assert again.key["options"]["batch"] == [1, 2, 4]
    assert read_plan(again) == b"plan 1"
    foreign = tmp_path / made.path.name
    foreign.write_bytes(made.path.read_bytes())
    with pytest.raises(InputError, match="a plan from elsewhere is not loaded; give the ONNX graph"):
        obtain(foreign)


def test_a_graph_is_opened_with_the_options_that_it_was_built_with(trt, graph):
    made = obtain(graph, Options(batch=(1, 2, 4)))
    assert obtain(graph).key == made.key
    assert len(trt.configs) == 1


def test_the_precision_follows_from_the_graph(trt, tmp_path):
    onnx.save(student(TASKS["binary"], "int8.tensorrt"), tmp_path / "model.onnx")
    assert obtain(tmp_path / "model.onnx").key["options"]["precision"] == "int8"


def test_force_builds_again(trt, graph):
    obtain(graph, Options())
    assert read_plan(obtain(graph, Options(), rebuild=True)) == b"plan 1"


def test_the_key_has_all_that_a_plan_depends_on(trt, graph):
    assert set(plan_key(graph, Options(), "tensorrt")) == {
        "graph", "builder", "version", "capability", "gpu", "l4t", "options",
    }  # fmt: skip


def test_what_was_chosen_is_what_runs_until_its_plan_is_gone(trt, tiny_bundle):
    int8 = tiny_bundle.graphs["int8.tensorrt"]
    assert graph_to_run(tiny_bundle, None, "tensorrt") == (int8, "int8")
    made = obtain(tiny_bundle.graphs["fp32"], Options("fp16"))
    remember(tiny_bundle, "tensorrt", made.path, "fp16")
    assert graph_to_run(tiny_bundle, None, "tensorrt") == (made.path, "fp16")
    assert graph_to_run(tiny_bundle, "int8", "tensorrt") == (int8, "int8")
    assert graph_to_run(tiny_bundle, None, "onnxruntime") == (tiny_bundle.graphs["int8.cpu"], "int8")
    made.path.unlink()
    assert graph_to_run(tiny_bundle, None, "tensorrt") == (int8, "int8")
