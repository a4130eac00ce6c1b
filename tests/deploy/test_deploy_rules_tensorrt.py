"""Each rule finds the graph that breaks it, no other rule does, and good graphs pass."""

import math
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from qdq_graphs import CHANNELS, CLASSES, TIMES, concat, insert, insert_pair, node, residual, store, tempcnn

from edge.deploy.rules_tensorrt import RULES, check_tensorrt, worth_int8
from edge.deploy.sparsity import declare
from edge.errors import BackendMissing, InputError


@pytest.mark.parametrize("make", [tempcnn, residual, concat])
def test_a_good_graph_has_no_finding(make):
    assert check_tensorrt(make()) == []


def test_a_good_graph_is_read_from_its_file(tmp_path):
    onnx.save(tempcnn(), tmp_path / "model.onnx")
    assert check_tensorrt(tmp_path / "model.onnx") == []


def test_weights_stored_as_int8_with_a_dq_only_are_good_too():
    model = tempcnn()
    weight_as_int8(model, "conv2")
    assert check_tensorrt(model) == []


def test_integers_may_be_moved_between_q_and_dq():
    model = tempcnn()
    q, dq = node(model, "flat.q"), node(model, "flat.dq")
    q.input[0], dq.input[0] = "relu2", "moved"  # Q -> Reshape -> DQ
    reshape = node(model, "flat")
    model.graph.node.remove(reshape)
    insert(model, "flat.dq", helper.make_node("Reshape", ["flat.q", "shape"], ["moved"], "moved"))
    assert check_tensorrt(model) == []


def test_matmul_weights_are_per_channel_on_their_last_axis():
    model = tempcnn()
    dense_as_matmul(model, axis=1)
    assert check_tensorrt(model) == []
    dense_as_matmul(wrong := tempcnn(), axis=0)
    assert broken_rules(wrong) == {"R4"}


def broken_rules(model: onnx.ModelProto) -> set[str]:
    findings = check_tensorrt(model)
    assert all(finding.node and finding.problem and finding.fix for finding in findings)
    return {finding.rule for finding in findings}


# One graph per way to break a rule: (rule, node that is named, how).


def zero_point_not_zero(model):
    store(model, "relu1.zero", np.int8(3))


def zero_point_computed(model):
    constant = helper.make_node("Squeeze", [store(model, "zeros", np.zeros(1, np.int8))], ["computed"], "computed")
    insert(model, "relu1.q", constant)
    node(model, "relu1.q").input[2] = "computed"


def scale_zero(model):
    store(model, "relu1.scale", np.float32(0))


def scale_infinite(model):
    store(model, "conv2.weight.scale", np.full(CHANNELS, math.inf, np.float32))


def uint8(model):
    store(model, "relu1.zero", np.uint8(0))


def no_zero_point(model):
    q, dq = node(model, "relu1.q"), node(model, "relu1.dq")
    del q.input[2:], dq.input[2:]  # which means uint8


def activation_per_channel(model):
    store(model, "relu1.scale", np.full(CHANNELS, 0.02, np.float32))
    store(model, "relu1.zero", np.zeros(CHANNELS, np.int8))


def weight_on_the_input_axis(model):
    for name in ("conv2.weight.q", "conv2.weight.dq"):
        node(model, name).attribute[0].i = 1


def weight_not_quantized(model):
    node(model, "conv2").input[1] = "conv2.weight"
    for name in ("conv2.weight.q", "conv2.weight.dq"):
        model.graph.node.remove(node(model, name))


def data_not_quantized(model):
    node(model, "conv2").input[0] = "relu1"
    for name in ("relu1.q", "relu1.dq"):
        model.graph.node.remove(node(model, name))


def bias_in_int32(model):
    store(model, "bias.q", np.ones(CHANNELS, np.int32))
    store(model, "bias.scale", np.full(CHANNELS, 0.001, np.float32))
    insert(model, "conv2", helper.make_node("DequantizeLinear", ["bias.q", "bias.scale"], ["bias"], "bias.dq", axis=0))
    node(model, "conv2").input[2] = "bias"


def bias_in_int8(model):
    insert_pair(model, "conv2", 2)


def pair_before_relu(model):
    insert_pair(model, "relu2", 0)


def pair_on_the_output(model):
    node(model, "prediction").output[0] = "probabilities"
    step = [store(model, "out.scale", np.float32(1 / 127)), store(model, "out.zero", np.int8(0))]
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["probabilities", *step], ["out.q"], "out.q"),
            helper.make_node("DequantizeLinear", ["out.q", *step], ["prediction"], "out.dq"),
        ]
    )


def scales_differ_in_a_pair(model):
    node(model, "relu1.dq").input[1] = store(model, "other.scale", np.float32(0.5))


def bias_add_reads_quantized_data(model):
    shift = store(model, "shift", np.ones((1, CHANNELS, 1), np.float32))
    insert(model, "relu1.q", helper.make_node("Add", ["relu1", shift], ["shifted"], "shifted"))
    insert_pair(model, "shifted", 0)
    node(model, "relu1.q").input[0] = "shifted"


def batch_norm(model):
    ones = [store(model, f"norm.{index}", np.ones(CHANNELS, np.float32)) for index in range(4)]
    insert(model, "relu2", helper.make_node("BatchNormalization", ["conv2", *ones], ["norm"], "norm"))
    node(model, "relu2").input[0] = "norm"


def softmax_on_quantized_data(model):
    insert_pair(model, "prediction", 0)


def head_quantized(model):
    """The head of a net with 16 classes: wide enough, but the last layer."""
    store(model, "head.weight", np.ones((16, 32), np.float32))
    store(model, "head.bias", np.zeros(16, np.float32))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 16
    insert_pair(model, "head", 0)
    quantize_weight(model, "head", 16)


def first_layer_quantized(model):
    insert_pair(model, "conv1", 0)
    quantize_weight(model, "conv1", CHANNELS)


def opset_21(model):
    model.opset_import[0].version = 21


def opset_12(model):
    """Without Q/DQ: opset 12 has no scales per channel."""
    model.CopyFrom(tempcnn("float"))
    model.opset_import[0].version = 12


def scale_computed(model):
    store(model, "scales", np.full(1, 0.02, np.float32))
    store(model, "no axes", np.array([0]))
    insert(model, "relu1.q", helper.make_node("Squeeze", ["scales", "no axes"], ["scale"], "scale"))
    for name in ("relu1.q", "relu1.dq"):
        node(model, name).input[1] = "scale"


def scalar_quantized(model):
    """The mean of all values, added to each of them."""
    insert(
        model,
        "relu1.q",
        helper.make_node("ReduceMean", ["relu1"], ["mean"], "mean", keepdims=0),
        helper.make_node("Add", ["relu1", "mean"], ["sum"], "sum"),
    )
    insert_pair(model, "sum", 1)
    node(model, "relu1.q").input[0] = "sum"


def times_free(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "times"


def foreign_operator(model):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    insert(model, "prediction", helper.make_node("QuickGelu", ["head"], ["gelu"], "gelu", domain="com.microsoft"))
    node(model, "prediction").input[0] = "gelu"


def control_flow(model):
    value = helper.make_tensor_value_info("branch", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Neg", ["head"], ["branch"])], "branch", [], [value])
    store(model, "condition", np.array(True))
    insert(
        model, "prediction", helper.make_node("If", ["condition"], ["if"], "if", then_branch=branch, else_branch=branch)
    )
    node(model, "prediction").input[0] = "if"


def identity(model):
    insert(model, "relu2", helper.make_node("Identity", ["conv2"], ["same"], "same"))
    node(model, "relu2").input[0] = "same"


def dropout(model):
    insert(model, "head", helper.make_node("Dropout", ["relu3"], ["dropped"], "dropped"))
    node(model, "head").input[0] = "dropped"


def fake_quantize(model):
    model.opset_import.append(helper.make_opsetid("org.openvinotoolkit", 1))
    fake = helper.make_node("FakeQuantize", ["head"], ["fake"], "fake", domain="org.openvinotoolkit")
    insert(model, "prediction", fake)
    node(model, "prediction").input[0] = "fake"


def nan_weight(model):
    store(model, "head.bias", np.full(CLASSES, math.nan, np.float32))


def not_sorted(model):
    model.graph.node.append(helper.make_node("Relu", ["missing"], ["nothing"], "nothing"))


def external_data(model):
    tensor = next(each for each in model.graph.initializer if each.name == "head.bias")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def declared_sparse_and_dense(model):
    declare(model, ("conv2",))


BROKEN = [
    ("R1", "relu1.q", tempcnn, zero_point_not_zero),
    ("R1", "relu1.q", tempcnn, zero_point_computed),
    ("R1", "relu1.dq", tempcnn, scale_zero),
    ("R1", "conv2.weight.q", tempcnn, scale_infinite),
    ("R2", "relu1.q", tempcnn, uint8),
    ("R2", "relu1.q", tempcnn, no_zero_point),
    ("R3", "relu1.q", tempcnn, activation_per_channel),
    ("R4", "conv2.weight.dq", tempcnn, weight_on_the_input_axis),
    ("R5", "conv2", tempcnn, weight_not_quantized),
    ("R5", "conv2", tempcnn, data_not_quantized),
    ("R6", "bias.dq", tempcnn, bias_in_int32),
    ("R6", "conv2.new.dq", tempcnn, bias_in_int8),
    ("R7", "relu2.new.dq", tempcnn, pair_before_relu),
    ("R7", "out.dq", tempcnn, pair_on_the_output),
    ("R7", "relu1.dq", tempcnn, scales_differ_in_a_pair),
    ("R7", "shifted.new.dq", tempcnn, bias_add_reads_quantized_data),
    ("R8", "sum.new.q", residual, lambda model: insert_pair(model, "sum", 0)),
    ("R9", "both", concat, lambda model: store(model, "relu_conv2.scale", np.float32(0.5))),
    ("R10", "norm", tempcnn, batch_norm),
    ("R11", "prediction", tempcnn, softmax_on_quantized_data),
    ("R11", "head", tempcnn, head_quantized),
    ("R11", "conv1", tempcnn, first_layer_quantized),
    ("R15", "opset_import", tempcnn, opset_21),
    ("R15", "opset_import", tempcnn, opset_12),
    ("R16", "relu1.q", tempcnn, scale_computed),
    ("R16", "sum.new.q", tempcnn, scalar_quantized),
    ("R19", "optical", tempcnn, times_free),
    ("domain", "gelu", tempcnn, foreign_operator),
    ("sparse", "conv2", tempcnn, declared_sparse_and_dense),
    ("domain", "if", tempcnn, control_flow),
    ("leftovers", "same", tempcnn, identity),
    ("leftovers", "dropped", tempcnn, dropout),
    ("leftovers", "fake", tempcnn, fake_quantize),
    ("finite", "head.bias", tempcnn, nan_weight),
    ("checker", "student", tempcnn, not_sorted),
    ("external", "head.bias", tempcnn, external_data),
]


@pytest.mark.parametrize(
    ("rule", "name", "make", "harm"), BROKEN, ids=[f"{r}-{n}-{h.__name__}" for r, n, _, h in BROKEN]
)
def test_a_broken_graph_is_found_by_its_rule_alone(rule, name, make, harm):
    model = make()
    harm(model)
    assert broken_rules(model) == {rule}
    assert name in {finding.node for finding in check_tensorrt(model)}


def test_every_rule_with_a_check_has_a_broken_graph():
    tried = {rule for rule, *_ in BROKEN} | {"R12"}  # R12 has tests of its own
    assert tried == {rule.id for rule in RULES if rule.check is not None}


def test_rules_of_the_builder_are_listed_as_not_checked_here():
    assert {rule.id: rule.applies_to for rule in RULES if rule.check is None} == {
        "R13": "fp16", "R14": "fp16", "R17": "build", "R18": "measurement", "R20": "measurement",
    }  # fmt: skip
    assert all(rule.applies_to == "graph" for rule in RULES if rule.check is not None)
    assert [rule.id for rule in RULES if rule.id[0] == "R"] == [f"R{number}" for number in range(1, 21)]


def test_a_norm_behind_an_int8_convolution_wants_a_pair_and_may_have_one():
    assert broken_rules(with_layer_norm()) == {"R12"}
    model = with_layer_norm()
    insert_pair(model, "norm", 0)
    assert check_tensorrt(model) == []


def with_layer_norm() -> onnx.ModelProto:
    model = tempcnn()
    weights = [store(model, f"norm.{index}", np.ones(TIMES, np.float32)) for index in range(2)]
    insert(model, "relu2", helper.make_node("LayerNormalization", ["conv2", *weights], ["norm"], "norm"))
    node(model, "relu2").input[0] = "norm"
    return model


def test_a_quantized_shortcut_with_a_convolution_is_the_residual_branch():
    """A shortcut with a projection: of two convolution branches the shorter one carries the pair."""
    model = residual()
    weight = store(model, "projection.weight", np.ones((CHANNELS, CHANNELS, 1), np.float32))
    insert(model, "sum", helper.make_node("Conv", ["relu1", weight], ["projection"], "projection"))
    node(model, "sum").input[1] = "projection"
    insert_pair(model, "sum", 1)
    assert check_tensorrt(model) == []
    insert_pair(wrong := residual(), "sum", 0)
    assert "conv3" in str(check_tensorrt(wrong)[0])


def test_a_transposed_convolution_takes_scales_on_axis_1_and_one_scale_with_groups():
    assert check_tensorrt(transposed_convolution(axis=1)) == []
    assert broken_rules(transposed_convolution(axis=0)) == {"R4"}
    assert broken_rules(transposed_convolution(axis=1, group=2)) == {"R4"}


def transposed_convolution(axis: int, group: int = 1) -> onnx.ModelProto:
    """conv2 as ConvTranspose [in, out / groups, k]."""
    model = tempcnn()
    layer = node(model, "conv2")
    layer.op_type = "ConvTranspose"
    layer.attribute.append(helper.make_attribute("group", group))
    store(model, "conv2.weight", np.ones((CHANNELS, CHANNELS // group, 5), np.float32))
    size = (CHANNELS, CHANNELS // group)[axis]
    store(model, "conv2.weight.scale", np.full(size, 0.1, np.float32))
    store(model, "conv2.weight.zero", np.zeros(size, np.int8))
    for name in ("conv2.weight.q", "conv2.weight.dq"):
        node(model, name).attribute[0].i = axis
    return model


@pytest.mark.parametrize(
    ("operator", "shape", "worth"),
    [
        ("Conv", (128, 128, 5), True),
        ("Conv", (128, 12, 5), False),  # optical, 12 bands
        ("Conv", (128, 8, 5), True),  # a multiple of 8
        ("Conv", (128, 2, 5), False),  # SAR
        ("Conv", (8, 8, 3, 3), True),
        ("Conv", (8, 12, 3, 3), False),
        ("Conv", (16, 16, 1), True),
        ("ConvTranspose", (16, 4, 2, 2), False),
        ("Gemm", (512, 1536), True),
        ("Gemm", (8, 512), False),  # no exception for multiples of 8
        ("Gemm", (16, 16), True),
        ("MatMul", (512, 15), False),
        ("MatMul", (1, 4, 0, 64), True),  # two activations, the batch of keys is free
    ],
)
def test_small_layers_are_not_worth_int8(operator, shape, worth):
    assert worth_int8(operator, shape) is worth


@pytest.mark.parametrize(
    ("shape", "groups", "worth"),
    [
        ((96, 1, 5, 5), 96, True),
        ((12, 1, 3, 3), 12, False),  # no multiple of 8
        ((96, 1, 1, 1), 96, False),  # fewer than 3 taps
        ((96, 1, 3, 1), 96, False),
        ((64, 32, 1, 1), 2, True),  # wide groups are judged as any convolution
    ],
)
def test_depthwise_layers_have_limits_of_their_own(shape, groups, worth):
    assert worth_int8("Conv", shape, groups) is worth


def test_the_groups_of_a_convolution_are_read_from_its_node():
    model = tempcnn()
    layer = node(model, "conv2")
    layer.attribute.append(helper.make_attribute("group", CHANNELS))
    store(model, "conv2.weight", np.ones((CHANNELS, 1, 5), np.float32))
    assert check_tensorrt(model) == []
    next(each for each in layer.attribute if each.name == "pads").ints[:] = [0, 0]
    store(model, "conv2.weight", np.ones((CHANNELS, 1, 1), np.float32))
    assert broken_rules(model) == {"R11"}


def test_a_file_that_is_no_onnx_is_an_input_error(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match="not an ONNX file"):
        check_tensorrt(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(
        bytes([7 << 3 | 2, 5, 5 << 3 | 2, 3, 1 << 3 | 2, 1, 0x80])
    )  # half a dimension
    with pytest.raises(InputError, match="not an ONNX file"):
        check_tensorrt(tmp_path / "model.onnx")
    with pytest.raises(InputError, match="not a file"):
        check_tensorrt(tmp_path / "missing.onnx")


def test_without_onnx_the_line_that_installs_it_is_given(tmp_path, monkeypatch):
    onnx.save(tempcnn(), tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendMissing, match="pip install"):
        check_tensorrt(tmp_path / "model.onnx")


def quantize_weight(model: onnx.ModelProto, layer: str, channels: int) -> None:
    step = [
        store(model, f"{layer}.weight.scale", np.full(channels, 0.01, np.float32)),
        store(model, f"{layer}.weight.zero", np.zeros(channels, np.int8)),
    ]
    names = [f"{layer}.weight.q", f"{layer}.weight.dq"]
    insert(
        model,
        layer,
        helper.make_node("QuantizeLinear", [f"{layer}.weight", *step], names[:1], names[0], axis=0),
        helper.make_node("DequantizeLinear", [names[0], *step], names[1:], names[1], axis=0),
    )
    node(model, layer).input[1] = names[1]


def weight_as_int8(model: onnx.ModelProto, layer: str) -> None:
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scale = values[f"{layer}.weight.scale"].reshape(-1, 1, 1)
    store(model, "stored", np.rint(values[f"{layer}.weight"] / scale).astype(np.int8))
    model.graph.node.remove(node(model, f"{layer}.weight.q"))
    node(model, f"{layer}.weight.dq").input[0] = "stored"


def dense_as_matmul(model: onnx.ModelProto, axis: int) -> None:
    """dense as MatMul with its weight as [in, out] and scales on `axis`."""
    layer = node(model, "dense")
    layer.op_type = "MatMul"
    del layer.attribute[:], layer.input[2:]
    shape = (CHANNELS * TIMES, 32)
    store(model, "dense.weight", np.ones(shape, np.float32))
    store(model, "dense.weight.scale", np.full(shape[axis], 0.1, np.float32))
    store(model, "dense.weight.zero", np.zeros(shape[axis], np.int8))
    for name in ("dense.weight.q", "dense.weight.dq"):
        node(model, name).attribute[0].i = axis
