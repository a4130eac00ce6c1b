from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge import gates
from edge.build import Built
from edge.errors import GateError
from edge.gates import at_most, class_gates, cost_gates, half_gate, parity_gate, placement_gates
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
    gate = parity_gate("torch = fp32", CLASSES, reference, found, np.zeros(100), reference)
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
    gate = parity_gate("x", LABELS, reference, found, reference, reference)
    assert (gate["value"], gate["passed"]) == (pytest.approx(197 / 200), False)


@pytest.mark.parametrize(("error", "passed"), [(0.19, True), (0.21, False)])
def test_regression_may_differ_by_two_percent_of_the_targets_spread(error: float, passed: bool) -> None:
    target = np.array([0.0, 20.0])  # standard deviation 10
    reference = np.array([[5.0], [7.0]])
    gate = parity_gate("x", YIELD, reference, reference + np.array([[error], [-error]]), target, reference)
    assert (gate["value"], gate["bound"], gate["passed"]) == (pytest.approx(error / 10), 0.02, passed)


def test_an_engine_may_be_as_far_from_torch_as_rounding_is_from_floats() -> None:
    target = np.array([0.0, 20.0])  # standard deviation 10
    int8, apart = np.array([[5.0], [7.0]]), np.array([[1.0], [-1.0]])
    for error, passed in ((0.9, True), (1.1, False)):
        gate = parity_gate("x", YIELD, int8, int8 + error * apart, target, int8 - apart)
        assert (gate["bound"], gate["passed"]) == (pytest.approx(0.1), passed)
    classes = np.eye(3)[np.arange(100) % 3]
    flipped = [np.concatenate([np.roll(classes[:n], 1, axis=1), classes[n:]]) for n in (3, 4)]
    assert parity_gate("x", CLASSES, classes, flipped[0], np.zeros(100), flipped[1])["passed"]
    assert not parity_gate("x", CLASSES, classes, flipped[1], np.zeros(100), flipped[0])["passed"]


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


def worst(drop: float, *, enough: bool = True) -> dict[str, Any]:
    return {"name": "rye", "measure": "recall", "precision": "int8", "drop": drop + 0.1,
            "ci95": [drop, drop + 0.2], "enough": enough}  # fmt: skip


def test_the_worst_class_may_lose_so_much_and_no_more() -> None:
    (held,), (failed,) = class_gates(worst(0.05), 0.05), class_gates(worst(0.06), 0.05)
    assert held["name"] == "worst class (rye): drop of its recall, int8 against fp32, at least (95 %)"
    assert (held["passed"], failed["passed"], failed["value"]) == (True, False, 0.06)


def test_a_class_of_few_samples_or_no_bound_is_no_gate() -> None:
    assert class_gates(worst(0.5, enough=False), 0.05) == []
    assert class_gates(worst(0.5), None) == []


@pytest.mark.parametrize(("size", "passed"), [(1.0, True), (1e5, False), (6e4, False)])
def test_fp16_needs_room_for_what_flows_through_the_graph(tmp_path: Path, size: float, passed: bool) -> None:
    """Two layers; the value between them is the input, which is `size`."""
    onnx = pytest.importorskip("onnx")
    from edge.deploy.half import half_graph

    one = onnx.numpy_helper.from_array(np.eye(1, dtype=np.float32), "one")
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1]) for name in ("x", "prediction")
    ]
    nodes = [onnx.helper.make_node("MatMul", ["x", "one"], ["between"]),
             onnx.helper.make_node("MatMul", ["between", "one"], ["prediction"])]  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "two layers", values[:1], values[1:], [one])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(half_graph(model), str(tmp_path / "fp16.onnx"))
    gate = half_gate(tmp_path / "fp16.onnx", {"x": np.full((2, 1), size, np.float32)})
    assert (gate["passed"], gate["bound"]) == (passed, 0.5)
    assert gate["value"] == (None if size > 65504 else pytest.approx(size / 65504, rel=1e-3))
