"""Small quantized graphs for tests, written with onnx.helper: a TempCNN, a residual block, a concat, and ways to break
them.

A node carries the name of its output; a pair behind the tensor `t` is `t.q` and `t.dq` with the scale `t.scale` and the
zero point `t.zero`. Forms: "tensorrt" (int8, float weights with Q/DQ, float bias), "cpu" (uint8, int8 weights, int32
bias), "float".
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TIMES, BANDS, CHANNELS, CLASSES = 12, 4, 16, 3


class Net:
    """A graph that grows node by node."""

    def __init__(self, form: str = "tensorrt", opset: int = 17) -> None:
        self.form, self.opset = form, opset
        self.nodes: list[onnx.NodeProto] = []
        self.values: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(0)

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def store(self, name: str, values: Any) -> str:
        self.values[name] = np.asarray(values)
        return name

    def pair(self, tensor: str, *, signed: bool = False, scale: float = 0.02) -> str:
        """Q and DQ behind an activation."""
        if self.form == "float":
            return tensor
        zero = np.int8(0) if self.form == "tensorrt" else np.uint8(128 if signed else 0)
        step = [self.store(f"{tensor}.scale", np.float32(scale)), self.store(f"{tensor}.zero", zero)]
        self.add("QuantizeLinear", [tensor, *step], f"{tensor}.q")
        return self.add("DequantizeLinear", [f"{tensor}.q", *step], f"{tensor}.dq")

    def layer(self, operator: str, data: str, name: str, shape: tuple[int, ...], *, int8: bool) -> str:
        """A Conv [Cout, Cin, k] or a Gemm [out, in]; with `int8` its weight is quantized ("cpu": and its bias)."""
        weight = (self.random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        bias = self.random.normal(size=shape[0]).astype(np.float32) / 10
        names = [self.store(f"{name}.weight", weight), self.store(f"{name}.bias", bias)]
        if int8 and self.form != "float":
            names = self._quantized(name, data, weight, bias)
        fixed = {"pads": [shape[-1] // 2] * 2} if operator == "Conv" else {"transB": 1}
        return self.add(operator, [data, *names], name, **fixed)

    def _quantized(self, name: str, data: str, weight: np.ndarray, bias: np.ndarray) -> list[str]:
        scale = np.abs(weight).reshape(len(weight), -1).max(1) / 127
        step = [
            self.store(f"{name}.weight.scale", scale),
            self.store(f"{name}.weight.zero", np.zeros(len(scale), np.int8)),
        ]
        integers = f"{name}.weight.q"
        if self.form == "tensorrt":
            self.add("QuantizeLinear", [f"{name}.weight", *step], integers, axis=0)
            return [self.add("DequantizeLinear", [integers, *step], f"{name}.weight.dq", axis=0), f"{name}.bias"]
        self.store(integers, np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8))
        accumulator = scale * self.values[self.nodes[-1].input[1]]  # the pair of the data has just been added
        step_of_bias = [
            self.store(f"{name}.bias.scale", accumulator),
            self.store(f"{name}.bias.zero", np.zeros(len(scale), np.int32)),
        ]
        self.store(f"{name}.bias.q", np.rint(bias / accumulator).astype(np.int32))
        return [
            self.add("DequantizeLinear", [integers, *step], f"{name}.weight.dq", axis=0),
            self.add("DequantizeLinear", [f"{name}.bias.q", *step_of_bias], f"{name}.bias.dq", axis=0),
        ]

    def model(self, output: str, shape: tuple[int, ...] = (CLASSES,)) -> onnx.ModelProto:
        read = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes,
            "student",
            [helper.make_tensor_value_info("optical", TensorProto.FLOAT, ["batch", TIMES, BANDS])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *shape])],
            [numpy_helper.from_array(value, name) for name, value in self.values.items() if name in read],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def tempcnn(form: str = "tensorrt", channels: int = CHANNELS) -> onnx.ModelProto:
    """optical -> conv1 (int8 on the CPU only) -> conv2 -> flat -> dense -> head (float) -> prediction; ReLU between."""
    net = Net(form)
    data = net.add("Transpose", ["optical"], "bands", perm=[0, 2, 1])  # (batch, bands, times)
    if form == "cpu":
        data = net.pair(data, signed=True, scale=4 / 127)
    net.layer("Conv", data, "conv1", (channels, BANDS, 5), int8=form == "cpu")
    net.layer("Conv", net.pair(net.add("Relu", ["conv1"], "relu1")), "conv2", (channels, channels, 5), int8=True)
    net.add("Relu", ["conv2"], "relu2")
    net.add("Reshape", ["relu2", net.store("shape", [0, -1])], "flat")
    net.layer("Gemm", net.pair("flat"), "dense", (32, channels * TIMES), int8=True)
    net.add("Relu", ["dense"], "relu3")
    data = net.pair("relu3") if form == "cpu" else "relu3"
    net.layer("Gemm", data, "head", (CLASSES, 32), int8=False)
    net.add("Softmax", ["head"], "prediction", axis=-1)
    return net.model("prediction")


def residual() -> onnx.ModelProto:
    """relu1 -> conv2 -> relu2 -> conv3 -> add with relu1.dq (the pair of conv2, shared) -> relu4 -> mean -> head."""
    net = Net()
    net.add("Transpose", ["optical"], "bands", perm=[0, 2, 1])
    net.layer("Conv", "bands", "conv1", (CHANNELS, BANDS, 5), int8=False)
    shortcut = net.pair(net.add("Relu", ["conv1"], "relu1"))
    net.layer("Conv", shortcut, "conv2", (CHANNELS, CHANNELS, 5), int8=True)
    net.layer("Conv", net.pair(net.add("Relu", ["conv2"], "relu2")), "conv3", (CHANNELS, CHANNELS, 5), int8=True)
    net.add("Add", ["conv3", shortcut], "sum")
    net.add("Relu", ["sum"], "relu4")
    net.add("ReduceMean", ["relu4"], "mean", axes=[2], keepdims=0)
    net.layer("Gemm", "mean", "head", (CLASSES, CHANNELS), int8=False)
    net.add("Softmax", ["head"], "prediction", axis=-1)
    return net.model("prediction")


def concat() -> onnx.ModelProto:
    """Two convolutions on one input; their outputs, quantized with one scale, are joined and read by conv4."""
    net = Net()
    net.add("Transpose", ["optical"], "bands", perm=[0, 2, 1])
    net.layer("Conv", "bands", "conv1", (CHANNELS, BANDS, 5), int8=False)
    net.layer("Conv", "bands", "conv2", (CHANNELS, BANDS, 3), int8=False)
    branches = [net.pair(net.add("Relu", [name], f"relu_{name}")) for name in ("conv1", "conv2")]
    net.add("Concat", branches, "both", axis=1)
    net.layer("Conv", "both", "conv4", (CHANNELS, 2 * CHANNELS, 5), int8=True)
    net.add("Relu", ["conv4"], "relu4")
    net.add("ReduceMean", ["relu4"], "mean", axes=[2], keepdims=0)
    net.layer("Gemm", "mean", "head", (CLASSES, CHANNELS), int8=False)
    net.add("Softmax", ["head"], "prediction", axis=-1)
    return net.model("prediction")


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """The node called `name`."""
    return next(each for each in model.graph.node if each.name == name)


def store(model: onnx.ModelProto, name: str, values: Any) -> str:
    """Put an initializer in, in place of one with that name."""
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(values), name)])
    return name


def insert(model: onnx.ModelProto, before: str, *nodes: onnx.NodeProto) -> None:
    """Put nodes in front of the node called `before`."""
    at = [each.name for each in model.graph.node].index(before)
    order = [*list(model.graph.node)[:at], *nodes, *list(model.graph.node)[at:]]
    del model.graph.node[:]
    model.graph.node.extend(order)


def insert_pair(model: onnx.ModelProto, before: str, position: int, *, scale: float = 0.02) -> None:
    """Quantize input `position` of the node called `before` with an int8 pair of its own."""
    reader = node(model, before)
    tensor = reader.input[position]
    step = [store(model, f"{before}.new.scale", np.float32(scale)), store(model, f"{before}.new.zero", np.int8(0))]
    insert(
        model,
        before,
        helper.make_node("QuantizeLinear", [tensor, *step], [f"{before}.new.q"], f"{before}.new.q"),
        helper.make_node("DequantizeLinear", [f"{before}.new.q", *step], [f"{before}.new.dq"], f"{before}.new.dq"),
    )
    node(model, before).input[position] = f"{before}.new.dq"
