"""FP16 in the graph: what a strongly typed TensorRT network wants instead of a flag (rule R13; TensorRT 11).

From the first layer with weights to the last one every float tensor becomes FP16. What stands before (missing values,
units, normalisation: sensor values go up to 10,000 and more, FP16 ends at 65,504) and what stands behind (softmax, the
target's units) stays FP32, and so do input and output of the graph.

A graph with Q/DQ pairs keeps its integers. Weights are stored as the int8 codes that FP32 arithmetic gives, behind a DQ
alone, for rounding them to FP16 first would move codes. A scale becomes the nearest FP16 number; below 2^-16, where
FP16 has too few digits left, it becomes 2^-16. FP16 scales came with opset 19
(https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html); a graph of an older one is converted.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge.deploy.onnx_graph import MOVES_DATA, PAIR, WEIGHTED, Graph, attribute
from edge.errors import InputError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_LAYERS = (*WEIGHTED, "GRU", "LSTM", "RNN")
_OPSET = 19
SMALLEST_SCALE = np.float16(2.0**-16)  # rounding to FP16 changes a scale from here on by at most 1/512
LARGEST = float(np.finfo(np.float16).max)
HALF = "edge.half"  # key in the metadata of a graph with FP16 inside; it stands in the file as it is
_FP32_INPUTS = {"Resize": (1, 2)}  # operator -> inputs that have to be FP32


def half_graph(model: "ModelProto") -> "ModelProto":
    """A copy of `model` with FP16 inside. InputError if it has no layer with weights, or a weight beyond FP16."""
    import onnx

    model = _with_opset(model)
    graph = Graph(model)
    region = _region(graph)
    if not region:
        raise InputError("the graph has no layer with weights that could be FP16")
    converted = _Conversion(graph, _types(model), region)
    nodes = [new for at, node in enumerate(graph.nodes) for new in converted.node(at, node)]
    read = {name for node in nodes for name in node.input} | graph.outputs
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    nodes = [node for node in nodes if node.op_type != "Constant" or node.output[0] in read]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*kept, *converted.constants()])
    model.metadata_props.add(key=HALF, value="float16")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"the graph has no form in FP16: {' '.join(str(error).split())}") from None
    return model


def largest_inside(half: "ModelProto", inputs: dict[str, npt.NDArray[np.float32]]) -> float:
    """The largest absolute value that a tensor in FP16 takes for `inputs`; infinite if one overflows.

    ONNX Runtime computes FP16 operators in FP32 on most processors and rounds what it hands out: so every tensor is
    asked for, and one that FP16 cannot hold is seen.
    """
    import onnx

    from edge.deploy.engine_onnxruntime import open_graph

    asked = onnx.ModelProto()
    asked.CopyFrom(half)
    types = _types(half)
    given = [name for node in half.graph.node for name in node.output if types.get(name) == onnx.TensorProto.FLOAT16]
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in given)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.onnx")
        onnx.save(asked, str(path))
        engine = open_graph(path, threads=1)
        outputs = engine.run(inputs)
        engine.close()
    values = (np.nan_to_num(np.abs(outputs[name]), nan=np.inf, posinf=np.inf) for name in given)
    return float(max((each.max() for each in values if each.size), default=0.0))


def _with_opset(model: "ModelProto") -> "ModelProto":
    """A copy, of an opset that has FP16 scales if the graph has scales."""
    import onnx

    version = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if version >= _OPSET or not any(node.op_type in PAIR for node in model.graph.node):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    converted = onnx.version_converter.convert_version(model, _OPSET)
    converted.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(converted.opset_import))
    return converted


def _types(model: "ModelProto") -> dict[str, int]:
    """The ONNX element type of each tensor."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _region(graph: Graph) -> set[int]:
    """Positions of the nodes that compute in FP16: layers with weights, what lies between them, and their Q/DQ."""
    behind: set[str] = set()  # tensors that a layer has had a part in
    before: set[str] = set()  # tensors that a layer will read
    after, ahead, layers = set(), set(), set()
    for at, node in enumerate(graph.nodes):
        if node.op_type in _LAYERS:
            layers.add(at)
        if at in layers or behind.intersection(node.input):
            after.add(at)
            behind.update(node.output)
    for at, node in reversed(list(enumerate(graph.nodes))):
        if at in layers or before.intersection(node.output):
            ahead.add(at)
            before.update(node.input)
    return (after & ahead) | _pairs_in_front(graph, layers)


def _pairs_in_front(graph: Graph, layers: set[int]) -> set[int]:
    """The Q and DQ, and what moves data between them, from which a layer takes its data and its weight."""
    place = {name: at for at, node in enumerate(graph.nodes) for name in node.output}
    found = set()
    for name in (name for at in layers for name in graph.nodes[at].input):
        chain = []
        while name in place and graph.nodes[place[name]].op_type in (*PAIR, *MOVES_DATA):
            chain.append(place[name])
            name = graph.nodes[place[name]].input[0]
        pairs = [length for length, at in enumerate(chain, 1) if graph.nodes[at].op_type in PAIR]
        found |= set(chain[: max(pairs, default=0)])
    return found


class _Conversion:
    """Rewrites nodes one by one, and collects the constants that they need."""

    def __init__(self, graph: Graph, types: dict[str, int], region: set[int]) -> None:
        from onnx import TensorProto

        self._graph, self._types, self._region = graph, types, region
        self._float, self._half = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
        self._inside = {name for at in region for name in graph.nodes[at].output}
        read_outside = {name for at, node in enumerate(graph.nodes) if at not in region for name in node.input}
        self._leaving = self._inside & (read_outside | graph.outputs)
        self._scales = {node.input[1] for node in graph.pairs}
        self._stored: dict[str, npt.NDArray[Any]] = {}
        self._entered: set[str] = set()

    def constants(self) -> list[Any]:
        """The new initializers."""
        from onnx import numpy_helper

        return [numpy_helper.from_array(values, name) for name, values in self._stored.items()]

    def node(self, at: int, node: "NodeProto") -> "list[NodeProto]":
        """What stands in place of `node`."""
        import onnx

        if at not in self._region:
            return [node]
        if node.op_type == "QuantizeLinear" and node.input[0] in self._graph.constants:
            self._stored[node.output[0]] = self._codes(node)
            return []
        new = onnx.NodeProto()
        casts: list[NodeProto] = []
        floats: list[NodeProto] = []
        new.CopyFrom(node)
        for position, name in enumerate(node.input):
            if position not in _FP32_INPUTS.get(node.op_type, ()) and self._types.get(name) == self._float:
                new.input[position] = self._input(name, casts)
        for entry in new.attribute:  # Cast says its type in a number, ConstantOfShape in a tensor
            if entry.name == "to" and entry.i == self._float:
                entry.i = self._half
            elif node.op_type == "ConstantOfShape" and entry.t.data_type == self._float:
                entry.t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(entry.t).astype(np.float16)))
        for position, name in enumerate(node.output):
            if name in self._leaving and self._types.get(name) == self._float:
                new.output[position] = f"{name}.half"
                floats.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], f"{name}.float", to=self._float))
        return [*casts, new, *floats]

    def _input(self, name: str, casts: "list[NodeProto]") -> str:
        """The FP16 tensor for the float tensor `name`; a Cast goes to `casts` where it comes from outside."""
        import onnx

        half = f"{name}.half"
        if name in self._inside:
            return half if name in self._leaving else name
        if name in self._graph.constants:
            self._stored[half] = self._rounded(name)
        elif name not in self._entered:
            self._entered.add(name)
            casts.append(onnx.helper.make_node("Cast", [name], [half], half, to=self._half))
        return half

    def _rounded(self, name: str) -> npt.NDArray[np.float16]:
        values = self._graph.constants[name]
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(np.isfinite(values), np.isfinite(half)):
            raise InputError(f"{name} holds {np.abs(values).max():.4g}, which FP16 (up to 65504) cannot hold")
        return np.maximum(half, SMALLEST_SCALE) if name in self._scales else half

    def _codes(self, node: "NodeProto") -> npt.NDArray[np.int8]:
        """The integers of a quantized weight: round half to even, as QuantizeLinear does."""
        values, scale = self._graph.constants[node.input[0]], self._graph.constants[node.input[1]]
        if scale.ndim:
            axis = attribute(node, "axis", 1) % values.ndim
            scale = scale.reshape([-1 if place == axis else 1 for place in range(values.ndim)])
        steps = np.rint(values / np.maximum(scale, SMALLEST_SCALE))
        codes: npt.NDArray[np.int8] = np.clip(steps, -128, 127).astype(np.int8)
        return codes
