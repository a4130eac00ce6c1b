"""Gates: the bounds that must hold for a build to pass. Each gives an entry of the report's `gates`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.metrics import relative_drop
from edge.tasks import Task

Array = npt.NDArray[Any]
Gate = dict[str, Any]

FOLDING = 1e-5  # largest difference that exact folding may make, in logits or standard deviations
PARITY_CLASSES = 0.99  # of the predicted classes are those of the torch student, or as many as are those of FP32
PARITY_SPREAD = 0.02  # root mean square difference to it, in standard deviations of the target, or FP32's if larger


def at_most(name: str, bound: float, value: float | None) -> Gate:
    """A gate that `value` passes up to `bound`; what could not be measured fails."""
    from edge.benchmarks.report import gate

    return gate(name, bound, value, value is not None and value <= bound)


def parity_gate(name: str, task: Task, reference: Array, found: Array, target: Array, fp32: Array) -> Gate:
    """Whether an engine's predictions (n, K) are those of the torch model, `reference`.

    Classification: share of equal classes (multi-label: of equal labels). Regression: root mean square difference in
    standard deviations of the target. An INT8 network of forty layers makes much of little: a bias rounded to an
    integer flips the last bit of one code in 600 behind a MobileNet's first layer, and that of half of them behind its
    last. So the engine may also be as far from the torch model as that, in INT8, is from `fp32`, in floats.
    """
    from edge.benchmarks.report import gate
    from edge.deploy.verify import decisions

    if task.kind == "regression":
        spread, rounding = (
            float(np.sqrt(np.mean((other - reference) ** 2)) / np.std(target)) for other in (found, fp32)
        )
        return at_most(f"parity {name}: rms difference / target sd", max(PARITY_SPREAD, rounding), spread)
    equal, kept = (decisions(task, other) == decisions(task, reference) for other in (found, fp32))
    share, bound = float(np.mean(equal)), min(PARITY_CLASSES, float(np.mean(kept)))
    passed = share >= bound or np.sum(~equal) <= 1  # below 100 samples one flip alone is more than 1 %
    return gate(f"parity {name}: share of equal classes", bound, share, bool(passed))


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


def sparsity_gates(graphs: dict[str, Path], layers: tuple[str, ...]) -> list[Gate]:
    """In each INT8 graph `layers` are declared as sparse, and their weights have the pattern 2:4.

    On a CPU one layer may compute what two did (compress/channels.py): there, those that are left must be declared.
    """
    from edge.deploy.onnx_graph import Graph, load_graph
    from edge.deploy.sparsity import PATTERN, check_sparse, declared, present

    found = []
    for key in ("int8.tensorrt", "int8.cpu"):
        graph = Graph(load_graph(graphs[key]))
        expected = layers if key == "int8.tensorrt" else present(graph.model, layers)
        broken = len(set(expected) - set(declared(graph.model))) + len(list(check_sparse(graph)))
        found.append(at_most(f"{key}: layers that break {PATTERN} sparsity", 0, broken))
    return found


def compile_gates(graphs: dict[str, Path]) -> list[Gate]:
    """TensorRT for RTX, where it is installed, takes the graphs: legal and compiled, which is not yet Orin's TensorRT.

    FP16 is part of it: as TensorRT 11 it wants that in the graph.
    """
    from edge.deploy.builder_tensorrt import Options, build
    from edge.deploy.tensorrt_api import load
    from edge.errors import BackendMissing, InputError

    try:
        label = load("tensorrt_rtx").label
    except BackendMissing:
        return []
    found = []
    for key, precision in (("fp16" if "fp16" in graphs else "fp32", "fp16"), ("int8.tensorrt", "int8")):
        if key in graphs:
            try:
                build(graphs[key], Options(precision))
                refused = 0
            except InputError:
                refused = 1
            found.append(at_most(f"{key} in {precision}: refused by {label}", 0, refused))
    return found


def half_gate(graph: Path, inputs: dict[str, Array]) -> Gate:
    """FP16 has room for what flows through the graph: as much again as these inputs need."""
    from edge.deploy.half import LARGEST, largest_inside
    from edge.deploy.onnx_graph import load_graph

    largest = largest_inside(load_graph(graph), inputs) / LARGEST
    return at_most("fp16: largest value inside / largest of FP16", 0.5, largest if np.isfinite(largest) else None)


def drop_gate(
    task: Task, fp32: dict[str, float], lower: dict[str, float], max_drop: float, precision: str = "int8"
) -> Gate:
    """The lower precision costs little accuracy; from the scores of both."""
    name = f"relative drop of the metric, {precision} against fp32"
    return at_most(name, max_drop, relative_drop(task, fp32, lower))


def class_gates(worst: dict[str, Any], max_class_drop: float | None) -> list[Gate]:
    """No class is hit hard beyond doubt: from `benchmarks.accuracy.worst_class` the lower end of the drop's interval,
    since on a hundred samples a few that flip are five points. No gate where no class has enough samples, or without a
    bound.
    """
    if max_class_drop is None or not worst["enough"] or worst["ci95"] is None:
        return []
    what = f"drop of its {worst['measure']}, {worst['precision']} against fp32, at least (95 %)"
    return [at_most(f"worst class ({worst['name']}): {what}", max_class_drop, worst["ci95"][0])]


def choose(
    task: Task, rows: list[dict[str, Any]], max_drop: float, batch: int, failed: Sequence[Gate] = ()
) -> tuple[str, list[str]]:
    """The precision to use, and why, from a report's rows of one student in several precisions.

    It is the fastest at `batch` among those whose metric is at most the fraction `max_drop` worse than FP32's; FP32 (or
    without it the first) where no latency is known. INT8 is out, too, if it `failed` a gate. What was not measured
    rules nothing out, and is said.
    """
    found = {row["precision"]: row for row in rows if row["batch"] == batch}
    reference = found.get("fp32", next(iter(found.values())))
    times = {name: row["latency_ms"]["p50"] for name, row in found.items()}
    drops = {
        name: relative_drop(task, reference["scores"], row["scores"]) if row["scores"] and reference["scores"] else None
        for name, row in found.items()
    }
    fit = [name for name, drop in drops.items() if times[name] and (drop is None or drop <= max_drop)]
    fit = [name for name in fit if name != "int8" or not failed]
    chosen = min(fit, key=lambda name: times[name], default=reference["precision"])
    why = [f"{chosen.upper()} is used: the fastest at batch {batch} ({times[chosen]:.3g} ms)"] if fit else []
    if "int8" in found and chosen != "int8":
        faults = [f"{gate['name']} is {gate['value']:.3g} (bound {gate['bound']:.3g})" for gate in failed]
        faults = faults or [_drawback(drops["int8"], max_drop, times["int8"], times[chosen], chosen)]
        why.append(f"INT8 does not pay: {'; '.join(faults)}")
    if all(row["scores"] is None for row in found.values()):
        why.append("accuracy was not measured: give test data with --data")
    return chosen, why


def _drawback(drop: float | None, max_drop: float, slow: float | None, fast: float | None, chosen: str) -> str:
    if drop is not None and drop > max_drop:
        return f"it loses {drop:.2%} of the metric (bound {max_drop:.2%})"
    return f"{slow:.3g} ms, {chosen.upper()} {fast:.3g} ms" if slow and fast else "its latency is not known"


def cost_gates(task: Task, fp32: list[dict[str, Any]], int8: list[dict[str, Any]], max_drop: float) -> list[Gate]:
    """INT8 costs little accuracy and no time; from a report's rows of both precisions with the same batches."""
    medians = [[row["latency_ms"]["p50"] for row in pair] for pair in zip(fp32, int8, strict=True)]
    ratios = [after / before for before, after in medians if before and after]  # null: too few samples for a median
    return [
        drop_gate(task, fp32[0]["scores"], int8[0]["scores"], max_drop),
        at_most("latency int8 / fp32, slowest batch", 1.0, max(ratios, default=None)),
    ]
