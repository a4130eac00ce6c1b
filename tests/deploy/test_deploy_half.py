"""FP16 in the graph: which part, which codes, and how far from FP32 it is in ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from qdq_graphs import BANDS, TIMES, concat, node, residual, store, tempcnn

from edge.deploy.half import SMALLEST_SCALE, half_graph
from edge.errors import InputError


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """As it stands: ONNX Runtime's own rewriting is off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"optical": x})[0]


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def logits(make, *arguments) -> onnx.ModelProto:
    """The graph without its softmax, which hides differences."""
    model = make(*arguments)
    model.graph.output[0].name = model.graph.node[-1].input[0]
    del model.graph.node[-1]
    return model


X = np.random.default_rng(0).normal(size=(64, TIMES, BANDS)).astype(np.float32)


def test_a_float_graph_differs_by_the_digits_of_fp16():
    model = logits(tempcnn, "float")
    wanted, found = run(model, X), run(half_graph(model), X)
    assert found.dtype == np.float32
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert 1e-5 < error < 2e-3  # it is FP16, and it is right


@pytest.mark.parametrize("make", [tempcnn, residual, concat])
def test_a_quantized_graph_stays_within_a_step_of_its_integers(make):
    model = logits(make)
    half = half_graph(model)
    assert half.opset_import[0].version == 19
    wanted, found = run(model, X), run(half, X)
    assert np.sqrt(np.mean((found - wanted) ** 2)) < np.abs(wanted).max() / 127


def test_weights_keep_the_codes_that_fp32_gives_and_stand_behind_a_dequantizer_alone():
    model = tempcnn()
    before, half = initializers(model), initializers(half_graph(model))
    scale = before["conv2.weight.scale"].reshape(-1, 1, 1)
    np.testing.assert_array_equal(half["conv2.weight.q"], np.rint(before["conv2.weight"] / scale).astype(np.int8))
    assert half["conv2.weight.scale.half"].dtype == np.float16
    assert "conv2.weight" not in half
    nodes = {each.name: each for each in half_graph(model).graph.node}
    assert "conv2.weight.q" not in nodes
    assert "conv2.weight.dq" in nodes


def test_what_stands_before_the_first_and_behind_the_last_layer_stays_fp32():
    half = half_graph(tempcnn())
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(half).graph.value_info
    }
    assert types["bands"] == TensorProto.FLOAT
    assert types["conv1"] == types["relu2"] == types["dense"] == TensorProto.FLOAT16
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    casts = [(each.input[0], each.output[0]) for each in half.graph.node if each.op_type == "Cast"]
    assert casts == [("bands", "bands.half"), ("head.half", "head")]


def test_values_beyond_fp16_in_front_of_the_first_layer_do_no_harm():
    """Raw sensor values, normalised inside the graph."""
    model = tempcnn("float")
    scaled = helper.make_node("Mul", ["optical", "gain"], ["reflectance"], "reflectance")
    store(model, "gain", np.float32(1e-5))
    nodes = [scaled, *model.graph.node]
    node(model, "bands").input[0] = "reflectance"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    raw = X * 1e5
    assert np.isfinite(run(half_graph(model), raw)).all()
    np.testing.assert_allclose(run(half_graph(model), raw), run(model, raw), atol=2e-3)


def test_a_scale_that_fp16_cannot_tell_from_zero_is_raised_and_its_codes_with_it():
    model = tempcnn()
    dead = np.abs(initializers(model)["conv2.weight.scale"])
    dead[3] = 1e-9
    store(model, "conv2.weight.scale", dead)
    weight = initializers(model)["conv2.weight"].copy()
    weight[3] = 1e-8
    store(model, "conv2.weight", weight)
    half = initializers(half_graph(model))
    assert half["conv2.weight.scale.half"][3] == SMALLEST_SCALE > 0
    assert not half["conv2.weight.q"][3].any()
    assert np.isfinite(run(half_graph(model), X)).all()


def test_a_weight_beyond_fp16_is_refused_by_name():
    model = tempcnn("float")
    weight = initializers(model)["conv2.weight"].copy()
    weight[0] = 1e6
    store(model, "conv2.weight", weight)
    with pytest.raises(InputError, match=r"conv2\.weight holds 1e\+06, which FP16 \(up to 65504\) cannot hold"):
        half_graph(model)


def test_the_graph_that_is_given_is_left_alone_and_so_is_its_metadata():
    model = tempcnn()
    helper.set_model_props(model, {"edge.float_parts": "[]"})
    before = model.SerializeToString()
    half = half_graph(model)
    assert model.SerializeToString() == before
    assert half.metadata_props[0].key == "edge.float_parts"


def test_a_graph_without_a_layer_has_no_fp16_form():
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("optical", "prediction")]
    graph = helper.make_graph([helper.make_node("Relu", ["optical"], ["prediction"])], "student", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(InputError, match="no layer with weights"):
        half_graph(model)
