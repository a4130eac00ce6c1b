"""What TensorRT asks of an INT8 ONNX graph, as checks that name the node, the rule and the way out.

TensorRT takes its precisions from QuantizeLinear / DequantizeLinear pairs (Q/DQ), and where they stand wrongly it does
not complain: it reads uint8 as int8 and clips half the range, or runs the layer in float. So each rule is one small
function below, and RULES is the table of all of them: id, the rule in words, where it comes from, what it is about.
Rules about the builder or about measurements stand in the table without a check: a report can say which were looked at.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge.deploy.onnx_graph import MOVES_DATA, PAIR, WEIGHTED, Finding, Graph, attribute, load_graph
from edge.deploy.sparsity import check_sparse

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

FLOAT_ONLY = (
    "Elu", "Erf", "Exp", "GRU", "Gelu", "GroupNormalization", "HardSigmoid", "HardSwish", "InstanceNormalization",
    "LSTM", "LayerNormalization", "LeakyRelu", "LogSoftmax", "RNN", "Selu", "Sigmoid", "Softmax", "Softplus", "Tanh",
)  # fmt: skip
LEFTOVERS = ("Dropout", "FakeQuantize", "Identity")
SMALLEST = 16  # channels below which an INT8 kernel does not pay


@dataclass(frozen=True)
class Rule:
    """One rule. `applies_to` is "graph" with a `check`; or, without one, "fp16", "build" or "measurement"."""

    id: str
    text: str
    source: str
    applies_to: str = "graph"
    check: "Callable[[Graph], Iterator[Finding]] | None" = None


def worth_int8(op_type: str, weight_shape: tuple[int, ...], groups: int = 1) -> bool:
    """Whether an INT8 kernel pays for a layer of this weight shape (R11): both of its channel counts are at least 16;
    those of a Conv or ConvTranspose [Cout, Cin / groups, ...] may be 8 too. With groups, as in a depthwise convolution,
    Cout is a multiple of 8 and the kernel has at least 3 taps along every axis.

    Gemm and MatMul weights are [..., in, out] or [out, in]; size 0 means unknown. Source: ModelOpt's graph_utils.py,
    `find_nodes_from_convs_to_exclude` (there one of the two being a multiple of 8 is enough; this is stricter) and
    `find_nodes_from_matmul_to_exclude`.
    """
    if op_type == "Conv" and groups > 1 and weight_shape[1] < SMALLEST:
        return weight_shape[0] % 8 == 0 and min(weight_shape[2:]) >= 3
    if op_type in ("Conv", "ConvTranspose"):
        return all(size >= SMALLEST or size % 8 == 0 for size in weight_shape[:2])
    return all(size >= SMALLEST or size == 0 for size in weight_shape[-2:])


def check_tensorrt(graph: "Path | ModelProto") -> list[Finding]:
    """Every rule of RULES that has a check, on one static ONNX graph; an empty list means that all of them hold.

    A graph that onnx.checker refuses gives that finding alone, since nothing else can be read off it with confidence.
    InputError if the file is missing, is no ONNX or keeps weights outside; BackendMissing without the package onnx.
    """
    view = Graph(load_graph(graph))
    findings: list[Finding] = []
    for rule in RULES:
        findings += [] if rule.check is None else rule.check(view)
        if findings and rule.id in ("external", "checker"):
            break
    return findings


def check_symmetric(graph: Graph) -> Iterator[Finding]:
    """R1."""
    for node in graph.pairs:
        scale, zero_point = graph.constant(node, 1), graph.constant(node, 2)
        if len(node.input) > 2 and zero_point is None:
            yield Finding(
                "R1", graph.name(node), "its zero point is not a constant", "store it as an initializer of zeros"
            )
        elif zero_point is not None and np.any(zero_point.astype(np.int64)):
            problem = f"its zero point is {np.ravel(zero_point)[:4].tolist()}, not 0"
            yield Finding("R1", graph.name(node), problem, "use symmetric int8 ranges")
        if scale is not None and not (np.isfinite(scale).all() and (scale > 0).all()):
            problem = f"its scale is {float(np.ravel(scale)[~(np.isfinite(scale) & (scale > 0)).ravel()][0])}"
            yield Finding("R1", graph.name(node), problem, "scales are positive and finite: calibrate it again")


def check_int8(graph: Graph) -> Iterator[Finding]:
    """R2."""
    for node in graph.pairs:
        zero_point = graph.constant(node, 2)
        kind = "" if zero_point is None else str(zero_point.dtype)
        if len(node.input) < 3 and node.op_type == "QuantizeLinear":
            kind = "uint8"  # what ONNX means by no zero point
        if kind not in ("", "int8", "int32"):  # int32 is R6
            problem = f"its zero point is {kind}; TensorRT rejects that, or reads it as int8 and clips half the range"
            yield Finding("R2", graph.name(node), problem, "quantize to int8 with zero point 0")


def check_activation_scale(graph: Graph) -> Iterator[Finding]:
    """R3."""
    for node in graph.pairs:
        scale = graph.constant(node, 1)
        if scale is not None and scale.size != 1 and not graph.on_weight(node):
            problem = f"an activation is quantized per channel ({scale.size} scales)"
            yield Finding("R3", graph.name(node), problem, "give activations one scale per tensor")


def check_weight_scale(graph: Graph) -> Iterator[Finding]:
    """R4."""
    for node in graph.quantized():
        dq = graph.dequantizer(node.input[1])
        if dq is None or not graph.on_weight(dq):
            continue
        shape, output = graph.shapes[dq.input[0]], _output_axis(graph, node)
        grouped = node.op_type == "ConvTranspose" and attribute(node, "group", 1) > 1
        fix = "give it one scale: the groups leave its channels ambiguous" if grouped else f"use axis {output}"
        for each in filter(None, (dq, graph.quantizer(dq))):
            scale, axis = graph.constant(each, 1), attribute(each, "axis", 1)
            if scale is None or scale.size == 1:
                continue
            if grouped or axis % len(shape) != output or scale.shape != (shape[output],):
                problem = f"a {node.op_type} weight {list(shape)} has {scale.size} scales on axis {axis}"
                yield Finding("R4", graph.name(each), problem, f"quantize it per output channel: {fix}")


def _output_axis(graph: Graph, node: "NodeProto") -> int:
    """The axis of the output channels in the weight as it is quantized, which a Transpose may bring into place."""
    order: list[int] = list(range(len(graph.shapes[node.input[1]])))
    source = graph.producer.get(node.input[1])
    if source is not None and source.op_type == "Transpose":
        order = list(attribute(source, "perm", order[::-1]))
    gemm = 0 if attribute(node, "transB", 0) else 1
    return order[{"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": gemm}[node.op_type]]


def check_weight_form(graph: Graph) -> Iterator[Finding]:
    """R5."""
    for node in graph.nodes:
        if node.op_type not in WEIGHTED:
            continue
        data, weight = (graph.dequantizer(name) is not None for name in node.input[:2])
        if data and not weight:
            fix = "put Q/DQ on the weight, or let the layer read the tensor in front of the Q"
            yield Finding("R5", graph.name(node), "its input is quantized, its weight is not", fix)
        elif weight and not data:
            fix = "put Q/DQ on the input, or leave the weight in float"
            yield Finding("R5", graph.name(node), "its weight is quantized, its input is not", fix)


def check_bias(graph: Graph) -> Iterator[Finding]:
    """R6."""
    for node in graph.nodes:
        if node.op_type in WEIGHTED and len(node.input) > 2 and (dq := graph.dequantizer(node.input[2])) is not None:
            yield Finding(
                "R6", graph.name(dq), f"the bias of {graph.name(node)} is quantized", "store the bias as float32"
            )


def check_places(graph: Graph) -> Iterator[Finding]:
    """R7."""
    for node in graph.pairs:
        if node.op_type == "QuantizeLinear":
            yield from _check_pair(graph, node)
            continue
        if graph.on_weight(node):
            continue
        if graph.outputs & set(graph.moved(node.output[0])):
            yield Finding("R7", graph.name(node), "an output of the graph is quantized", "end the graph in float")
        for reader in graph.uses(node.output[0]):
            adds = reader.op_type == "Add" and not any(name in graph.constants for name in reader.input)
            if adds or reader.op_type in (*WEIGHTED, *FLOAT_ONLY, "BatchNormalization"):  # the latter: R11, R10
                continue
            problem = f"{reader.op_type} {graph.name(reader)} reads quantized data"
            fix = "quantize only the inputs of Conv, Gemm and MatMul; Q stands behind the activation function"
            yield Finding("R7", graph.name(node), problem, fix)


def _check_pair(graph: Graph, q: "NodeProto") -> Iterator[Finding]:
    """A Q is read by DQs only, with its own scale."""
    for reader in graph.uses(q.output[0]):
        if reader.op_type != "DequantizeLinear":
            yield Finding("R7", graph.name(q), f"{graph.name(reader)} reads integers", "put a DequantizeLinear between")
        elif not np.array_equal(_scale(graph, q), _scale(graph, reader), equal_nan=True):
            yield Finding("R7", graph.name(reader), f"its scale is not that of {graph.name(q)}", "give both one scale")


def check_residual(graph: Graph) -> Iterator[Finding]:
    """R8: of the two inputs of an Add the one with the longer way is the convolution branch."""
    for node in graph.nodes:
        if node.op_type != "Add" or any(name in graph.constants for name in node.input):
            continue
        branch = max(node.input, key=lambda name: graph.depth.get(name, 0))
        dq = graph.dequantizer(branch)
        q = None if dq is None else graph.quantizer(dq)
        source = None if q is None else graph.producer.get(graph.through(q.input[0], ("BatchNormalization",)))
        if q is not None and source is not None and source.op_type in WEIGHTED:
            problem = f"it stands between {graph.name(source)} and {graph.name(node)}, which would run as one kernel"
            yield Finding("R8", graph.name(q), problem, "quantize the residual branch only")


def check_concat(graph: Graph) -> Iterator[Finding]:
    """R9."""
    for node in graph.nodes:
        if node.op_type != "Concat":
            continue
        sources = [graph.producer.get(graph.through(name, MOVES_DATA)) for name in node.input]
        pairs = [each if each is not None and each.op_type in PAIR else None for each in sources]
        scales = {None if each is None else float(np.ravel(_scale(graph, each))[0]) for each in pairs}
        if len(scales) > 1:
            words = ", ".join("float" if scale is None else f"{scale:.6g}" for scale in scales)
            yield Finding(
                "R9", graph.name(node), f"its inputs have different scales ({words})", "give them one quantizer"
            )


def _scale(graph: Graph, node: "NodeProto") -> npt.NDArray[Any]:
    scale = graph.constant(node, 1)
    return np.array([math.nan]) if scale is None else scale  # a scale that is computed is R16


def check_batch_norm(graph: Graph) -> Iterator[Finding]:
    """R10."""
    for node in graph.nodes:
        if node.op_type == "BatchNormalization":
            yield Finding("R10", graph.name(node), "a batch normalization is left", "fold it into the layer before it")


def check_left_in_float(graph: Graph) -> Iterator[Finding]:
    """R11."""
    for node in graph.pairs:
        for reader in graph.uses(node.output[0]):
            if reader.op_type in FLOAT_ONLY and not _feeds_norm_from_conv(graph, node, reader):
                problem = f"{reader.op_type} runs in float but reads quantized data"
                yield Finding("R11", graph.name(reader), problem, "let it read the float tensor in front of the Q")
    for node in graph.quantized():
        shape = graph.shapes.get(graph.through(node.input[1], PAIR), ())
        if not worth_int8(node.op_type, shape, attribute(node, "group", 1)):
            problem = f"its weight {list(shape)} has fewer than {SMALLEST} channels on one side"
            yield Finding("R11", graph.name(node), problem, "leave this layer in float (worth_int8)")
        elif graph.declared_float(node):
            problem = "the graph declares it as float on purpose, and it is quantized"
            yield Finding("R11", graph.name(node), problem, "let it read the tensors in front of the Q")
        elif not graph.leads_to_weighted(node):
            yield Finding("R11", graph.name(node), "it is the output layer and is quantized", "leave the head in float")


def _feeds_norm_from_conv(graph: Graph, dq: "NodeProto", reader: "NodeProto") -> bool:
    q = graph.quantizer(dq)
    source = None if q is None else graph.producer.get(graph.through(q.input[0], MOVES_DATA))
    return reader.op_type == "LayerNormalization" and source is not None and source.op_type == "Conv"


def check_norm_behind_conv(graph: Graph) -> Iterator[Finding]:
    """R12."""
    for conv in graph.quantized():
        for reader in graph.uses(conv.output[0]):
            if conv.op_type == "Conv" and reader.op_type == "LayerNormalization":
                problem = f"it reads the INT8 {graph.name(conv)} without Q/DQ, which keeps that from an INT8 kernel"
                yield Finding("R12", graph.name(reader), problem, "put one Q/DQ pair between the two")


def check_opset(graph: Graph) -> Iterator[Finding]:
    """R15."""
    for opset in graph.model.opset_import:
        if opset.domain in ("", "ai.onnx") and not 13 <= opset.version <= 20:
            yield Finding("R15", "opset_import", f"opset {opset.version} is not in 13..20", "export with opset 17")


def check_static_scale(graph: Graph) -> Iterator[Finding]:
    """R16."""
    for node in graph.pairs:
        if graph.constant(node, 1) is None:
            yield Finding(
                "R16", graph.name(node), "its scale is computed in the graph", "store the scale as an initializer"
            )
        if graph.shapes.get(node.input[0]) == ():
            yield Finding("R16", graph.name(node), "it quantizes a scalar", "leave scalars in float")


def check_batch_axis(graph: Graph) -> Iterator[Finding]:
    """R19."""
    for value in graph.model.graph.input:
        if value.name in graph.constants:
            continue
        free = [axis for axis, size in enumerate(value.type.tensor_type.shape.dim) if size.dim_value < 1]
        if [axis for axis in free if axis > 0]:
            yield Finding(
                "R19", value.name, f"axes {free} are free", "fix every axis of an input except the first, the batch"
            )


def check_domain(graph: Graph) -> Iterator[Finding]:
    """Only operators of the ONNX standard, and a graph without branches."""
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx") and node.op_type not in LEFTOVERS:
            problem = f"{node.domain}.{node.op_type} is not an ONNX operator"
            yield Finding("domain", graph.name(node), problem, "export with operators of the ONNX standard only")
        elif node.op_type in ("If", "Loop", "Scan"):
            yield Finding("domain", graph.name(node), "the graph has control flow", "export a static graph")


def check_leftovers(graph: Graph) -> Iterator[Finding]:
    """Traces of training and tracing."""
    for node in graph.nodes:
        if node.op_type in LEFTOVERS:
            problem = f"{node.op_type} is a leftover of training or of the exporter"
            yield Finding(
                "leftovers", graph.name(node), problem, "fold it away: export in evaluation mode and simplify"
            )


def check_no_external_data(graph: Graph) -> Iterator[Finding]:
    """A bundle's graph is one file."""
    constants = (each.t for node in graph.nodes for each in node.attribute if each.HasField("t"))
    for tensor in (*graph.model.graph.initializer, *constants):
        if tensor.data_location == tensor.EXTERNAL:
            yield Finding(
                "external", tensor.name, "its values are kept in another file", "save the weights in the graph"
            )


def check_well_formed(graph: Graph) -> Iterator[Finding]:
    """onnx.checker, with type and shape inference."""
    import onnx

    try:
        onnx.checker.check_model(graph.model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        yield Finding(
            "checker", graph.model.graph.name or "graph", " ".join(str(error).split()), "export the graph again"
        )


def check_finite(graph: Graph) -> Iterator[Finding]:
    """Weights are numbers; scales are R1's."""
    scales = {node.input[1] for node in graph.pairs}
    for name, values in graph.constants.items():
        if values.dtype.kind == "f" and name not in scales and np.isnan(values).any():
            problem = f"{int(np.isnan(values).sum())} of {values.size} values are NaN"
            yield Finding("finite", name, problem, "the training has diverged: train again, with a lower learning rate")


_NVINFER = "NvInfer.h (TensorRT 11.1), IQuantizeLayer"
_MODELOPT = "NVIDIA ModelOpt, onnx/quantization"
_MIGRATION = "TensorRT, trt-strong-typing-migration"

_DOMAIN = "TensorRT's parser reads the ONNX domain alone"

RULES = (
    Rule("external", "weights are inside the file", "edge bundle", check=check_no_external_data),
    Rule("checker", "onnx.checker accepts the graph, with types and shapes", "onnx", check=check_well_formed),
    Rule("R1", "zero points are constants and 0, scales are positive and finite", _NVINFER, check=check_symmetric),
    Rule("R2", "integers are int8, never uint8", "onnx-tensorrt, onnxOpImporters.cpp", check=check_int8),
    Rule("R3", "activations have one scale per tensor", _NVINFER, check=check_activation_scale),
    Rule("R4", "weights have one scale or one per output channel", f"{_MODELOPT}, ort_utils.py",
         check=check_weight_scale),
    Rule("R5", "data and weight of a layer are quantized together; the weight as float + Q + DQ or int8 + DQ",
         "TensorRT documentation, explicit quantization", check=check_weight_form),
    Rule("R6", "the bias stays in float", f"{_MODELOPT}, QuantizeBias=False", check=check_bias),
    Rule("R7", "Q/DQ stand on inputs of weighted layers, not on outputs and not in front of an activation function",
         f"{_MODELOPT}, OpTypesToExcludeOutputQuantization", check=check_places),
    Rule("R8", "at a residual Add only the residual branch is quantized",
         "TensorRT, tensorflow-quantization, add_custom_qdq_cases.md", check=check_residual),
    Rule("R9", "the inputs of a Concat share one scale", f"{_MODELOPT}, concat_elimination", check=check_concat),
    Rule("R10", "batch normalization is folded", "Ultralytics, fuse_conv_and_bn", check=check_batch_norm),
    Rule("R11", "nonlinear functions, layers with few channels, the output layer and what is declared stay in float",
         f"{_MODELOPT}, graph_utils.py", check=check_left_in_float),
    Rule("R12", "a LayerNormalization behind an INT8 Conv has Q/DQ on its input",
         f"{_MODELOPT}, find_conv_to_layernorm_nodes", check=check_norm_behind_conv),
    Rule("R13", "what is not quantized is FP16 in a strongly typed network", _MIGRATION, "fp16"),
    Rule("R14", "AutoCast is calibrated with real data", "Ultralytics", "fp16"),
    Rule("R15", "opset 13 to 20 (17 for JetPack 5 and 6.0)", "onnx-tensorrt, TensorRT 10", check=check_opset),
    Rule("R16", "scales are stored, and no scalar is quantized", "onnx-tensorrt", check=check_static_scale),
    Rule("R17", "TensorRT 8.5 - 10: INT8 and FP16 flags, never a calibrator; 11: no flags", _MIGRATION, "build"),
    Rule("R18", "the engine has INT8 kernels and is not slower than FP16", "edge bench", "measurement"),
    Rule("R19", "only the batch axis of an input is free", "NvInfer.h, DLA", check=check_batch_axis),
    Rule("R20", "the engine agrees with ONNX Runtime within 5e-3", _MIGRATION, "measurement"),
    Rule("sparse", "layers that are declared as sparse have the pattern 2:4 along their inputs",
         "TensorRT developer guide, Sparsity", check=check_sparse),
    Rule("domain", "only operators of the ONNX standard, no control flow", _DOMAIN, check=check_domain),
    Rule("leftovers", "no Identity, Dropout or FakeQuantize", _DOMAIN, check=check_leftovers),
    Rule("finite", "no weight is NaN", "edge", check=check_finite),
)  # fmt: skip
