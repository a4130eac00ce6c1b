"""Which quantized graphs ONNX Runtime runs in integers: what compress/placement.py builds on."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from qdq_graphs import BANDS, CHANNELS, CLASSES, TIMES, Net, insert, node, residual, store, tempcnn

from edge.deploy.rules_onnxruntime import check_fused


def test_a_cpu_graph_fuses_completely(tmp_path):
    onnx.save(tempcnn("cpu"), tmp_path / "model.onnx")
    assert check_fused(tmp_path / "model.onnx") == []
    assert check_fused(tempcnn("cpu")) == []


def test_its_integers_compute_the_same_as_the_pairs_written_out():
    """The fused graph against the unoptimized one, which computes Q, DQ and the float layers one by one."""
    model, data = tempcnn("cpu"), np.random.default_rng(1).normal(size=(64, TIMES, BANDS)).astype(np.float32)
    fused, plain = run(model, data), run(model, data, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    assert np.abs(fused - plain).max() < 0.02
    assert np.ptp(plain, axis=0).min() > 0.02  # the predictions differ between samples by more than that


def test_signed_int8_behind_relu_stays_in_float():
    findings = check_fused(tempcnn("tensorrt"))
    assert {finding.rule for finding in findings} == {"float", "integers"}
    assert "conv2" in {finding.node for finding in findings}


def test_a_graph_without_pairs_is_not_called_fused():
    (finding,) = check_fused(tempcnn("float"))
    assert finding.rule == "integers"


def test_both_layers_of_a_residual_block_in_int8_are_named():
    assert {"conv2", "conv3"} <= {finding.node for finding in check_fused(residual())}


def test_a_relu_whose_zero_point_is_128_is_found():
    """uint8 with zero point 128 keeps the negative half, so the ReLU in front of it has to be computed, in float."""
    model = tempcnn("cpu")
    store(model, "flat.zero", np.uint8(128))
    store(model, "flat.scale", np.float32(0.04))
    assert {finding.node for finding in check_fused(model)} >= {"conv2"}


def test_flatten_without_a_pair_in_front_of_it_leaves_the_gemm_in_float():
    assert {finding.node for finding in check_fused(flattened("Flatten"))} >= {"flat", "dense"}
    assert check_fused(flattened("Reshape")) == []


def test_a_float_operator_between_two_quantized_layers_is_named():
    model = tempcnn("cpu")
    insert(model, "flat.q", helper.make_node("Sigmoid", ["flat"], ["sigmoid"], "sigmoid"))
    node(model, "flat.q").input[0] = "sigmoid"
    found = {finding.node: finding for finding in check_fused(model)}
    assert {"conv2", "sigmoid"} <= found.keys()  # conv2 too: its output is no longer quantized
    assert "sigmoid" in str(found["sigmoid"])


def test_a_tensor_that_changes_its_integer_type_through_float_is_named():
    model = tempcnn("cpu")
    step = [store(model, "again.scale", np.float32(0.03)), store(model, "again.zero", np.int8(0))]
    insert(
        model,
        "dense",
        helper.make_node("QuantizeLinear", ["flat.dq", *step], ["again.q"], "again.q"),
        helper.make_node("DequantizeLinear", ["again.q", *step], ["again.dq"], "again.dq"),
    )
    node(model, "dense").input[0] = "again.dq"
    assert [(finding.rule, finding.node) for finding in check_fused(model)] == [("float", "flat.dq")]


@pytest.mark.parametrize("bias", ["int32", "float"])
def test_a_gemm_that_ends_in_floats_fuses_with_an_int32_bias_only(bias):
    assert ("head" in {finding.node for finding in check_fused(gemm_at_the_end(bias))}) is (bias == "float")


def test_two_branches_may_read_one_quantized_input():
    net = Net("cpu")
    data = net.pair(net.add("Transpose", ["optical"], "bands", perm=[0, 2, 1]), signed=True)
    branches = []
    for name in ("specific", "shared"):
        net.layer("Conv", data_again(net, data), name, (CHANNELS, BANDS, 5), int8=True)
        branches.append(net.pair(net.add("Relu", [name], f"{name}.relu")))
    net.add("Concat", branches, "both", axis=1)
    net.add("ReduceMean", ["both"], "mean", axes=[2], keepdims=0)
    net.layer("Gemm", "mean", "head", (CLASSES, 2 * CHANNELS), int8=False)
    assert check_fused(net.model("head")) == []


def data_again(net: Net, data: str) -> str:
    """The DQ of `data` as the last node, where Net.layer looks for the scale of its data."""
    pair = next(each for each in net.nodes if each.output[0] == data)
    net.nodes.remove(pair)
    net.nodes.append(pair)
    return data


def flattened(operator: str) -> onnx.ModelProto:
    """tempcnn whose pair stands in front of the flattening, so that its DQ has to go through it."""
    model = tempcnn("cpu")
    flat, q, dq = (node(model, name) for name in ("flat", "flat.q", "flat.dq"))
    for each in (flat, q, dq):
        model.graph.node.remove(each)
    q.input[0], flat.input[0] = "relu2", "flat.dq"
    if operator == "Flatten":
        flat.op_type = "Flatten"
        del flat.input[1:]
    insert(model, "dense", q, dq, flat)
    node(model, "dense").input[0] = "flat"
    return model


def gemm_at_the_end(bias: str) -> onnx.ModelProto:
    net = Net("cpu")
    net.add("Reshape", ["optical", net.store("shape", [0, -1])], "flat")
    net.layer("Gemm", net.pair("flat", signed=True), "head", (CLASSES, TIMES * BANDS), int8=True)
    if bias == "float":
        net.nodes[-1].input[2] = "head.bias"
        net.nodes = [each for each in net.nodes if each.name != "head.bias.dq"]
    net.add("Softmax", ["head"], "prediction", axis=-1)
    return net.model("prediction")


def run(model: onnx.ModelProto, data: np.ndarray, level: object = None) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    if level is not None:
        options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"optical": data})[0]
