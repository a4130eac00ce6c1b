"""Gates: the bounds that must hold for a build to pass. Each gives an entry of the report's `gates`."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.metrics import relative_drop
from edge.tasks import Task

Array = npt.NDArray[Any]
Gate = dict[str, Any]

FOLDING = 1e-5  # largest difference that exact folding may make, in logits or standard deviations
PARITY_CLASSES = 0.99  # of the predicted classes are those of the torch student
PARITY_SPREAD = 0.02  # root mean square difference to it, in standard deviations of the target


def at_most(name: str, bound: float, value: float | None) -> Gate:
    """A gate that `value` passes up to `bound`; what could not be measured fails."""
    from edge.benchmarks.report import gate

    return gate(name, bound, value, value is not None and value <= bound)


def parity_gate(name: str, task: Task, reference: Array, found: Array, target: Array) -> Gate:
    """Whether an engine's predictions (n, K) are those of the torch model.

    Classification: share of equal classes (multi-label: of equal labels). Regression: root mean square difference in
    standard deviations of the target.
    """
    from edge.benchmarks.report import gate
    from edge.deploy.verify import decisions

    if task.kind == "regression":
        spread = float(np.sqrt(np.mean((found - reference) ** 2)) / np.std(target))
        return at_most(f"parity {name}: rms difference / target sd", PARITY_SPREAD, spread)
    equal = decisions(task, found) == decisions(task, reference)
    share = float(np.mean(equal))
    passed = share >= PARITY_CLASSES or np.sum(~equal) <= 1  # below 100 samples one flip alone is more than 1 %
    return gate(f"parity {name}: share of equal classes", PARITY_CLASSES, share, bool(passed))


def placement_gates(graphs: dict[str, Path]) -> list[Gate]:
    """The INT8 graphs keep the rules of the engines that they are for; none without INT8 graphs."""
    from edge.deploy.rules_onnxruntime import check_fused
    from edge.deploy.rules_tensorrt import check_tensorrt

    if "int8.cpu" not in graphs:
        return []
    return [
        at_most("int8.tensorrt: broken rules", 0, len(check_tensorrt(graphs["int8.tensorrt"]))),
        at_most("int8.cpu: nodes left in float", 0, len(check_fused(graphs["int8.cpu"]))),
    ]


def cost_gates(task: Task, fp32: list[dict[str, Any]], int8: list[dict[str, Any]], max_drop: float) -> list[Gate]:
    """INT8 costs little accuracy and no time; from a report's rows of both precisions with the same batches."""
    drop = relative_drop(task, fp32[0]["scores"], int8[0]["scores"])
    medians = [[row["latency_ms"]["p50"] for row in pair] for pair in zip(fp32, int8, strict=True)]
    ratios = [after / before for before, after in medians if before and after]  # null: too few samples for a median
    return [
        at_most("relative drop of the metric, int8 against fp32", max_drop, drop),
        at_most("latency int8 / fp32, slowest batch", 1.0, max(ratios, default=None)),
    ]
