"""A static ONNX graph with the look-ups that the checks on it need, and what a check has to say.

A Q/DQ pair is QuantizeLinear -> DequantizeLinear; operations that only move data may stand between the two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Data goes through these unchanged, or only a part of it, so a pair in front of them serves the layer behind.
MOVES_DATA = (
    "Concat", "Expand", "Flatten", "Gather", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A broken rule: its id, the node (or tensor), what is wrong and what to do about it."""

    rule: str
    node: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.rule} at {self.node}: {self.problem}; {self.fix}"


class Graph:
    """A model with the look-ups that the rules need."""

    def __init__(self, model: "ModelProto") -> None:
        self.model = model
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.outputs = {value.name for value in model.graph.output}
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[tuple[NodeProto, int]]] = {}
        for node in self.nodes:
            for position, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, position))

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
    def ranks(self) -> dict[str, int]:
        """Number of axes, where shape inference finds it."""
        from onnx import shape_inference

        graph = shape_inference.infer_shapes(self.model).graph
        values = [*graph.input, *graph.value_info, *graph.output]
        known = {v.name: len(v.type.tensor_type.shape.dim) for v in values if v.type.tensor_type.HasField("shape")}
        return known | {name: value.ndim for name, value in self.constants.items()}

    @cached_property
    def pairs(self) -> "list[NodeProto]":
        """All Q and DQ nodes."""
        return [node for node in self.nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]

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

    def uses(self, tensor: str) -> "Iterator[tuple[NodeProto, int]]":
        """The nodes that read `tensor`, with the input's position, data movement passed over."""
        for node, position in self.readers.get(tensor, []):
            if node.op_type in MOVES_DATA:
                for output in node.output:
                    yield from self.uses(output)
            else:
                yield node, position

    def weighted(self) -> "Iterator[tuple[NodeProto, bool, bool]]":
        """Each Conv, Gemm, ... with a constant weight: the node, is its data quantized, is its weight."""
        for node in self.nodes:
            if node.op_type in WEIGHTED and self.weight(node) is not None:
                yield node, *(self.dequantizer(name) is not None for name in node.input[:2])

    def weight(self, node: "NodeProto") -> npt.NDArray[Any] | None:
        """The stored weight behind its Q/DQ and Transpose; None for the product of two activations."""
        return self.constants.get(self.through(node.input[1], ("QuantizeLinear", "DequantizeLinear", "Transpose")))

    def next_weighted(self, node: "NodeProto") -> "Iterator[NodeProto]":
        """The weighted operators that can be reached from `node`."""
        waiting, seen = list(node.output), set()
        while waiting:
            tensor = waiting.pop()
            for reader, _ in self.readers.get(tensor, []):
                if id(reader) not in seen:
                    seen.add(id(reader))
                    waiting += reader.output
                    if reader.op_type in WEIGHTED:
                        yield reader

    @cached_property
    def depth(self) -> dict[str, int]:
        """Operators on the longest way from an input to each tensor, Q and DQ not counted."""
        depth: dict[str, int] = {}
        for node in self.nodes:  # the checker has made sure that they are sorted
            step = node.op_type not in ("QuantizeLinear", "DequantizeLinear")
            depth |= dict.fromkeys(node.output, step + max((depth.get(name, 0) for name in node.input), default=0))
        return depth


def attribute(node: "NodeProto", name: str, default: Any) -> Any:
    """The value of an attribute, or `default`."""
    from onnx import helper

    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)
