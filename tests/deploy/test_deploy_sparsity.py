"""2:4 sparsity: the pattern as NVIDIA's guide writes it, its check, what the builder does with it, what is shown."""

import importlib.util
import sys
from enum import IntEnum
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_tensorrt import FakeTensorRT
from onnx import helper, numpy_helper
from qdq_graphs import node, store, tempcnn

from edge.deploy import timing_cache
from edge.deploy.builder_tensorrt import Options, build
from edge.deploy.inspect import inspect_graph
from edge.deploy.onnx_graph import Graph
from edge.deploy.rules_tensorrt import check_tensorrt
from edge.deploy.sparsity import SPARSE_LAYERS, broken_groups, check_sparse, declare, pays, rows_of
from edge.errors import InputError


def half_of(weight: np.ndarray) -> np.ndarray:
    """The weight with the last two of any four inputs at 0."""
    weight = weight.copy()
    weight[:, 2::4], weight[:, 3::4] = 0, 0
    return weight


def sparse_tempcnn(form: str = "tensorrt", layers: tuple[str, ...] = ("conv2", "dense")) -> onnx.ModelProto:
    model = tempcnn(form)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name in layers:
        store(model, f"{name}.weight", half_of(stored[f"{name}.weight"]))
    declare(model, layers)
    return model


@pytest.mark.parametrize("shape", [(6, 16, 5), (4, 8, 3, 3), (5, 12)])
def test_broken_groups_are_those_of_the_loops_in_the_guide(shape) -> None:
    weight = np.random.default_rng(0).normal(size=shape) * (np.random.default_rng(1).random(shape) < 0.5)
    flat = weight.reshape(shape[0], shape[1], -1)  # [K, C, R S]
    expected = 0
    for k in range(shape[0]):
        for place in range(flat.shape[2]):
            for packed in range(shape[1] // 4):
                expected += int(np.count_nonzero(flat[k, packed * 4 : (packed + 1) * 4, place]) > 2)
    assert 0 < expected < flat.size / 4
    assert broken_groups(weight) == expected
    assert broken_groups(half_of(weight)) == 0


def test_a_rest_of_three_weights_is_a_group() -> None:
    weight = np.array([[0.0, 0, 1, 1, 1, 1, 1]])
    assert broken_groups(weight) == 1
    weight[0, 6] = 0
    assert broken_groups(weight) == 0


@pytest.mark.parametrize(
    ("shape", "groups", "expected"),
    [
        ((128, 128, 5), 1, True),
        ((8, 16), 1, True),
        ((128, 12, 5), 1, False),  # twelve bands
        ((6, 128), 1, False),  # a head of six classes
        ((64, 1, 3, 3), 64, False),  # depthwise
    ],
)
def test_sparse_kernels_take_multiples_of_8_and_16(shape, groups, expected) -> None:
    assert pays(shape, groups) is expected


@pytest.mark.parametrize("form", ["tensorrt", "float"])
def test_a_graph_that_keeps_the_pattern_breaks_no_rule(form) -> None:
    model = sparse_tempcnn(form)
    assert list(check_sparse(Graph(model))) == []
    assert check_tensorrt(model) == []


def test_one_broken_group_is_found_with_its_layer_and_the_way_out() -> None:
    model = sparse_tempcnn()
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "conv2.weight")
    weight = numpy_helper.to_array(tensor).copy()
    weight[3, 6, 2] = 0.1  # the third of the second group of four
    store(model, "conv2.weight", weight)
    (finding,) = check_sparse(Graph(model))
    assert (finding.rule, finding.node) == ("sparse", "conv2")
    assert finding.problem.startswith(f"1 of {weight.size // 4} groups")
    assert "--sparsity 2:4" in finding.fix


def test_a_declared_layer_that_is_not_there_is_found() -> None:
    model = tempcnn()
    declare(model, ("conv9",))
    assert [finding.node for finding in check_sparse(Graph(model))] == ["conv9"]


@pytest.mark.parametrize("stored", ["not json", '"conv1"', "3"])
def test_a_declaration_that_is_no_list_of_names_is_refused(stored) -> None:
    model = tempcnn()
    model.metadata_props.add(key=SPARSE_LAYERS, value=stored)
    with pytest.raises(InputError, match="expected a JSON list"):
        list(check_sparse(Graph(model)))


@pytest.mark.parametrize(("operator", "attributes"), [("Gemm", {}), ("Gemm", {"transB": 1}), ("MatMul", {})])
def test_the_axis_is_the_one_that_is_summed_over(operator, attributes) -> None:
    weight = half_of(np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32))  # [out, in]
    turned = weight if attributes else weight.T
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"], "layer", **attributes)],
        "one",
        [helper.make_tensor_value_info("x", 1, [1, 16])],
        [helper.make_tensor_value_info("y", 1, [1, 8])],
        [numpy_helper.from_array(np.ascontiguousarray(turned), "w")],
    )
    view = Graph(helper.make_model(graph))
    np.testing.assert_array_equal(rows_of(view, view.nodes[0]), weight)
    assert broken_groups(rows_of(view, view.nodes[0])) == 0


def test_inspect_shows_which_layers_have_the_pattern(tmp_path: Path) -> None:
    onnx.save(sparse_tempcnn(), tmp_path / "student.onnx")
    layers = {layer["name"]: layer["sparsity"] for layer in inspect_graph(tmp_path / "student.onnx")["layers"]}
    assert layers == {"conv1": None, "conv2": "2:4", "dense": "2:4", "head": None}


@pytest.fixture
def fake(monkeypatch, tmp_path) -> FakeTensorRT:
    found = FakeTensorRT()
    monkeypatch.setitem(sys.modules, "tensorrt", found)
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(timing_cache, "gpu_here", lambda: ("Orin", "8.7"))
    return found


def built(fake: FakeTensorRT, model: onnx.ModelProto, tmp_path: Path):
    onnx.save(model, tmp_path / "student.onnx")
    said: list[str] = []
    result = build(tmp_path / "student.onnx", Options("int8"), backend="tensorrt", notify=said.append)
    return result, said, fake.configs[-1].flags


def test_tensorrt_may_use_sparse_kernels_for_a_graph_that_declares_them_alone(fake, tmp_path) -> None:
    fake.BuilderFlag = IntEnum("BuilderFlag", [*fake.BuilderFlag.__members__, "SPARSE_WEIGHTS"], start=0)
    result, said, flags = built(fake, sparse_tempcnn(), tmp_path)
    assert "SPARSE_WEIGHTS" in flags
    assert said == list(result.sparsity) != []
    fake.plans.append(b"another plan")
    result, said, flags = built(fake, tempcnn(), tmp_path)
    assert "SPARSE_WEIGHTS" not in flags
    assert (said, result.sparsity) == ([], ())


def test_tensorrt_without_sparse_kernels_is_said(fake, tmp_path) -> None:
    result, said, _ = built(fake, sparse_tempcnn(), tmp_path)
    (line,) = said
    assert line == "tensorrt 10.3.0 has no kernels for 2:4 sparsity: it computes with the zeros"
    assert result.sparsity == (line,)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_nvidias_builder_takes_a_sparse_graph_and_the_flag(tmp_path) -> None:
    import tensorrt_rtx

    assert "SPARSE_WEIGHTS" in tensorrt_rtx.BuilderFlag.__members__
    onnx.save(sparse_tempcnn(), tmp_path / "student.onnx")
    result = build(tmp_path / "student.onnx", Options("int8"))
    assert len(result.plan) > 10_000
    assert len(result.sparsity) > 0
    assert node(sparse_tempcnn(), "conv2").op_type == "Conv"
