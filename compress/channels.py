"""Channels in the numbers that ONNX Runtime's integer convolutions want; what an image student computes stays the same.

For int8 weights with zero point 0 its fast kernels read an image in place, through pointers. On x86 they take a
convolution whose channels are multiples of 4 on both sides, with 16 of them or more behind it, and a depthwise one with
a multiple of 16. Any other makes maps of int32 on its way, and a copy of every window: up to twice the time.
Source: MlasConvSymPackWSize in
https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/mlas/lib/convsym.cpp, and who calls it,
https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/providers/cpu/quantization/qlinearconv.cc.

- Sensor values get channels of zeros up to a multiple of 4.
- Depthwise convolutions get filters of zeros up to a multiple of 16; the layers around them give and ignore zeros.
- Both encoders of a student read the same input: the layers that they begin with are computed as one with twice the
  channels, as far as they form a chain of 1 x 1 and depthwise convolutions behind the first. On large maps with few
  channels the time goes into the pointers, and those are the same for any number of channels. The first layers that
  are two again read zeros in place of the other encoder's half.

The integers stay as they were, ties in rounding apart: each encoder keeps its own step in them, and where the graph can
name only one, the scales of the weights take up the difference. Graphs for series have no convolution over images and
are left alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from edge.deploy.onnx_graph import attribute

if TYPE_CHECKING:
    from edge.compress.placement import Surgery

CHANNELS, FILTERS, OUTPUTS = 4, 16, 16  # multiples of channels and of depthwise filters; the fewest outputs
Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class IntegerConv:
    """A convolution over images between the DQs of its three inputs and the Q of its output."""

    surgery: "Surgery"
    node: NodeProto
    data: NodeProto
    weight: NodeProto
    bias: NodeProto
    quantizer: NodeProto

    @property
    def shape(self) -> tuple[int, ...]:
        """(outputs, inputs of a group, height, width)."""
        return self.surgery.initializers[self.weight.input[0]].shape

    @property
    def depthwise(self) -> bool:
        """Whether each channel has a filter of its own."""
        return bool(attribute(self.node, "group", 1) == self.shape[0] > 1)

    @property
    def pointwise(self) -> bool:
        """Whether it reads a pixel at a time."""
        return self.shape[2:] == (1, 1) and not self.depthwise

    def step(self, pair: NodeProto) -> float:
        """The scale of a Q or DQ of activations."""
        return float(self.surgery.initializers[pair.input[1]])

    def scales(self) -> npt.NDArray[np.float64]:
        """The scale of each output channel's weights."""
        stored = self.surgery.initializers[self.weight.input[1]].astype(np.float64)
        return np.broadcast_to(stored, self.shape[:1])

    def integers(self) -> tuple[Array, Array]:
        """Weights int8 and bias int32."""
        return self.surgery.initializers[self.weight.input[0]], self.surgery.initializers[self.bias.input[0]]

    def like(self, other: "IntegerConv") -> bool:
        """Whether both differ in nothing but weights and scales."""
        zeros = [
            [int(self.surgery.initializers[pair.input[2]]) for pair in (each.data, each.quantizer)]
            for each in (self, other)
        ]
        return self.shape == other.shape and self.node.attribute == other.node.attribute and zeros[0] == zeros[1]

    def store(self, weight: Array, bias: Array, scales: npt.NDArray[np.float64]) -> None:
        """Other weights, with a scale for each output channel, and a bias in steps of input times weight."""
        values = self.surgery.initializers
        for pair, integers, scale in ((self.weight, weight, scales), (self.bias, bias, scales * self.step(self.data))):
            values[pair.input[0]], values[pair.input[1]] = integers, scale.astype(np.float32)
            values[pair.input[2]] = np.zeros(len(scale), integers.dtype)
            del pair.attribute[:]
            pair.attribute.append(helper.make_attribute("axis", 0))
        self.set_groups()

    def widen(self, outputs: int = 0, inputs: tuple[int, int] = (0, 0)) -> None:
        """Channels of zeros behind the outputs, and before and behind the inputs."""
        values = self.surgery.initializers
        values[self.weight.input[0]] = np.pad(self.integers()[0], [(0, outputs), inputs, (0, 0), (0, 0)])
        values[self.bias.input[0]] = np.pad(self.integers()[1], (0, outputs))
        for name in (*self.weight.input[1:], *self.bias.input[1:]):
            if values[name].ndim:  # any scale will do for zeros
                values[name] = np.pad(values[name], (0, outputs), mode="edge")
        self.set_groups()

    def set_groups(self) -> None:
        """A depthwise convolution has as many groups as filters."""
        for each in self.node.attribute:
            if each.name == "group" and each.i > 1:
                each.i = self.shape[0]


def block_channels(surgery: "Surgery") -> None:
    """Rewrite the integer convolutions over images in a graph with the Q/DQ pairs of the CPU."""
    merge_encoders(surgery)
    for conv in list(integer_convs(surgery)):
        if conv.depthwise and conv.shape[0] % FILTERS:
            add_filters(conv)
        elif not conv.depthwise and conv.shape[1] % CHANNELS:
            add_bands(conv)


def integer_convs(surgery: "Surgery") -> Iterator[IntegerConv]:
    """All of them, in the order of the graph."""
    for node in surgery.nodes:
        if (found := integer_conv(surgery, node)) is not None:
            yield found


def integer_conv(surgery: "Surgery", node: NodeProto) -> IntegerConv | None:
    """`node` as an integer convolution over images; None if it is anything else."""
    if node.op_type != "Conv" or len(node.input) != 3:
        return None
    above = [surgery.producer(name) for name in node.input]
    below = [each for each in surgery.nodes if node.output[0] in each.input]
    data, weight, bias = (each if each and each.op_type == "DequantizeLinear" else None for each in above)
    if data is None or weight is None or bias is None or [each.op_type for each in below] != ["QuantizeLinear"]:
        return None
    stored = surgery.initializers.get(weight.input[0])
    if stored is None or stored.ndim != 4 or weight.input[0] == data.input[0]:
        return None
    return IntegerConv(surgery, node, data, weight, bias, below[0])


def reader(conv: IntegerConv) -> IntegerConv | None:
    """The integer convolution that alone reads what `conv` gives."""
    surgery, tensor = conv.surgery, conv.quantizer.output[0]
    for _ in range(2):  # the DQ, and what reads that
        found = [each for each in surgery.nodes if tensor in each.input]
        if len(found) != 1:
            return None
        tensor = found[0].output[0]
    return integer_conv(surgery, found[0])


def writer(conv: IntegerConv) -> IntegerConv | None:
    """The integer convolution that gives what `conv` reads."""
    quantizer = conv.surgery.producer(conv.data.input[0])
    made_by = None if quantizer is None else conv.surgery.producer(quantizer.input[0])
    return None if made_by is None else integer_conv(conv.surgery, made_by)


def merge_encoders(surgery: "Surgery") -> None:
    """Compute as one the layers that both encoders begin with."""
    for first, second in combinations(list(integer_convs(surgery)), 2):
        if first.data.input[0] == second.data.input[0] and not first.depthwise and first.like(second):
            chain = twins(first, second)
            ratio = 1.0  # of the second encoder's step to the first's, which the graph names
            for pair in chain[:-1]:
                ratio = merge(*pair, ratio)
            if len(chain) > 1:
                read_half(*chain[-1], ratio)
                surgery.drop_dead()
                return


def twins(first: IntegerConv, second: IntegerConv) -> list[tuple[IntegerConv, IntegerConv]]:
    """Pairs of equal layers from this one on, each the only reader of the one before; the last is a 1 x 1 convolution,
    or there is only this one.
    """
    chain = [(first, second)]
    while True:
        after = reader(chain[-1][0]), reader(chain[-1][1])
        if after[0] is None or after[1] is None or not after[0].like(after[1]):
            break
        if not (after[0].depthwise or after[0].pointwise):
            break
        chain.append((after[0], after[1]))
    while chain[-1][0].depthwise:
        chain.pop()
    return chain


def merge(first: IntegerConv, second: IntegerConv, ratio: float) -> float:
    """Let `first` compute both; gives the ratio of their steps behind it."""
    (weight, bias), (other, other_bias) = first.integers(), second.integers()
    if first.data.input[0] != second.data.input[0] and not first.depthwise:
        inputs = first.shape[1]
        weight, other = (
            np.pad(w, [(0, 0), side, (0, 0), (0, 0)]) for w, side in ((weight, (0, inputs)), (other, (inputs, 0)))
        )
    behind = second.step(second.quantizer) / first.step(first.quantizer)
    scales = np.concatenate([first.scales(), second.scales() * ratio / behind])
    first.store(np.concatenate([weight, other]), np.concatenate([bias, other_bias]), scales)
    return behind


def read_half(first: IntegerConv, second: IntegerConv, ratio: float) -> None:
    """Let each read its own half of what is computed as one."""
    inputs = first.shape[1]
    first.widen(inputs=(0, inputs))
    second.widen(inputs=(inputs, 0))
    second.data.input[:] = first.data.input
    scale = second.weight.input[1]
    second.surgery.initializers[scale] = (second.surgery.initializers[scale] * ratio).astype(np.float32)


def add_filters(conv: IntegerConv) -> None:
    """Filters of zeros for a depthwise convolution that stands alone between two that are none."""
    before, after, more = writer(conv), reader(conv), -conv.shape[0] % FILTERS
    if before is None or after is None or before.depthwise or after.depthwise or reader(before) is None:
        return
    before.widen(outputs=more)
    conv.widen(outputs=more)
    after.widen(inputs=(0, more))


def add_bands(conv: IntegerConv) -> None:
    """Channels of zeros for a convolution that reads sensor values."""
    surgery, tensor, more = conv.surgery, conv.data.input[0], -conv.shape[1] % CHANNELS
    if writer(conv) is not None or conv.shape[0] < OUTPUTS or conv.shape[0] % CHANNELS:
        return
    wide = f"{tensor}.bands"
    if surgery.producer(wide) is None:
        surgery.initializers[f"{wide}.pads"] = np.array([0] * 5 + [more, 0, 0])  # (N, C, H, W): behind C
        surgery.insert_behind(tensor, helper.make_node("Pad", [tensor, f"{wide}.pads"], [wide], wide))
    conv.data.input[0] = wide
    conv.widen(inputs=(0, more))
