import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from edge.compress.compression import as_on
from edge.compress.export import export
from edge.compress.fold import DeployedStudent, FoldedStudent
from edge.compress.graphs import fp32_graph, int8_graphs
from edge.compress.placement import PLACEMENTS, Placement, activation_step, place
from edge.compress.quantize import LayerRange, layer_ranges, quantize
from edge.deploy import builder_tensorrt
from edge.deploy.rules_onnxruntime import check_fused
from edge.deploy.rules_tensorrt import check_tensorrt
from edge.errors import BackendMissing
from edge.recipe import Model
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.model import Branch
from edge.train.scaling import Scaling
from edge.train.training import to_units

TARGETS = ("cpu", "tensorrt")


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (prediction,) = session.run(["prediction"], {model.graph.input[0].name: x})
    return prediction


def arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def layer(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """The Conv or Gemm called `name`."""
    return next(
        node for node in model.graph.node if node.name.startswith(f"{name}.") and node.op_type in ("Conv", "Gemm")
    )


def producer(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto | None:
    return next((node for node in model.graph.node if tensor in node.output), None)


@pytest.fixture(params=["optical", "sar"])
def modality(request) -> str:
    return request.param


@pytest.fixture
def graphs(case, modality) -> dict[str, onnx.ModelProto]:
    return int8_graphs(case.trained, case.compressed, modality)


@pytest.fixture(scope="session")
def wide() -> dict[str, onnx.ModelProto]:
    """A student of the real width, FP32 and both INT8 graphs; random weights, for files and kernels."""
    torch.manual_seed(0)
    optical = Modality("optical", tuple(Band(f"b{i}") for i in range(12)), ("time", "band"), (12, 12))
    task = Task("binary", "crop", ("no", "yes"))
    student = FoldedStudent(Branch(optical, task, Model()).eval())
    x = torch.randn(64, 12, 12)
    ranges = layer_ranges(quantize(student, [x]), x[:1])
    scaling = Scaling(np.zeros((1, 12), np.float32), np.ones((1, 12), np.float32))
    fp32 = export(DeployedStudent(student), optical, task, scaling, (0.0, 1.0))
    return {"fp32": fp32, **{target: place(fp32, ranges, target) for target in TARGETS}}


def test_onnx_runtime_fuses_every_quantized_layer(graphs) -> None:
    assert check_fused(graphs["int8.cpu"]) == []


def test_the_tensorrt_graph_breaks_no_rule(graphs) -> None:
    assert check_tensorrt(graphs["int8.tensorrt"]) == []


@pytest.mark.parametrize("name", ["soil"])
def test_a_vector_student_fuses_and_breaks_no_rule(three, name) -> None:
    graphs = int8_graphs(three.trained, three.compressed, name)
    assert check_fused(graphs["int8.cpu"]) == []
    assert check_tensorrt(graphs["int8.tensorrt"]) == []


def test_students_of_the_real_width_fuse_and_break_no_rule(wide) -> None:
    assert check_fused(wide["cpu"]) == []
    assert check_tensorrt(wide["tensorrt"]) == []


def test_nvidias_builder_makes_a_plan_of_the_tensorrt_graph(two, tmp_path: Path) -> None:
    path = tmp_path / "int8.tensorrt.onnx"
    onnx.save(int8_graphs(two.trained, two.compressed, "optical")["int8.tensorrt"], path)
    try:
        result = builder_tensorrt.build(path, builder_tensorrt.Options("int8"))
    except BackendMissing as missing:
        pytest.skip(missing.message)
    assert len(result.plan) > 10_000
    assert result.warnings == ()


@pytest.mark.parametrize("target", TARGETS)
def test_both_graphs_predict_what_the_fake_quantized_student_predicts(case, modality, target) -> None:
    here = case.data.present(modality)
    z = case.samples.inputs[modality][torch.tensor(here)]
    student, ranges = case.student(modality), case.compressed.ranges[modality]
    with torch.no_grad(), as_on(student, z[:1], ranges, target):
        live = to_units(case.data.task, student(z)[0], case.trained.target_scaling).numpy()
    graph = int8_graphs(case.trained, case.compressed, modality)[f"int8.{target}"]
    found = run(graph, np.array(case.data.arrays[modality][here]))
    if case.data.task.kind == "regression":
        assert np.sqrt(np.mean((found - live) ** 2)) <= 0.02 * case.data.target.std()
    else:
        assert np.mean(found.argmax(1) == live.argmax(1)) >= 0.99
        assert np.abs(found - live).mean() < 0.01


def test_the_tensorrt_graph_computes_the_fake_quantized_numbers(two, modality) -> None:
    """Same steps, same zero points: but for ties in rounding there is no difference at all."""
    here = two.data.present(modality)
    z = two.samples.inputs[modality][torch.tensor(here)]
    student = two.student(modality)
    with torch.no_grad(), as_on(student, z[:1], two.compressed.ranges[modality], "tensorrt"):
        live = student(z)[0].softmax(1).numpy()
    graph = int8_graphs(two.trained, two.compressed, modality)["int8.tensorrt"]
    difference = np.abs(run(graph, np.array(two.data.arrays[modality][here])) - live).max(axis=1)
    assert np.median(difference) < 1e-5
    assert difference.max() < 0.05


def test_cpu_keeps_int8_weights_and_int32_biases(wide) -> None:
    stored = arrays(wide["cpu"])
    for name in ("specific.conv1", "specific.conv2", "specific.dense", "shared.dense", "to_shared.project"):
        node = layer(wide["cpu"], name)
        data, weight, bias = (producer(wide["cpu"], tensor) for tensor in node.input)
        assert {pair.op_type for pair in (data, weight, bias)} == {"DequantizeLinear"}
        assert stored[weight.input[0]].dtype == np.int8
        assert stored[weight.input[2]] == 0
        assert np.abs(stored[weight.input[0]].astype(int)).max() == 127  # the range ends at the largest weight
        assert stored[bias.input[0]].dtype == np.int32
        assert stored[bias.input[1]] == pytest.approx(stored[data.input[1]] * stored[weight.input[1]], rel=1e-6)
        assert stored[data.input[2]].dtype == np.uint8
        assert f"{name}.weight" not in stored
    assert stored["head.weight"].dtype == np.float32


def test_cpu_uses_all_steps_of_uint8_for_what_is_behind_a_relu(wide) -> None:
    stored = arrays(wide["cpu"])
    first, second = (producer(wide["cpu"], layer(wide["cpu"], f"specific.conv{i}").input[0]) for i in (1, 2))
    assert (stored[first.input[2]], stored[second.input[2]]) == (128, 0)
    assert "Relu" not in {node.op_type for node in wide["cpu"].graph.node}


def test_the_int8_file_has_at_most_thirty_percent_of_the_float_file(wide) -> None:
    assert wide["cpu"].ByteSize() <= 0.30 * wide["fp32"].ByteSize()


def test_tensorrt_keeps_float_weights_with_their_own_pair_and_float_biases(wide) -> None:
    stored = arrays(wide["tensorrt"])
    node = layer(wide["tensorrt"], "shared.conv2")
    data, weight = (producer(wide["tensorrt"], tensor) for tensor in node.input[:2])
    quantizer = producer(wide["tensorrt"], weight.input[0])
    assert [pair.op_type for pair in (data, weight, quantizer)] == [
        "DequantizeLinear",
        "DequantizeLinear",
        "QuantizeLinear",
    ]
    assert quantizer.input[0] == "shared.conv2.weight"
    assert stored["shared.conv2.weight"].dtype == stored[node.input[2]].dtype == np.float32
    zero_points = [stored[pair.input[2]] for pair in wide["tensorrt"].graph.node if "quantize" in pair.op_type.lower()]
    assert all(value.dtype == np.int8 and value == 0 for value in zero_points)


def test_tensorrt_leaves_convolutions_with_few_channels_alone(wide) -> None:
    for name in ("specific.conv1", "shared.conv1"):  # 12 bands
        node = layer(wide["tensorrt"], name)
        assert node.input[1] == f"{name}.weight"
        assert producer(wide["tensorrt"], node.input[0]).op_type == "Transpose"
    assert producer(wide["cpu"], layer(wide["cpu"], "specific.conv1").input[0]).op_type == "DequantizeLinear"


def test_one_quantizer_serves_all_readers_of_a_tensor(wide) -> None:
    sources = [node.input[0] for node in wide["cpu"].graph.node if node.op_type == "QuantizeLinear"]
    assert len(sources) == len(set(sources)) == 6  # the input, conv1 and conv2 of two encoders, and shared.dense
    assert sum(node.op_type == "Transpose" and "channels_first" in node.name for node in wide["cpu"].graph.node) == 1


def test_on_a_cpu_sensor_values_are_transposed_before_they_are_quantized_and_features_behind_it(wide) -> None:
    """OpenVINO computes a convolution behind a transpose of integers in float."""
    kinds = {}
    for node in wide["cpu"].graph.node:
        if node.op_type == "Transpose":
            source = producer(wide["cpu"], node.input[0])
            kinds[node.name.split(".")[1]] = source.op_type
    assert kinds == {"channels_first": "Where", "flatten": "QuantizeLinear"}


def test_placing_leaves_the_float_graph_as_it_was(two) -> None:
    graph = fp32_graph(two.trained, "sar")
    before = graph.SerializeToString()
    for target in TARGETS:
        place(graph, two.compressed.ranges["sar"], target)
    assert graph.SerializeToString() == before


def test_flattening_channels_last_is_exact(two, monkeypatch) -> None:
    graph, ranges = fp32_graph(two.trained, "optical"), two.compressed.ranges["optical"]
    x = np.array(two.data.arrays["optical"])
    last = place(graph, ranges, "cpu")
    monkeypatch.setitem(PLACEMENTS, "cpu", dataclasses.replace(PLACEMENTS["cpu"], channels_last=False))
    first = place(graph, ranges, "cpu")
    assert sum(node.op_type == "Transpose" for node in first.graph.node) < sum(
        node.op_type == "Transpose" for node in last.graph.node
    )
    np.testing.assert_array_equal(run(last, x), run(first, x))


@pytest.mark.parametrize(
    ("limits", "kind", "expected"),
    [
        (LayerRange(6.0, True, 1.0), "uint8", (6 / 255, 0, np.uint8)),
        (LayerRange(6.0, False, 1.0), "uint8", (6 / 127, 128, np.uint8)),
        (LayerRange(6.0, True, 1.0), "int8", (6 / 127, 0, np.int8)),
        (LayerRange(6.0, False, 1.0), "int8", (6 / 127, 0, np.int8)),
    ],
)
def test_the_steps_of_an_activation(limits: LayerRange, kind: str, expected: tuple) -> None:
    step = activation_step(limits, dataclasses.replace(PLACEMENTS["cpu"], activations=kind))
    assert (step.scale, step.zero_point, step.kind) == (pytest.approx(expected[0]), *expected[1:])


@pytest.mark.parametrize("target", TARGETS)
def test_a_range_whose_layer_is_not_in_the_graph_is_an_error(two, target) -> None:
    ranges = {**two.compressed.ranges["sar"], "specific.conv9": LayerRange(1.0, True, 1.0)}
    with pytest.raises(ValueError, match=r"'specific\.conv9' has a trained range but no node"):
        place(fp32_graph(two.trained, "sar"), ranges, target)


def test_two_different_ranges_on_one_tensor_are_an_error(two) -> None:
    ranges = dict(two.compressed.ranges["sar"])
    ranges["shared.conv1"] = dataclasses.replace(
        ranges["shared.conv1"], input_limit=3 * ranges["shared.conv1"].input_limit
    )
    with pytest.raises(ValueError, match="two trained ranges"):
        place(fp32_graph(two.trained, "sar"), ranges, "cpu")


def test_an_unknown_target_is_an_error(two) -> None:
    with pytest.raises(KeyError):
        place(fp32_graph(two.trained, "sar"), two.compressed.ranges["sar"], "abacus")
    assert all(isinstance(placement, Placement) for placement in PLACEMENTS.values())
