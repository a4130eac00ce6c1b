"""A static ONNX graph with the look-ups that the checks on it need, and what a check has to say.

A Q/DQ pair is QuantizeLinear -> DequantizeLinear; operations that only move data may stand between the two.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge.deploy.onnx_file import read_onnx
from edge.errors import BackendMissing, InputError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

PAIR = ("QuantizeLinear", "DequantizeLinear")
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Data goes through these unchanged, or only a part of it, so a pair in front of them serves the layer behind.
MOVES_DATA = (
    "Concat", "Expand", "Flatten", "Gather", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
)  # fmt: skip

# Key in the metadata of a graph: a JSON list of module names whose operations stay in float on purpose, because their
# encoder keeps them there (train/encoders) or because they were excluded (compress/exclude.py). A tensor made by such a
# module is called `MODULE.output` or MODULE and something behind a dot.
FLOAT_PARTS = "edge.float_parts"


@dataclass(frozen=True)
class Finding:
    """A broken rule: its id, the node (or tensor), what is wrong and what to do about it."""

    rule: str
    node: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.rule} at {self.node}: {self.problem}; {self.fix}"


def load_graph(graph: "Path | ModelProto") -> "ModelProto":
    """The model of an ONNX file; a model is handed back as it is.

    InputError if the file is missing, is no ONNX or keeps weights outside; BackendMissing without the package onnx.
    """
    try:
        import onnx
    except ImportError:
        raise BackendMissing("onnx is not installed; pip install 'onnx>=1.19'") from None
    if not isinstance(graph, Path):
        return graph
    data = read_onnx(graph)
    try:
        return onnx.load_from_string(data)
    except Exception as error:  # protobuf's own, which the package onnx does not export
        raise InputError(f"{graph} is not an ONNX file: {error}") from None


class Graph:
    """A model with the look-ups that the rules need."""

    def __init__(self, model: "ModelProto") -> None:
        self.model = model
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.outputs = {value.name for value in model.graph.output}
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    @cached_property
    def constants(self) -> dict[str, npt.NDArray[Any]]:
        """Initializers and Constant nodes, also behind a Cast."""
        from onnx import helper, numpy_helper

        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            elif node.op_type == "Constant":
                values[node.output[0]] = np.asarray(helper.get_attribute_value(node.attribute[0]))
            elif node.op_type == "Cast" and node.input[0] in values:
                kind = helper.tensor_dtype_to_np_dtype(attribute(node, "to", 1))
                values[node.output[0]] = values[node.input[0]].astype(kind)
        return values

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes where inference finds them; 0 for an axis that is free."""
        from onnx import shape_inference

        graph = shape_inference.infer_shapes(self.model).graph
        types = {v.name: v.type.tensor_type for v in (*graph.input, *graph.value_info, *graph.output)}
        known = {name: kind.shape.dim for name, kind in types.items() if kind.HasField("shape")}
        inferred = {name: tuple(axis.dim_value for axis in axes) for name, axes in known.items()}
        return inferred | {name: value.shape for name, value in self.constants.items()}

    @cached_property
    def float_parts(self) -> tuple[str, ...]:
        """The names of FLOAT_PARTS, with the dot behind them; InputError if they are not a list of names."""
        return tuple(f"{name}." for name in stored_float_parts(self.model))

    def declared_float(self, node: "NodeProto") -> bool:
        """Whether `node` belongs to a part that is in float on purpose, or is the ReLU behind one."""
        if self.float_parts and all(name.startswith(self.float_parts) for name in node.output if name):
            return True
        before = self.producer.get(node.input[0]) if node.op_type in ("Relu", "Max") else None
        return before is not None and self.declared_float(before)

    @cached_property
    def pairs(self) -> "list[NodeProto]":
        """All Q and DQ nodes."""
        return [node for node in self.nodes if node.op_type in PAIR]

    def name(self, node: "NodeProto") -> str:
        """What a person can find it by."""
        return node.name or f"{node.op_type} -> {node.output[0]}"

    def constant(self, node: "NodeProto", position: int) -> npt.NDArray[Any] | None:
        """The constant at an input of `node`, or None."""
        return self.constants.get(node.input[position]) if position < len(node.input) else None

    def through(self, tensor: str, kinds: tuple[str, ...]) -> str:
        """`tensor`, or what it was before the operations of `kinds` that lead to it (first input)."""
        while (node := self.producer.get(tensor)) is not None and node.op_type in kinds:
            tensor = node.input[0]
        return tensor

    def quantizer(self, dq: "NodeProto") -> "NodeProto | None":
        """The Q of a DQ; None where the DQ reads a stored integer tensor."""
        node = self.producer.get(self.through(dq.input[0], MOVES_DATA))
        return node if node is not None and node.op_type == "QuantizeLinear" else None

    def on_weight(self, node: "NodeProto") -> bool:
        """Whether this Q or DQ quantizes a constant."""
        q: NodeProto | None = node if node.op_type == "QuantizeLinear" else self.quantizer(node)
        return (q or node).input[0] in self.constants

    def dequantizer(self, tensor: str) -> "NodeProto | None":
        """The DQ that gives `tensor`, data movement between them aside."""
        node = self.producer.get(self.through(tensor, MOVES_DATA))
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def moved(self, tensor: str) -> Iterator[str]:
        """`tensor` and what data movement makes of it."""
        yield tensor
        for node in self.readers.get(tensor, []):
            if node.op_type in MOVES_DATA:
                for output in node.output:
                    yield from self.moved(output)

    def uses(self, tensor: str) -> "Iterator[NodeProto]":
        """The nodes that compute with `tensor`; data movement is passed over."""
        for name in self.moved(tensor):
            yield from (node for node in self.readers.get(name, []) if node.op_type not in MOVES_DATA)

    def quantized(self) -> "Iterator[NodeProto]":
        """Each Conv, Gemm, ... whose data and weight (or two activations) come from DQs."""
        for node in self.nodes:
            if node.op_type in WEIGHTED and all(self.dequantizer(name) is not None for name in node.input[:2]):
                yield node

    def leads_to_weighted(self, node: "NodeProto") -> bool:
        """Whether another weighted operator can be reached from `node`."""
        waiting, seen = list(node.output), set()
        while waiting:
            for reader in self.readers.get(waiting.pop(), []):
                if reader.op_type in WEIGHTED:
                    return True
                waiting += [name for name in reader.output if name not in seen]
                seen |= set(reader.output)
        return False

    @cached_property
    def depth(self) -> dict[str, int]:
        """Operators on the longest way from an input to each tensor, Q and DQ not counted."""
        depth: dict[str, int] = {}
        for node in self.nodes:  # the checker has made sure that they are sorted
            step = node.op_type not in PAIR
            depth |= dict.fromkeys(node.output, step + max((depth.get(name, 0) for name in node.input), default=0))
        return depth


def stored_float_parts(model: "ModelProto") -> list[str]:
    """The names of FLOAT_PARTS; InputError if they are not a list of names."""
    stored = next((entry.value for entry in model.metadata_props if entry.key == FLOAT_PARTS), "[]")
    try:
        return [str(name) for name in json.loads(stored)]
    except (TypeError, ValueError):
        raise InputError(f"the graph's metadata {FLOAT_PARTS} is {stored!r}; expected a JSON list") from None


def attribute(node: "NodeProto", name: str, default: Any) -> Any:
    """The value of an attribute, or `default`."""
    from onnx import helper

    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)
