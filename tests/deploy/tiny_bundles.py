"""A small real bundle, written with onnx.helper: a series of two bands, a Conv and a Gemm, missing values inside.

`reference` is the same student in numpy, so that nothing is compared with itself.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.card import make_card
from edge.deploy.bundle import Bundle, write_bundle
from edge.deploy.engine import open_engine
from edge.deploy.half import half_graph
from edge.sensors import Band, Modality
from edge.tasks import Task

OPTICAL = Modality(
    "optical", (Band("B04", "reflectance x 10000", "red"), Band("ndvi")), ("time", "band"), (3, 2), "Sentinel-2"
)
TASKS = {
    "binary": Task("binary", "crop", ("no crop", "crop")),
    "multilabel": Task("multilabel", "use", ("meadow", "orchard", "vineyard")),
    "regression": Task("regression", "lfmc", (), "%"),
}
KEYS = ("fp32", "int8.tensorrt", "int8.cpu")
MEAN = np.array([1000, 0.4], np.float32)
SPREAD = np.array([500, 0.2], np.float32)
INPUT_SCALE, HIDDEN_SCALE = 3 / 127, 8 / 127


def values(n: int = 16, seed: int = 0) -> np.ndarray:
    """Sensor values (n, 3, 2) with some missing."""
    random = np.random.default_rng(seed)
    array = (MEAN + SPREAD * random.normal(size=(n, 3, 2))).astype(np.float32)
    array[random.random(array.shape) < 0.1] = np.nan
    return array


def weights(task: Task) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        "conv": random.normal(size=(4, 2, 3)).astype(np.float32),
        "gemm": random.normal(size=(task.n_outputs, 12)).astype(np.float32) / 2,
        "bias": random.normal(size=task.n_outputs).astype(np.float32),
    }


def reference(task: Task, inputs: np.ndarray) -> np.ndarray:
    """The float student, with nothing but numpy."""
    weight = weights(task)
    scaled = np.where(np.isnan(inputs), 0, (inputs - MEAN) / SPREAD).transpose(0, 2, 1)  # (n, band, time)
    padded = np.pad(scaled, ((0, 0), (0, 0), (1, 1)))
    windows = np.stack([padded[:, :, step : step + 3] for step in range(3)], axis=1)  # (n, time, band, 3)
    hidden = np.maximum(np.einsum("ntbk,cbk->nct", windows, weight["conv"]), 0).reshape(len(inputs), -1)
    outputs = hidden @ weight["gemm"].T + weight["bias"]
    if task.kind == "binary":
        exponents = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)
    return 1 / (1 + np.exp(-outputs)) if task.kind == "multilabel" else outputs


def student(task: Task, key: str, batch: str | int = "batch") -> onnx.ModelProto:
    """The graph `key` of the bundle."""
    stored = {"mean": MEAN, "spread": SPREAD, "zero": np.float32(0), **weights(task)}
    nodes = [
        helper.make_node("IsNaN", ["optical"], ["missing"]),
        helper.make_node("Sub", ["optical", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "spread"], ["scaled"]),
        helper.make_node("Where", ["missing", "zero", "scaled"], ["filled"]),
        helper.make_node("Transpose", ["filled"], ["series"], perm=[0, 2, 1]),
    ]

    def pair(tensor: str, scale: Any, zero: Any, **axis: int) -> str:
        stored[f"{tensor}.scale"], stored[f"{tensor}.zero"] = np.asarray(scale, np.float32), np.asarray(zero)
        step = [f"{tensor}.scale", f"{tensor}.zero"]
        nodes.append(helper.make_node("QuantizeLinear", [tensor, *step], [f"{tensor}.q"], **axis))
        nodes.append(helper.make_node("DequantizeLinear", [f"{tensor}.q", *step], [f"{tensor}.dq"], **axis))
        return f"{tensor}.dq"

    def weight(name: str) -> str:
        if key == "fp32":
            return name
        scale = np.abs(stored[name]).reshape(len(stored[name]), -1).max(axis=1) / 127
        return pair(name, scale, np.zeros(len(scale), np.int8), axis=0)

    def activation(name: str, scale: float, *, signed: bool) -> str:
        if key == "fp32":
            return name
        if key == "int8.cpu":
            return pair(name, scale if signed else scale / 2, np.uint8(128 if signed else 0))
        return pair(name, scale, np.int8(0))

    data = activation("series", INPUT_SCALE, signed=True)
    nodes.append(helper.make_node("Conv", [data, weight("conv")], ["convolved"], "first", pads=[1, 1]))
    nodes.append(helper.make_node("Relu", ["convolved"], ["hidden"]))
    data = activation("hidden", HIDDEN_SCALE, signed=False)
    nodes.append(helper.make_node("Flatten", [data], ["flat"]))
    end = {"binary": "Softmax", "multilabel": "Sigmoid", "regression": "Identity"}[task.kind]
    nodes.append(helper.make_node("Gemm", ["flat", weight("gemm"), "bias"], ["logits"], "last", transB=1))
    nodes.append(helper.make_node(end, ["logits"], ["prediction"]))
    graph = helper.make_graph(
        nodes,
        "student",
        [helper.make_tensor_value_info("optical", TensorProto.FLOAT, [batch, 3, 2])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [batch, task.n_outputs])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def card(task: Task, keys: tuple[str, ...] = KEYS, modality: Modality = OPTICAL) -> dict[str, Any]:
    return make_card(
        name=f"tiny {modality.name}", modality=modality, task=task, graphs=keys, created="2026-01-31T12:00:00Z",
        training={"method": "mdico", "modalities": ["optical", "sar"], "data": "tiny", "licence": "CC-BY-4.0"},
        accuracy={"fp32": {"metric": task.metric, "value": 0.8}}, hyperparameters={"width": 4},
    )  # fmt: skip


def build(
    folder: Path,
    kind: str = "binary",
    *,
    keys: tuple[str, ...] = KEYS,
    batch: str | int = "batch",
    gates: tuple[dict[str, Any], ...] = (),
    golden: dict[str, np.ndarray] | None = None,
) -> Bundle:
    """Write the bundle to `folder`; its graphs stay in `<folder>.graphs`."""
    task = TASKS[kind]
    graphs = {key: folder.with_name(f"{folder.name}.graphs") / f"{key}.onnx" for key in keys}
    arrays = {"input": values(batch if isinstance(batch, int) else 16)}
    for key, path in graphs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(half_graph(student(task, "fp32", batch)) if key == "fp16" else student(task, key, batch), path)
        arrays[f"expected.{key}"] = open_engine(path).run({"optical": arrays["input"]})["prediction"]
    report = {"schema": "edge.report/1", "gates": list(gates)}
    return write_bundle(
        folder,
        card=card(task, keys),
        graphs=graphs,
        golden={**arrays, **(golden or {})},
        report=report,
        report_html="<p>",
    )
