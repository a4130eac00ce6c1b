"""Where QuantizeLinear / DequantizeLinear pairs stand: one set of trained ranges, one graph for each target.

Both start from the float graph and quantize the input and the weights of the layers that have a trained range; what
differs is in PLACEMENTS. Between a quantized activation and its layer stand only operations that move data (flatten,
transpose, maximum over a window, concat): they are done in integers. The inputs of a concat share one trained range.

cpu: ONNX Runtime fuses a layer into one integer kernel if its activations are uint8, its weights int8 and its bias
int32, and if no ReLU is left to do: behind a ReLU the zero point 0 of uint8 cuts off what is negative. A ReLU in front
of a float tensor becomes max(x, 0), which ONNX Runtime does not fuse too early (deploy/rules_onnxruntime.py checks it).
Both sides of a residual sum and the input of a mean over the map are quantized: it has integer kernels for them. Sensor
values are transposed before they are quantized: ONNX Runtime takes the same time for that, and OpenVINO computes a
convolution that reads transposed integers in float, half as long again.
tensorrt: int8 with zero point 0 everywhere, float weights with their own Q/DQ, float bias; layers that TensorRT runs
better in FP16 keep no pair. At a residual sum the shortcut alone is quantized, for the sum is done by the convolution
before it (R8), and a mean reads floats (R7); deploy/rules_tensorrt.py has the rules and their sources.

A layer that is left in float on purpose (compress/exclude.py) keeps its weights in float and is declared in the graph's
metadata. For TensorRT it reads floats, too. ONNX Runtime can run a layer in integers only if it hands integers on, so
there what an integer layer makes stays in integers until right before the float one. And where it finds a float layer
between DQ and Q, it quantizes the weights by itself (its WeightBiasQuantization); a Max in front of that Q prevents it.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edge.compress.channels import block_channels
from edge.compress.export import finish
from edge.compress.quantize import InputRange, LayerRange
from edge.deploy.onnx_graph import FLOAT_PARTS, attribute, stored_float_parts
from edge.deploy.rules_tensorrt import worth_int8

MOVES_DATA = ("Concat", "Flatten", "MaxPool", "Reshape", "Transpose")


@dataclass(frozen=True)
class Placement:
    """The form in which one engine wants its integers."""

    activations: str  # "uint8" or "int8"
    weights_as_int8: bool  # stored as int8 with a DQ; otherwise as float with Q and DQ
    bias_as_int32: bool
    relu_as_max: bool  # behind a layer whose output stays float
    hands_on_integers: bool  # an integer layer, too, whose reader stays in float on purpose
    channels_last: bool  # flatten (C, T) features in the order (T, C), in which integer convolutions leave them
    transposes_values: bool  # those of the sensor, in integers
    blocks_channels: bool  # of images, in the numbers that its integer kernels want (compress/channels.py)
    quantizes: Callable[[str, tuple[int, ...], int], bool]  # operator, weight shape, groups -> worth an integer kernel
    operators: dict[str, tuple[int, ...]]  # operator without weights -> those of its inputs that are quantized


def _always(operator: str, shape: tuple[int, ...], groups: int) -> bool:
    return True


PLACEMENTS = {
    "cpu": Placement(
        activations="uint8",
        weights_as_int8=True,
        bias_as_int32=True,
        relu_as_max=True,
        hands_on_integers=True,
        channels_last=True,
        transposes_values=False,
        blocks_channels=True,
        quantizes=_always,
        operators={"Add": (0, 1), "GlobalAveragePool": (0,)},
    ),
    "tensorrt": Placement(
        activations="int8",
        weights_as_int8=False,
        bias_as_int32=False,
        relu_as_max=False,
        hands_on_integers=False,
        channels_last=False,
        transposes_values=True,
        blocks_channels=False,
        quantizes=worth_int8,
        operators={"Add": (1,), "GlobalAveragePool": ()},
    ),
}


@dataclass(frozen=True)
class Step:
    """Scale and zero point of one quantized activation."""

    scale: float
    zero_point: int
    kind: type[np.uint8] | type[np.int8]


def place(
    model: onnx.ModelProto, ranges: Mapping[str, InputRange], target: str, excluded: Collection[str] = ()
) -> onnx.ModelProto:
    """A copy of the float graph `model` with the Q/DQ pairs of `target`; ValueError if a layer is not in the graph.

    The layers `excluded` stay in float, whatever ranges they have, and are declared as FLOAT_PARTS.
    """
    placement = PLACEMENTS[target]
    surgery = Surgery(model, placement)
    for name, limits in ranges.items():
        if name in excluded:
            continue
        step = activation_step(limits, placement)
        if not isinstance(limits, LayerRange):
            node, port = surgery.operator(name)
            if port in placement.operators[node.op_type]:
                surgery.quantize_input(node, step, port)
            continue
        node = surgery.layer(name)
        weight = surgery.initializers[node.input[1]]
        if not placement.quantizes(node.op_type, weight.shape, attribute(node, "group", 1)):
            continue
        if placement.channels_last:
            surgery.flatten_channels_last(node)
        surgery.quantize_input(node, step)
        surgery.quantize_weight(node, limits.weight_scale, as_int8=placement.weights_as_int8)
        if placement.bias_as_int32:
            surgery.quantize_bias(node, step.scale * limits.weight_scale)
        if placement.relu_as_max:
            surgery.relu_to_max(node)
    for name in excluded:
        node = surgery.layer(name)
        if placement.hands_on_integers and name in ranges and surgery.is_integers(node.input[0]):
            if placement.channels_last:
                surgery.flatten_channels_last(node)
            surgery.quantize_input(node, activation_step(ranges[name], placement))
            surgery.keep_from_quantizer(node)
    surgery.declare_float(excluded)
    surgery.drop_dead()
    surgery.drop_relus()
    if placement.blocks_channels:
        block_channels(surgery)
    return surgery.finish()


def activation_step(limits: InputRange, placement: Placement) -> Step:
    """int8: [-limit, limit] in 255 steps around 0. uint8: [0, limit] in 255 steps, or int8's grid shifted by 128."""
    if placement.activations == "int8":
        return Step(limits.input_limit / 127, 0, np.int8)
    if limits.non_negative:
        return Step(limits.input_limit / 255, 0, np.uint8)
    return Step(limits.input_limit / 127, 128, np.uint8)


class Surgery:
    """A graph that is being rewritten: its nodes in order, its initializers as arrays."""

    def __init__(self, model: onnx.ModelProto, placement: Placement) -> None:
        self.placement = placement
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.nodes = list(self.model.graph.node)
        self.initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}
        self.shapes = {
            value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in self.model.graph.value_info
        }
        self.quantized: dict[str, tuple[str, Step]] = {}  # float tensor -> its integers and their step
        self.needed: set[str] = set()  # outputs of ReLUs that stay

    def layer(self, name: str) -> onnx.NodeProto:
        """The node whose weight is `name`.weight."""
        for node in self.nodes:
            if len(node.input) > 1 and node.input[1] == f"{name}.weight":
                found: onnx.NodeProto = node
                return found
        raise ValueError(f"the layer {name!r} has a trained range but no node in the exported graph")

    def operator(self, name: str) -> tuple[onnx.NodeProto, int]:
        """The node of an operator without weights and the number of the input that `name` ends with."""
        module, _, port = name.rpartition(".")
        for node in self.nodes:
            if node.name.rpartition(".")[0] == module and node.op_type in ("Add", "GlobalAveragePool"):
                return node, int(port)
        raise ValueError(f"the operator {module!r} has a trained range but no node in the exported graph")

    def flatten_channels_last(self, node: onnx.NodeProto) -> None:
        """Where `node` reads flattened (N, C, T) features: transpose them first, permute its weight's columns."""
        flatten = self.producer(node.input[0])
        if flatten is None or flatten.op_type != "Flatten":
            return
        _, channels, *space = self.shapes[flatten.input[0]]
        if np.prod(space) == 1:
            return
        transposed = f"{flatten.name}.channels_last"
        order = [0, *range(2, 2 + len(space)), 1]
        transpose = helper.make_node("Transpose", [flatten.input[0]], [transposed], transposed, perm=order)
        self.insert_before(flatten, transpose)
        flatten.input[0] = transposed
        weight = self.initializers[node.input[1]]
        columns = weight.reshape(len(weight), channels, *space)  # (out, C, T)
        self.initializers[node.input[1]] = columns.transpose(order).reshape(weight.shape)

    def quantize_input(self, node: onnx.NodeProto, step: Step, port: int = 0) -> None:
        """Q above the operations that only move data, those in integers, DQ right before `node`."""
        integers = self.integers(node.input[port], step)
        node.input[port] = self.dequantize(integers, node, port)

    def integers(self, tensor: str, step: Step) -> str:
        """The quantized form of `tensor`, whose parts, where it is joined or moved, are quantized instead of itself."""
        producer = self.producer(tensor)
        if producer is None or producer.op_type not in MOVES_DATA or self.stays_float(producer):
            return self.quantize(tensor, step)
        parts = len(producer.input) if producer.op_type == "Concat" else 1
        return self.move(producer, [self.integers(part, step) for part in producer.input[:parts]], step)

    def stays_float(self, node: onnx.NodeProto) -> bool:
        """Whether `node` transposes values that no layer has seen, and the placement wants that done in float."""
        if self.placement.transposes_values or node.op_type != "Transpose":
            return False
        upstream = [node.input[0]]
        while upstream:
            source = self.producer(upstream.pop())
            if source is not None:
                if source.op_type in ("Conv", "Gemm", "MatMul"):
                    return False
                upstream.extend(source.input)
        return True

    def is_integers(self, tensor: str) -> bool:
        """Whether another layer reads `tensor` quantized, or what makes it, before a ReLU, computes in integers."""
        if tensor in self.quantized:
            return True
        node = self.producer(tensor)
        if node is not None and node.op_type in MOVES_DATA:
            return any(map(self.is_integers, node.input if node.op_type == "Concat" else node.input[:1]))
        while node is not None and node.op_type in ("Relu", "Max"):
            node = self.producer(node.input[0])
        if node is None:
            return False
        data_and_weight = node.input[: 2 if node.op_type in ("Conv", "Gemm") else 1]
        sources = [self.producer(name) for name in data_and_weight]
        return all(each is not None and each.op_type == "DequantizeLinear" for each in sources)

    def declare_float(self, names: Collection[str]) -> None:
        """Add `names` to the parts that the graph declares as float on purpose."""
        if names:
            parts = [*dict.fromkeys([*stored_float_parts(self.model), *sorted(names)])]
            kept = {entry.key: entry.value for entry in self.model.metadata_props}
            helper.set_model_props(self.model, kept | {FLOAT_PARTS: json.dumps(parts)})

    def quantize(self, tensor: str, step: Step) -> str:
        """Q behind `tensor`, once for all its readers."""
        if tensor in self.quantized:
            integers, before = self.quantized[tensor]
            if before != step:
                raise ValueError(f"{tensor!r} has two trained ranges: {before} and {step}")
            return integers
        integers = f"{tensor}.quantized"
        parameters = self.parameters(tensor, np.float32(step.scale), step.kind(step.zero_point))
        q = helper.make_node("QuantizeLinear", [tensor, *parameters], [integers], f"{tensor}.q")
        self.insert_behind(tensor, q)
        self.quantized[tensor] = (integers, step)
        return integers

    def drop_relus(self) -> None:
        """Where all that reads a ReLU is a Q to uint8 with zero point 0, that zero point does the ReLU's work."""
        for tensor, (_, step) in self.quantized.items():
            relu = self.producer(tensor)
            cuts_off = step.kind is np.uint8 and step.zero_point == 0
            if tensor in self.needed:
                continue
            if cuts_off and relu is not None and relu.op_type in ("Relu", "Max") and self.readers(tensor) == 1:
                (q,) = (node for node in self.nodes if tensor in node.input)
                if q.op_type == "QuantizeLinear":
                    q.input[0] = relu.input[0]
                    self.nodes.remove(relu)

    def move(self, node: onnx.NodeProto, integers: list[str], step: Step) -> str:
        """The same data movement on integers; the float one goes when nobody reads it any more."""
        output = f"{node.output[0]}.quantized"
        if output not in {name for other in self.nodes for name in other.output}:
            moved = onnx.NodeProto()
            moved.CopyFrom(node)
            moved.name, moved.output[0] = f"{node.name}.quantized", output
            moved.input[: len(integers)] = integers
            self.insert_behind(max(integers, key=self.position), moved)
            self.quantized[node.output[0]] = (output, step)
        return output

    def dequantize(self, integers: str, node: onnx.NodeProto, port: int) -> str:
        """DQ right before `node`, with the parameters of the Q that made `integers`."""
        source = integers
        while (producer := self.producer(source)) is not None and producer.op_type != "QuantizeLinear":
            source = producer.input[0]
        assert producer is not None  # noqa: S101 - `quantize` has put it there
        name = f"{node.name}.input{port or ''}"
        pair = helper.make_node(
            "DequantizeLinear", [integers, *producer.input[1:]], [f"{name}.dequantized"], f"{name}.dq"
        )
        self.insert_before(node, pair)
        return f"{name}.dequantized"

    def quantize_weight(self, node: onnx.NodeProto, scale: npt.NDArray[np.float64], *, as_int8: bool) -> None:
        """Q/DQ on the weight, with one scale or one for each output channel; the Q is done here if the engine wants
        int8 weights.
        """
        name = node.input[1]
        parameters = self.parameters(name, np.float32(scale), np.zeros(scale.shape, np.int8))
        axis: dict[str, Any] = {"axis": 0} if scale.ndim else {}
        scale = scale.reshape(-1, *[1] * (self.initializers[name].ndim - 1)) if scale.ndim else scale
        integers = f"{name}.quantized"
        if as_int8:
            self.initializers[integers] = np.clip(np.rint(self.initializers[name] / scale), -127, 127).astype(np.int8)
        else:
            self.insert_before(
                node, helper.make_node("QuantizeLinear", [name, *parameters], [integers], f"{name}.q", **axis)
            )
        output = f"{name}.dequantized"
        self.insert_before(
            node, helper.make_node("DequantizeLinear", [integers, *parameters], [output], f"{name}.dq", **axis)
        )
        node.input[1] = output

    def quantize_bias(self, node: onnx.NodeProto, scale: npt.NDArray[np.float64]) -> None:
        """The bias in the accumulator's own steps, int32."""
        name = node.input[2]
        limit = np.iinfo(np.int32).max
        steps = np.clip(np.rint(self.initializers[name].astype(np.float64) / scale), -limit, limit)
        self.initializers[f"{name}.quantized"] = steps.astype(np.int32)
        inputs = [f"{name}.quantized", *self.parameters(name, np.float32(scale), np.zeros(scale.shape, np.int32))]
        axis: dict[str, Any] = {"axis": 0} if scale.ndim else {}
        self.insert_before(
            node, helper.make_node("DequantizeLinear", inputs, [f"{name}.dequantized"], f"{name}.dq", **axis)
        )
        node.input[2] = f"{name}.dequantized"

    def relu_to_max(self, node: onnx.NodeProto) -> None:
        """Put max(x, 0) in place of a ReLU behind `node`: ONNX Runtime would fuse a ReLU into a float Gemm before it
        looks for integer ones. A ReLU in front of a quantizer goes later, when its reader is placed.
        """
        for relu in [each for each in self.nodes if each.op_type == "Relu" and each.input[0] == node.output[0]]:
            self.initializers["zero"] = np.zeros((), np.float32)
            new = helper.make_node("Max", [relu.input[0], "zero"], list(relu.output), relu.name)
            self.nodes[self.nodes.index(relu)] = new

    def keep_from_quantizer(self, node: onnx.NodeProto) -> None:
        """Let a Max stand between `node` and a Q behind it: its ReLU, or one that changes nothing."""
        self.relu_to_max(node)
        readers = [each for each in self.nodes if node.output[0] in each.input]
        self.needed.update(each.output[0] for each in readers if each.op_type == "Max")
        for q in [each for each in readers if each.op_type == "QuantizeLinear"]:
            self.initializers["lowest"] = np.asarray(np.finfo(np.float32).min)
            same = f"{node.output[0]}.same"
            self.insert_before(q, helper.make_node("Max", [node.output[0], "lowest"], [same], same))
            q.input[0] = same

    def parameters(self, tensor: str, scale: npt.ArrayLike, zero_point: npt.ArrayLike) -> tuple[str, str]:
        """Initializers for scale and zero point of `tensor`."""
        names = (f"{tensor}.scale", f"{tensor}.zero_point")
        self.initializers[names[0]], self.initializers[names[1]] = np.asarray(scale), np.asarray(zero_point)
        return names

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        """The node that makes `tensor`, or None for an input or an initializer."""
        return next((node for node in self.nodes if tensor in node.output), None)

    def readers(self, tensor: str) -> int:
        """How many nodes read `tensor`."""
        return sum(tensor in node.input for node in self.nodes)

    def position(self, tensor: str) -> int:
        """Where in the order of the nodes `tensor` is made; -1 for an input."""
        producer = self.producer(tensor)
        return -1 if producer is None else self.nodes.index(producer)

    def insert_behind(self, tensor: str, node: onnx.NodeProto) -> None:
        """Put `node` right behind the node that makes `tensor`."""
        self.nodes.insert(self.position(tensor) + 1, node)

    def insert_before(self, node: onnx.NodeProto, new: onnx.NodeProto) -> None:
        """Put `new` right before `node`."""
        self.nodes.insert(self.nodes.index(node), new)

    def drop_dead(self) -> None:
        """Remove the nodes whose outputs nothing reads."""
        needed = {value.name for value in self.model.graph.output}
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        self.nodes = kept[::-1]

    def finish(self) -> onnx.ModelProto:
        """Write nodes and initializers back, without those that nothing reads, and check the graph."""
        del self.model.graph.node[:], self.model.graph.initializer[:]
        self.model.graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input}
        for name, values in self.initializers.items():
            if name in read:
                # numpy makes a contiguous scalar one axis long, and ONNX Runtime wants scalars at a sum of integers
                contiguous = np.ascontiguousarray(values).reshape(values.shape)
                self.model.graph.initializer.append(numpy_helper.from_array(contiguous, name))
        return finish(self.model)
