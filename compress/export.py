"""The student as a float ONNX graph: sensor values in, probabilities or units out.

One input named after its modality, (batch, *shape), NaN where a value is missing; one output `prediction`. Opset 17 is
the newest that the TensorRT of JetPack 6.0 reads (deploy/rules_tensorrt.py, R15).
"""

import io
import json
import warnings

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edge.deploy.onnx_graph import FLOAT_PARTS
from edge.sensors import Modality
from edge.tasks import Task
from edge.train.encoders.blocks import float_parts
from edge.train.scaling import Scaling
from edge.train.training import to_units

OPSET = 17


class Normalise(nn.Module):
    """(x - mean) / std for each band; a missing value becomes 0, the band's mean."""

    def __init__(self, scaling: Scaling, modality: Modality) -> None:
        super().__init__()
        # One constant for each value of a series: engines are slow at repeating a short row along the time axis.
        shape = modality.shape if modality.kind != "image" else scaling.mean.shape
        self.register_buffer("mean", torch.from_numpy(np.broadcast_to(scaling.mean, shape).copy()))
        self.register_buffer("inverse_std", torch.from_numpy(np.broadcast_to(1 / scaling.std, shape).copy()))
        self.register_buffer("missing", torch.zeros(()))

    mean: Tensor
    inverse_std: Tensor
    missing: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(N, *shape) in sensor units -> z-scores without NaN."""
        z = (x - self.mean) * self.inverse_std
        return torch.where(torch.isnan(z), self.missing, z)


class PredictionOnly(nn.Module):
    """A branch as it was trained, nothing folded: to show what folding saves."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """(N, *shape), normalised -> prediction (N, K)."""
        prediction: Tensor = self.branch(x).prediction
        return prediction


class Exported(nn.Module):
    """Normalisation, the student, and the way back to probabilities or units, in one module."""

    def __init__(
        self, student: nn.Module, modality: Modality, task: Task, scaling: Scaling, target_scaling: tuple[float, float]
    ) -> None:
        super().__init__()
        self.normalise, self.student, self.task = Normalise(scaling, modality), student, task
        if task.kind == "regression":
            _scale_output(student, target_scaling)

    def forward(self, x: Tensor) -> Tensor:
        """(N, *shape) in sensor units, NaN = missing -> (N, K) in units or as probabilities."""
        output: Tensor = self.student(self.normalise(x))
        return output if self.task.kind == "regression" else to_units(self.task, output, (0.0, 1.0))


def export(
    student: nn.Module, modality: Modality, task: Task, scaling: Scaling, target_scaling: tuple[float, float]
) -> onnx.ModelProto:
    """Trace a folded student (it is changed: a regression head afterwards speaks units) and tidy the graph."""
    module = Exported(student, modality, task, scaling, target_scaling).eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated; the other one needs onnxscript and ten times as long for this graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(2, *modality.shape),), buffer, dynamo=False, opset_version=OPSET,  # type: ignore[arg-type]
            input_names=[modality.name], output_names=["prediction"],
            dynamic_axes={modality.name: {0: "batch"}, "prediction": {0: "batch"}},
        )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    _constants_to_initializers(model)
    _name_tensors(model)
    model.producer_name = "edge-colearn"
    if parts := [name for name in float_parts(student) if name.startswith(("specific.", "shared."))]:
        onnx.helper.set_model_props(model, {FLOAT_PARTS: json.dumps(parts)})
    return finish(model)


def finish(model: onnx.ModelProto) -> onnx.ModelProto:
    """Infer every shape and let ONNX check the graph in full."""
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def _scale_output(student: nn.Module, target_scaling: tuple[float, float]) -> None:
    """Fold y * std + mean into the last linear layer."""
    head = [layer for layer in student.modules() if isinstance(layer, nn.Linear)][-1]
    mean, std = target_scaling
    with torch.no_grad():
        head.weight.mul_(std)
        head.bias.mul_(std).add_(mean)


def _constants_to_initializers(model: onnx.ModelProto) -> None:
    """One place for constants. The exporter also stores equal weights once and hands them on through Identity nodes:
    each gets its own again, because fine-tuning will part them and placement finds layers by their weights' names.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensor = node.attribute[0].t
        elif node.op_type == "Identity" and node.input[0] in stored:
            tensor = stored[node.input[0]]
        else:
            kept.append(node)
            continue
        copied = onnx.TensorProto()
        copied.CopyFrom(tensor)
        copied.name = node.output[0]
        stored[copied.name] = copied
        model.graph.initializer.append(copied)
    if len(kept) < len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(kept)


def _name_tensors(model: onnx.ModelProto) -> None:
    """Names that say what the tensor is: `specific.conv1.output` for `/student/specific/conv1/Conv_output_0`."""
    renamed: dict[str, str] = {}
    taken = {value.name for value in (*model.graph.input, *model.graph.output)}

    def name(old: str, wish: str) -> str:
        if old and old not in renamed:
            new, number = wish, 2
            while new in taken:
                new, number = f"{wish}.{number}", number + 1
            taken.add(new)
            renamed[old] = new
        return renamed.get(old, old)

    for value in (*model.graph.input, *model.graph.output):
        renamed[value.name] = value.name
    for initializer in model.graph.initializer:
        if not _made_up(initializer.name):
            initializer.name = name(initializer.name, initializer.name.removeprefix("student."))
    for node in model.graph.node:
        node.name = node.name.removeprefix("/").removeprefix("student/").replace("/", ".") or node.op_type
        module = node.name.rpartition(".")[0] or node.name
        node.input[:] = [name(tensor, f"{module}.constant" if _made_up(tensor) else tensor) for tensor in node.input]
        node.output[:] = [name(tensor, f"{module}.output") for tensor in node.output]
    for initializer in model.graph.initializer:
        initializer.name = renamed.get(initializer.name, initializer.name)


def _made_up(tensor: str) -> bool:
    """Whether the exporter made this name up; for an input that no node before has named, it is a constant's."""
    return tensor.startswith(("/", "onnx::"))
