"""Layers that stay in float on purpose: named, left alone on both targets, declared, and trained beside the others."""

import dataclasses
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edge.compress.compression import Compressed, compress
from edge.compress.exclude import exclude, matching, read_integers
from edge.compress.fold import FoldedStudent
from edge.compress.graphs import int8_graphs, tuned_graph
from edge.compress.placement import place
from edge.compress.quantize import InputRange, LayerRange, layer_quantizers
from edge.deploy.inspect import inspect_graph
from edge.deploy.onnx_graph import FLOAT_PARTS, Graph
from edge.deploy.rules_onnxruntime import check_fused
from edge.deploy.rules_tensorrt import check_tensorrt
from edge.errors import InputError

LAYERS = ("specific.conv1", "specific.conv2", "specific.dense", "shared.conv1", "shared.conv2", "shared.dense",
          "to_shared.project")  # fmt: skip
BOTH = {"optical": LAYERS, "sar": LAYERS}
CHOSEN = ("specific.conv2", "optical.to_shared.*", "sar.*.conv1")


def node_of(view: Graph, layer: str) -> onnx.NodeProto:
    return next(node for node in view.nodes if len(node.input) > 1 and node.input[1].startswith(f"{layer}.weight"))


@pytest.fixture(scope="module")
def mixed(two, tmp_path_factory) -> Compressed:
    """The students of `two`, fine-tuned with CHOSEN in float."""
    settings = dataclasses.replace(two.recipe.compression, exclude=CHOSEN)
    recipe = dataclasses.replace(two.recipe, compression=settings)
    return compress(two.data, two.trained, recipe, tmp_path_factory.mktemp("mixed") / "compress")


def test_a_name_means_that_layer_of_every_modality_and_a_pattern_each_that_fits() -> None:
    assert matching(["shared.dense"], BOTH) == {"optical": ("shared.dense",), "sar": ("shared.dense",)}
    assert matching(["sar.shared.dense"], BOTH) == {"optical": (), "sar": ("shared.dense",)}
    found = matching(["optical.*.conv1", "s*.conv[2]", "specific.conv1"], BOTH)
    assert set(found["optical"]) == {"specific.conv1", "shared.conv1", "specific.conv2", "shared.conv2"}
    assert set(found["sar"]) == {"specific.conv1", "specific.conv2", "shared.conv2"}


@pytest.mark.parametrize("name", ["specific.conv9", "head", "lidar.specific.conv1", ""])
def test_a_name_that_is_none_is_answered_with_the_layers(name: str) -> None:
    with pytest.raises(InputError, match=r"names no INT8 layer; the layers are: optical\.specific\.conv1, .*sar\."):
        matching([name], BOTH)


def test_one_layer_must_stay_in_int8() -> None:
    with pytest.raises(InputError, match="leaves no layer of 'sar' in INT8"):
        matching(["sar.*"], BOTH)


@pytest.mark.parametrize("layer", LAYERS)
def test_any_layer_can_stay_in_float_on_both_targets(two, layer: str) -> None:
    tuned, ranges = tuned_graph(two.trained, two.compressed, "optical"), two.compressed.ranges["optical"]
    for target, check in (("cpu", check_fused), ("tensorrt", check_tensorrt)):
        graph = place(tuned, ranges, target, [layer])
        assert check(graph) == []
        view = Graph(graph)
        weight = view.constant(node_of(view, layer), 1)
        np.testing.assert_array_equal(
            weight.shape, two.compressed.students["optical"].get_submodule(layer).weight.shape
        )
        assert weight.dtype == np.float32
        quantized = {node.name.rpartition(".")[0] for node in view.quantized()}
        assert layer not in quantized
        assert quantized == {
            node.name.rpartition(".")[0] for node in Graph(place(tuned, ranges, target)).quantized()
        } - {layer}


def test_onnx_runtimes_integers_end_right_before_it_and_tensorrt_hands_it_floats(two) -> None:
    tuned, ranges = tuned_graph(two.trained, two.compressed, "sar"), two.compressed.ranges["sar"]
    reads = {
        (target, layer): view.dequantizer(node_of(view, layer).input[0]) is not None
        for target in ("cpu", "tensorrt")
        for layer in ("specific.conv1", "specific.conv2", "shared.dense")
        for view in [Graph(place(tuned, ranges, target, [layer]))]
    }
    # behind an integer layer in integers; conv1, whose input nobody else reads when both are left, in float
    assert reads["cpu", "specific.conv2"]
    assert reads["cpu", "shared.dense"]
    assert reads["cpu", "specific.conv1"]  # shared.conv1 quantizes the same tensor
    assert not any(found for (target, _), found in reads.items() if target == "tensorrt")
    view = Graph(place(tuned, ranges, "cpu", ["specific.dense", "specific.conv2"]))
    assert view.dequantizer(node_of(view, "specific.dense").input[0]) is None  # conv2 in front of it is in float
    first = ["specific.conv1", "shared.conv1"]
    assert read_integers(tuned, ranges, first) == set()


def test_what_is_not_declared_is_found(two) -> None:
    tuned, ranges = tuned_graph(two.trained, two.compressed, "optical"), two.compressed.ranges["optical"]
    graph = place(tuned, ranges, "cpu", ["specific.conv2"])
    assert [(entry.key, json.loads(entry.value)) for entry in graph.metadata_props] == [
        (FLOAT_PARTS, ["specific.conv2"])
    ]
    del graph.metadata_props[:]
    assert {finding.node for finding in check_fused(graph)} == {"specific.conv2.Conv", "specific.relu2.Relu"}


def test_a_float_layer_that_onnx_runtime_quantizes_by_itself_is_found(two) -> None:
    """Without the Max between its result and the Q it does (WeightBiasQuantization)."""
    tuned, ranges = tuned_graph(two.trained, two.compressed, "optical"), two.compressed.ranges["optical"]
    graph = place(tuned, ranges, "cpu", ["specific.conv2"])
    (relu,) = (node for node in graph.graph.node if node.name == "specific.relu2.Relu")
    assert relu.op_type == "Max"
    (q,) = (node for node in graph.graph.node if relu.output[0] in node.input)
    q.input[0] = relu.input[0]
    graph.graph.node.remove(relu)
    (finding,) = check_fused(graph)
    assert (finding.rule, "QLinearConv computes in integers" in finding.problem) == ("declared", True)


def test_what_is_declared_and_quantized_is_found(two) -> None:
    graph = int8_graphs(two.trained, two.compressed, "optical")["int8.tensorrt"]
    onnx.helper.set_model_props(graph, {FLOAT_PARTS: '["shared.conv2"]'})
    (finding,) = check_tensorrt(graph)
    assert (finding.rule, finding.node) == ("R11", "shared.conv2.Conv")
    assert "declares it as float on purpose" in finding.problem


@pytest.mark.parametrize("modality", ["optical", "sar"])
@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_the_graphs_compute_what_was_fine_tuned_beside_float_layers(two, mixed, modality: str, target: str) -> None:
    graph = int8_graphs(two.trained, mixed, modality)[f"int8.{target}"]
    assert (check_fused if target == "cpu" else check_tensorrt)(graph) == []
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {modality: np.array(two.data.arrays[modality][two.split.test])})
    reference = mixed.references[target][modality].numpy()
    assert np.mean(found.argmax(1) == reference.argmax(1)) >= 0.98
    assert np.abs(found - reference).max() < 0.01


def test_excluded_layers_are_remembered_and_have_no_weight_range(two, mixed) -> None:
    assert mixed.students["optical"].excluded == ("specific.conv2", "to_shared.project")
    assert mixed.students["sar"].excluded == ("shared.conv1", "specific.conv1", "specific.conv2")
    for modality, student in mixed.students.items():
        ranges = mixed.ranges[modality]
        weighted = {name for name, limits in ranges.items() if isinstance(limits, LayerRange)}
        assert weighted == set(LAYERS) - set(student.excluded)
    assert type(mixed.ranges["optical"]["specific.conv2"]) is InputRange  # conv1 in front of it is in integers
    assert "specific.conv2" not in mixed.ranges["sar"]  # there it is not, and neither is its output
    assert mixed.facts["fingerprint"] != two.compressed.facts["fingerprint"]


def test_the_others_are_fine_tuned_with_float_beside_them(two, live) -> None:
    """The fake-quantized student gives its float features where nothing before them is quantized."""
    x = two.samples.inputs["optical"][:8]
    exact = FoldedStudent(two.trained.model.students["optical"])
    exact.load_state_dict({key: value for key, value in live.state_dict().items() if "nncf" not in key})
    students = torch.nn.ModuleDict({"optical": live})
    before = layer_quantizers(live, x[:1])
    exclude(students, two.trained, {"optical": x[:1]}, ["*.conv1", "*.conv2", "*.dense"])
    with torch.no_grad():
        trunk, wanted = live(x)[3], exact(x)[3]
        shared, rounded = live(x)[2], exact(x)[2]
    torch.testing.assert_close(trunk, wanted)
    assert not torch.equal(shared, rounded)  # to_shared.project is INT8
    assert set(layer_quantizers(live, x[:1])) == {"to_shared.project"} < set(before)


def test_edge_inspect_shows_them_as_float(two, mixed, tmp_path) -> None:
    for key, graph in int8_graphs(two.trained, mixed, "optical").items():
        onnx.save(graph, str(tmp_path / f"{key}.onnx"))
        shown = {layer["name"]: layer["computes"] for layer in inspect_graph(tmp_path / f"{key}.onnx")["layers"]}
        assert shown["specific.conv2.Conv"] == shown["to_shared.project.Gemm"] == "float, declared"
        assert shown["shared.conv2.Conv"] == "int8"
        assert shown["head.Gemm"] == "float"
