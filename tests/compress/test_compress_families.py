"""Every family from torch to both engines: exact folding, FP32 and INT8 graphs, placement, NVIDIA's builder.

Small untrained students whose batch norms have seen data; the image backbones have a few blocks of each kind, and in
full size under the mark `slow`. Torch is on one side of each comparison and ONNX Runtime on the other.
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edge.compress.compression import as_on
from edge.compress.export import export
from edge.compress.fold import DeployedStudent, FoldedStudent, cost
from edge.compress.placement import PLACEMENTS, place
from edge.compress.quantize import (
    SMALLEST_FILTER,
    InputRange,
    LayerRange,
    layer_quantizers,
    layer_ranges,
    quantize,
    range_from_json,
)
from edge.deploy import builder_tensorrt
from edge.deploy.onnx_graph import FLOAT_PARTS
from edge.deploy.rules_onnxruntime import check_fused
from edge.deploy.rules_tensorrt import check_tensorrt
from edge.errors import BackendMissing
from edge.recipe import Model
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.encoders import FAMILIES, mobilenet, resnet
from edge.train.model import Branch
from edge.train.scaling import Scaling

TASK = Task("regression", "height", unit="m")
TARGETS = ("cpu", "tensorrt")
DIMS = {"vector": ("band",), "series": ("time", "band"), "image": ("band", "y", "x")}
SHAPES = {
    "tempcnn": ("series", (6, 16)), "ltae": ("series", (6, 16)), "transformer": ("series", (6, 16)),
    "gru": ("series", (6, 16)), "mlp": ("vector", (16,)), "mobilenet": ("image", (3, 16, 16)),
    "resnet18": ("image", (3, 32, 32)), "resnet50": ("image", (3, 32, 32)), "patch": ("image", (20, 7, 7)),
    "patch_blocks": ("image", (3, 30, 30)),
}  # fmt: skip
INT8 = [name for name in SHAPES if name != "gru"]
ALL_INTEGERS = [name for name in INT8 if name not in ("ltae", "transformer")]
SCALES = re.compile(r"Converting conv \w+ scales to fp32")  # what TensorRT-RTX says of FP16 scales of a depthwise conv
FULL = [pytest.param(f"{name}-full", marks=pytest.mark.slow) for name in ("mobilenet", "resnet18", "resnet50")]


@dataclass
class Student:
    """A folded student, its fake-quantized copy with ranges, its graphs, and samples."""

    modality: Modality
    branch: Branch
    folded: FoldedStudent
    live: nn.Module
    ranges: dict[str, InputRange]
    fp32: onnx.ModelProto
    x: Tensor

    def graph(self, target: str) -> onnx.ModelProto:
        return place(self.fp32, self.ranges, target)

    def predict(self, target: str) -> np.ndarray:
        """The fake-quantized predictions, rounded as on `target`."""
        with torch.no_grad(), as_on(self.live, self.x[:1], self.ranges, target):
            return self.live(self.x)[0].numpy()


def make(name: str) -> Student:
    kind, shape = SHAPES[name]
    modality = Modality(name, tuple(Band(f"b{i}") for i in range(shape[DIMS[kind].index("band")])), DIMS[kind], shape)
    torch.manual_seed(0)
    width = 64 if name.startswith(("resnet", "mobilenet")) else 32
    branch = Branch(
        modality, TASK, Model(width=width, hidden=32, embedding=32, dropout=0, encoder=name.partition("_")[0])
    )
    level = torch.randn(48, *[1] * len(shape))  # samples differ in more than noise, as scenes do
    x = level + 0.3 * torch.randn(48, *shape)
    branch.head.weight.data.normal_()
    see(branch, x)
    folded = FoldedStudent(branch)
    bands = {"vector": (shape[0],), "series": (1, shape[-1]), "image": (shape[0], 1, 1)}[kind]
    scaling = Scaling(np.zeros(bands, np.float32), np.ones(bands, np.float32))
    live = quantize(folded, [x])
    fp32 = export(DeployedStudent(folded), modality, TASK, scaling, (0.0, 1.0))
    return Student(modality, branch, folded, live, layer_ranges(live, x[:1]), fp32, x)


def see(branch: nn.Module, x: Tensor) -> None:
    """Give the batch norms the statistics of `x`, whole, as after long training."""
    for part in branch.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.momentum = None  # the mean over all passes
    with torch.no_grad():
        branch.train()(x)
    branch.eval()


@pytest.fixture(scope="module")
def students():
    """Makes each student once."""
    made: dict[str, Student] = {}

    def get(name: str) -> Student:
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                if not name.endswith("-full"):
                    # kernels 3 and 5, strides 1 and 2, with and without a shortcut; deeper, rounding grows chaotic
                    patch.setattr(mobilenet, "TABLE", ((3, 16, 16, 2), (5, 48, 16, 1)))
                    patch.setattr(resnet, "BLOCKS", {"resnet18": (1, 1), "resnet50": (2, 1)})
                    patch.setattr(resnet, "CHANNELS", resnet.CHANNELS[:2])
                made[name] = make(name.removesuffix("-full"))
        return made[name]

    return get


def run(model: onnx.ModelProto, x: Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (prediction,) = session.run(["prediction"], {model.graph.input[0].name: x.numpy()})
    return prediction


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def test_every_encoder_is_tried_here():
    assert {name.partition("_")[0] for name in SHAPES} == {name for family in FAMILIES for name in family.NAMES}
    assert set(SHAPES) - set(INT8) == {name for family in FAMILIES if family.NO_INT8 for name in family.NAMES}


@pytest.mark.parametrize("name", SHAPES)
def test_folding_is_exact_and_leaves_no_batch_norm(students, name):
    student = students(name)
    with torch.no_grad():
        expected, found = student.branch(student.x), student.folded(student.x)
    assert expected.prediction.std() > 0.1  # outputs that are worth comparing
    for mine, wanted in ((found[0], expected.prediction), (found[2], expected.shared)):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
    assert not any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.Dropout) for part in student.folded.modules())


@pytest.mark.parametrize("name", SHAPES)
def test_the_float_graph_predicts_what_torch_predicts_for_any_batch(students, name):
    student = students(name)
    with torch.no_grad():
        expected = student.branch(student.x).prediction.numpy()
    for batch in (1, 5, 48):
        found = run(student.fp32, student.x[:batch])
        np.testing.assert_allclose(found, expected[:batch], rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", SHAPES)
def test_the_float_graph_is_tidy(students, name):
    graph = students(name).fp32.graph
    assert not {node.op_type for node in graph.node} & {"Identity", "Constant", "Dropout", "BatchNormalization"}
    names = [tensor.name for tensor in graph.initializer]
    assert len(names) == len(set(names))
    made_up = [each for each in (*names, *(node.name for node in graph.node)) if "/" in each or "::" in each]
    assert not made_up
    described = {value.name for value in (*graph.value_info, *graph.output)}
    assert {output for node in graph.node for output in node.output if output} <= described
    assert check_tensorrt(students(name).fp32) == []


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow), "int8"])
def test_nvidias_builder_makes_a_plan_without_a_warning(students, name, precision, tmp_path: Path):
    student = students(name)
    if precision == "int8" and not student.ranges:
        pytest.skip("no INT8 form")
    onnx.save(student.graph("tensorrt") if precision == "int8" else student.fp32, tmp_path / "model.onnx")
    try:
        result = builder_tensorrt.build(tmp_path / "model.onnx", builder_tensorrt.Options(precision, (1, 4, 8)))
    except BackendMissing as missing:
        pytest.skip(missing.message)
    assert len(result.plan) > 10_000
    assert not [text for text in result.warnings if not SCALES.search(text)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet-full", "resnet18-full", "resnet50-full"])
def test_nvidias_builder_makes_a_plan_of_the_whole_backbone(students, name, tmp_path: Path):
    onnx.save(students(name).graph("tensorrt"), tmp_path / "model.onnx")
    try:
        result = builder_tensorrt.build(tmp_path / "model.onnx", builder_tensorrt.Options("int8", (1, 4, 8)))
        assert not [text for text in result.warnings if not SCALES.search(text)]
    except BackendMissing as missing:
        pytest.skip(missing.message)


@pytest.mark.parametrize("name", [*INT8, *FULL])
def test_the_tensorrt_graph_breaks_no_rule(students, name):
    assert check_tensorrt(students(name).graph("tensorrt")) == []


@pytest.mark.parametrize("name", [*INT8, *FULL])
def test_onnx_runtime_computes_every_quantized_layer_in_integers(students, name):
    assert check_fused(students(name).graph("cpu")) == []


@pytest.mark.parametrize("name", INT8)
@pytest.mark.parametrize("target", TARGETS)
def test_both_graphs_predict_what_the_fake_quantized_student_predicts(students, name, target):
    student = students(name)
    live, found = student.predict(target), run(student.graph(target), student.x)
    with torch.no_grad():
        exact = student.folded(student.x)[0].numpy()
    rounding = rms(live - exact)
    assert 1e-4 * exact.std() < rounding < 0.3 * exact.std()  # rounded, and still itself, though it never learned
    # Ties fall to either side, and what they change goes on from layer to layer.
    assert rms(found - live) <= 0.8 * rounding
    assert rms(found - exact) <= 1.3 * rounding


@pytest.mark.parametrize("name", ALL_INTEGERS)
def test_families_without_attention_declare_nothing_as_float(students, name):
    assert len(students(name).fp32.metadata_props) == 0


@pytest.mark.parametrize("name", INT8)
def test_any_layer_of_a_family_can_stay_in_float_and_the_others_fuse_as_before(students, name):
    """Whatever stands around it: a residual sum, a depthwise convolution, an attention, the mean over a map."""
    student = students(name)
    layers = [name for name, limits in student.ranges.items() if isinstance(limits, LayerRange)]
    for layer in layers[:: max(1, len(layers) // 5)]:  # all were tried once; each takes two sessions
        for target, check in (("cpu", check_fused), ("tensorrt", check_tensorrt)):
            graph = place(student.fp32, student.ranges, target, [layer])
            assert check(graph) == [], (layer, target)
            stored = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
            assert stored[f"{layer}.weight"] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("name", ["ltae", "transformer"])
def test_attention_says_what_stays_in_float_and_the_check_relies_on_it(students, name):
    graph = students(name).graph("cpu")
    (entry,) = graph.metadata_props
    parts = json.loads(entry.value)
    assert entry.key == FLOAT_PARTS
    assert {part.rpartition(".")[2] for part in parts} <= {"norm", "position", "attend", "add", "pool"}
    assert check_fused(graph) == []
    entry.value = json.dumps([part for part in parts if not part.endswith("attend")])
    undeclared = check_fused(graph)
    assert undeclared
    assert all("attend" in finding.problem for finding in undeclared)


@pytest.mark.parametrize("name", ["ltae", "transformer"])
def test_a_layer_with_weights_is_not_excused_by_a_declaration(students, name):
    graph = students(name).graph("cpu")
    layer = next(node for node in graph.graph.node if node.op_type == "Gemm" and node.name.startswith("specific.dense"))
    for tensor in graph.graph.initializer:
        if tensor.name == "specific.dense.bias.quantized":  # an integer Gemm has its bias in int32
            layer.input[2] = "float bias"
            graph.graph.initializer.append(
                numpy_helper.from_array(np.zeros(numpy_helper.to_array(tensor).shape, np.float32), "float bias")
            )
            break
    graph.metadata_props[0].value = json.dumps(["specific"])
    assert "specific.dense.Gemm" in {finding.node for finding in check_fused(graph)}


def test_a_residual_sum_is_an_integer_kernel_on_the_cpu_and_part_of_a_convolution_in_tensorrt(students):
    for name in ("resnet18", "resnet50", "mobilenet", "patch"):
        student = students(name)
        for target, quantized in (("cpu", [True, True]), ("tensorrt", [False, True])):
            graph = student.graph(target).graph
            made_by = {output: node.op_type for node in graph.node for output in node.output}
            sums = [node for node in graph.node if node.op_type == "Add"]
            assert sums
            for node in sums:
                assert [made_by[source] == "DequantizeLinear" for source in node.input] == quantized, (name, target)


def test_joined_convolutions_share_one_range(students):
    student = students("patch")
    layers = layer_quantizers(student.live, student.x[:1])
    graph = student.graph("tensorrt").graph
    joins = [node for node in graph.node if node.op_type == "Concat" and node.name.endswith("quantized")]
    assert len(joins) == 2  # one in each encoder
    made_by = {output: node for node in graph.node for output in node.output}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in joins:
        sources = [made_by[name] for name in node.input]
        assert {source.op_type for source in sources} == {"QuantizeLinear"}
        assert len({float(values[source.input[1]]) for source in sources}) == 1
    assert layers["specific.context.body.conv1"].activation is layers["specific.context.add.1"].activation


def test_depthwise_weights_have_a_range_for_each_filter_and_others_have_one(students):
    student = students("mobilenet")
    for name, limits in student.ranges.items():
        if not isinstance(limits, LayerRange):
            continue
        layer = student.folded.get_submodule(name)
        weight = layer.weight.detach()
        if getattr(layer, "groups", 1) == 1:
            assert limits.weight_limit == pytest.approx(float(weight.abs().max()))
        else:
            largest = weight.abs().amax(dim=(1, 2, 3))
            assert limits.weight_limit == pytest.approx(largest.clamp_min(largest.max() * SMALLEST_FILTER).tolist())
            assert limits.weight_scale.shape == (layer.out_channels,)
    for target in TARGETS:
        values = {t.name: numpy_helper.to_array(t) for t in student.graph(target).graph.initializer}
        scales = {name: value for name, value in values.items() if name.endswith(".weight.scale") and value.ndim}
        assert scales
        assert all("conv2" in name for name in scales)  # the depthwise ones


def test_a_dead_filter_gets_a_range_that_an_engine_can_use():
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mobilenet, "TABLE", mobilenet.TABLE[:1])
        kind, shape = SHAPES["mobilenet"]
        modality = Modality("m", tuple(Band(f"b{i}") for i in range(3)), DIMS[kind], shape)
        branch = Branch(modality, TASK, Model(width=128, hidden=8, embedding=8, encoder="mobilenet")).eval()
    branch.specific.trunk.block1.body.norm2.weight.data[3] = 0.0
    folded, x = FoldedStudent(branch), torch.randn(8, *shape)
    limits = layer_ranges(quantize(folded, [x]), x[:1])["specific.block1.body.conv2"]
    assert isinstance(limits, LayerRange)
    assert min(limits.weight_limit) == pytest.approx(max(limits.weight_limit) * SMALLEST_FILTER)


def test_ranges_survive_json():
    for limits in (InputRange(2.0, True), LayerRange(1.0, False, 0.5), LayerRange(1.0, False, (0.5, 0.25))):
        assert range_from_json(json.loads(json.dumps(vars(limits)))) == limits


def test_a_gru_is_left_in_float(students):
    student = students("gru")
    assert student.ranges == {}
    with torch.no_grad():
        assert torch.equal(student.live(student.x)[0], student.folded(student.x)[0])
    gru = student.folded.specific.last.gru
    recurrent = 2 * 6 * (gru.weight_ih_l0.numel() + gru.weight_hh_l0.numel())  # two encoders, six steps
    rest = 2 * 32 * 32 + 32 * 16 + 48  # dense, to_shared, head
    assert cost(DeployedStudent(student.folded), student.x[:1]).macs == recurrent + rest


@pytest.mark.parametrize("name", ["resnet18", "mobilenet", "patch"])
def test_another_placement_of_a_residual_sum_is_found_by_both_checks(students, name, monkeypatch):
    def operators(target: str, inputs: tuple[int, ...]) -> None:
        changed = {**PLACEMENTS[target].operators, "Add": inputs}
        monkeypatch.setitem(PLACEMENTS, target, dataclasses.replace(PLACEMENTS[target], operators=changed))

    operators("tensorrt", (0, 1))
    assert {finding.rule for finding in check_tensorrt(students(name).graph("tensorrt"))} == {"R8"}
    operators("cpu", (1,))
    assert {finding.rule for finding in check_fused(students(name).graph("cpu"))} == {"float"}
