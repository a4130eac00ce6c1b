from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge import gates
from edge.build import Built
from edge.errors import GateError
from edge.gates import at_most, cost_gates, parity_gate, placement_gates
from edge.tasks import Task

CLASSES = Task("multiclass", "crop", ("oat", "rye", "pea"))
LABELS = Task("multilabel", "use", ("meadow", "orchard"))
YIELD = Task("regression", "yield", unit="t/ha")


def row(p50: float | None, **scores: float) -> dict[str, Any]:
    return {"latency_ms": {"p50": p50}, "scores": scores}


def test_a_gate_holds_up_to_its_bound_and_fails_without_a_value() -> None:
    assert [at_most("a", 1.0, value)["passed"] for value in (0.5, 1.0, 1.01, None)] == [True, True, False, False]
    assert at_most("a", 1.0, None) == {"name": "a", "bound": 1.0, "value": None, "passed": False}


@pytest.mark.parametrize(("different", "passed"), [(0, True), (1, True), (2, False)])
def test_99_of_100_classes_must_be_equal(different: int, passed: bool) -> None:
    reference = np.eye(3)[np.arange(100) % 3]
    found = 0.4 * reference + 0.2  # less certain, the same classes
    found[:different] = np.roll(found[:different], 1, axis=1)
    gate = parity_gate("torch = fp32", CLASSES, reference, found, np.zeros(100))
    assert gate == {
        "name": "parity torch = fp32: share of equal classes",
        "bound": 0.99,
        "value": pytest.approx(1 - different / 100),
        "passed": passed,
    }


def test_each_label_counts_in_a_multilabel_task() -> None:
    reference = np.full((100, 2), 0.8)
    found = reference.copy()
    found[:3, 1] = 0.4
    gate = parity_gate("x", LABELS, reference, found, reference)
    assert (gate["value"], gate["passed"]) == (pytest.approx(197 / 200), False)


@pytest.mark.parametrize(("error", "passed"), [(0.19, True), (0.21, False)])
def test_regression_may_differ_by_two_percent_of_the_targets_spread(error: float, passed: bool) -> None:
    target = np.array([0.0, 20.0])  # standard deviation 10
    reference = np.array([[5.0], [7.0]])
    gate = parity_gate("x", YIELD, reference, reference + np.array([[error], [-error]]), target)
    assert (gate["value"], gate["bound"], gate["passed"]) == (pytest.approx(error / 10), 0.02, passed)


def test_int8_must_not_be_slower_at_any_batch_size() -> None:
    fp32 = [row(1.0, macro_recall=0.8), row(2.0, macro_recall=0.8)]
    drop, latency = cost_gates(CLASSES, fp32, [row(0.5, macro_recall=0.796), row(1.5, macro_recall=0.796)], 0.01)
    assert (drop["value"], drop["passed"]) == (pytest.approx(0.005), True)
    assert (latency["value"], latency["passed"]) == (pytest.approx(0.75), True)
    drop, latency = cost_gates(CLASSES, fp32, [row(0.5, macro_recall=0.7), row(2.1, macro_recall=0.7)], 0.01)
    assert (drop["passed"], latency["passed"]) == (False, False)
    assert latency["value"] == pytest.approx(1.05)


def test_a_batch_size_without_a_median_is_left_out() -> None:
    fp32 = [row(1.0, macro_recall=0.8), row(None, macro_recall=0.8)]
    int8 = [row(0.5, macro_recall=0.8), row(9.0, macro_recall=0.8)]
    _, latency = cost_gates(CLASSES, fp32, int8, 0.01)
    assert (latency["value"], latency["passed"]) == (0.5, True)
    _, latency = cost_gates(CLASSES, fp32[1:], int8[1:], 0.01)
    assert (latency["value"], latency["passed"]) == (None, False)


def test_the_drop_of_a_regression_is_the_rise_of_its_error() -> None:
    drop, _ = cost_gates(YIELD, [row(1.0, rmse=2.0, r2=0.5)], [row(1.0, rmse=2.1, r2=0.49)], 0.01)
    assert (drop["value"], drop["passed"]) == (pytest.approx(0.05), False)


def test_without_int8_graphs_no_placement_is_judged() -> None:
    assert placement_gates({"fp32": Path("model.fp32.onnx")}) == []


def test_what_breaks_a_placement_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.deploy.rules_tensorrt.check_tensorrt", lambda _: ["R1", "R2"])
    monkeypatch.setattr("edge.deploy.rules_onnxruntime.check_fused", lambda _: [])
    found = placement_gates({"int8.cpu": Path("a"), "int8.tensorrt": Path("b")})
    assert [(gate["value"], gate["passed"]) for gate in found] == [(2, False), (0, True)]


def test_failed_gates_are_named_with_value_and_bound() -> None:
    report = {
        "gates": [gates.at_most("good", 1, 0), gates.at_most("slow", 1.0, 1.5), gates.at_most("unknown", 1, None)]
    }
    built = Built(Path("runs/edge/bundles/sar-int8"), report, None, reused=False)  # type: ignore[arg-type]
    with pytest.raises(GateError, match=r"slow: 1\.5 \(bound 1\.0\)\n  unknown: None \(bound 1\)") as failure:
        built.check_gates()
    assert failure.value.exit_code == 3
    assert "good" not in str(failure.value)
