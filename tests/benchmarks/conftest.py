from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.benchmarks.report import Report, gate, make_report
from edge.tasks import Task

CLASSES = Task("multiclass", name="crop", classes=("wheat", "maize", "rape"))
MACHINE = {
    "cpu": "Test CPU", "cores": 2, "int8_flags": ["avx512_vnni"], "memory_mb": 4096, "gpu": None, "board": None,
    "power_mode": None, "governor": None, "load_average": [0.1, 0.2, 0.3], "system": "Linux",
    "versions": {"python": "3.11.7", "onnxruntime": "1.32.0"},
}  # fmt: skip


@pytest.fixture
def student(tmp_path: Path) -> Callable[..., Path]:
    """Makes a graph: softmax of a linear layer, input `optical` (batch, 4), output `prediction` (batch, 3)."""

    def make(name: str = "model.fp32.onnx", seed: int = 0) -> Path:
        weight = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["optical", "weight"], ["logits"]),
                helper.make_node("Softmax", ["logits"], ["prediction"], axis=1),
            ],
            "student",
            [helper.make_tensor_value_info("optical", TensorProto.FLOAT, ["batch", 4])],
            [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(weight, "weight")],
        )
        path = tmp_path / name
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path

    return make


def row(method: str, precision: str, batch: int, p50: float, metric: float | None, **changes: Any) -> dict[str, Any]:
    """A result row of a quiet machine."""
    latency = {"p50": p50, "p90": 1.1 * p50, "p99": 1.3 * p50, "mean": 1.02 * p50, "n": 1000, "cv": 0.05}
    return {
        "method": method,
        "precision": precision,
        "modality": "optical",
        "engine": "onnxruntime",
        "batch": batch,
        "threads": 1,
        "latency_ms": latency,
        "latency_histogram": {"edges": [0.9 * p50, p50, 1.1 * p50, 1.3 * p50], "counts": [450, 450, 100]},
        "throughput_per_s": batch / latency["mean"] * 1e3,
        "energy_mj": None,
        "metric": metric,
        "metric_ci95": None if metric is None else [metric - 0.02, metric + 0.02],
        "model_bytes": 1_900_000 if precision == "fp32" else 520_000,
        "peak_rss_mb": 71.3,
        "other_load": 0.02,
    } | changes


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Two methods in two precisions at two batch sizes; INT8 four times as fast, co-learning four points better."""
    return [
        row(method, precision, batch, scale * time, metric)
        for method, precision, scale, metric in (
            ("single", "fp32", 1.0, 0.780),
            ("single", "int8", 0.25, 0.777),
            ("mdico", "fp32", 1.6, 0.820),
            ("mdico", "int8", 0.4, 0.818),
        )
        for batch, time in ((1, 0.2), (256, 12.0))
    ]


@pytest.fixture
def report(rows: list[dict[str, Any]]) -> Report:
    return make_report(
        dataset="simulated",
        modality="optical",
        task=CLASSES,
        protocol="grouped, fold 0 of 5",
        results=rows,
        gates=[gate("metric drop", 0.01, 0.002, True), gate("INT8 not slower than FP32", 1.0, 4.0, True)],
        command="edge build --modality optical --int8",
        machine=MACHINE,
    )
