import hashlib
import sys
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from tiny_bundles import TASKS, student

from edge.deploy.bundle import Bundle, open_bundle
from edge.deploy.verify import Check, agree, verify
from edge.errors import BackendMissing, InputError


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.mark.parametrize("kind", TASKS)
def test_a_good_bundle_passes_every_check(make_bundle: Callable[..., Bundle], kind: str) -> None:
    checks = verify(make_bundle(kind=kind))
    assert [check.name for check in checks] == [
        "checksums", "card", "load fp32", "golden fp32", "batch fp32", "load int8.tensorrt", "golden int8.tensorrt",
        "batch int8.tensorrt", "load int8.cpu", "golden int8.cpu", "batch int8.cpu", "gates",
    ]  # fmt: skip
    assert all(check.passed for check in checks), checks


def test_the_fp16_graph_is_checked_too_and_left_to_edge_engine_with_tensorrt(
    make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(keys=("fp32", "fp16"))
    checks = by_name(verify(bundle))
    assert [checks[f"{name} fp16"].passed for name in ("load", "golden", "batch")] == [True] * 3
    monkeypatch.setattr("edge.deploy.verify.placement_of", lambda _: "tensorrt")
    check = by_name(verify(bundle))["load fp16"]
    assert (check.passed, "edge engine" in check.detail) == (None, True)


def test_a_damaged_bundle_is_an_input_error(tiny_bundle: Bundle) -> None:
    (tiny_bundle.folder / "report.html").write_text("changed")
    with pytest.raises(InputError, match=r"report\.html .* was changed"):
        verify(tiny_bundle)


def test_without_jsonschema_the_card_check_is_skipped_not_passed(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    check = by_name(verify(tiny_bundle))["card"]
    assert check.passed is None
    assert "pip install 'edge-colearn[card]'" in check.detail


def test_golden_vectors_that_another_graph_gave_fail(make_bundle: Callable[..., Bundle]) -> None:
    wrong = np.tile(np.array([[0.9, 0.1], [0.1, 0.9]], np.float32), (8, 1))
    checks = by_name(verify(make_bundle(golden={"expected.fp32": wrong, "expected.int8.cpu": wrong})))
    assert [name for name, check in checks.items() if not check.passed] == ["golden fp32", "golden int8.cpu"]


def test_a_graph_with_a_fixed_batch_fails_the_batch_check(make_bundle: Callable[..., Bundle]) -> None:
    check = by_name(verify(make_bundle(keys=("fp32",), batch=4)))["batch fp32"]
    assert check.passed is False
    assert "the batch axis is not free" in check.detail


def test_a_graph_that_is_not_the_cards_fails_to_load(tiny_bundle: Bundle) -> None:
    """The file is exchanged together with its checksum."""
    path = tiny_bundle.graphs["fp32"]
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    onnx.save(student(TASKS["multilabel"], "fp32"), path)
    sums = tiny_bundle.folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))
    check = by_name(verify(open_bundle(tiny_bundle.folder)))["load fp32"]
    assert check.passed is False
    assert "the graph has" in check.detail


def test_failed_gates_of_the_build_fail_the_check(make_bundle: Callable[..., Bundle]) -> None:
    check = by_name(verify(make_bundle(gates=({"name": "max drop", "passed": False},))))["gates"]
    assert check == Check("gates", False, "failed: max drop")


def test_a_missing_engine_library_is_no_failed_check(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendMissing, match="onnxruntime is not installed"):
        verify(tiny_bundle)


def test_fp32_outputs_may_differ_by_a_ten_thousandth_of_the_largest() -> None:
    expected = np.array([[0.0], [200.0]], np.float32)
    assert agree("fp32", TASKS["regression"], expected, expected + np.float32(0.019))[0]
    assert not agree("fp32", TASKS["regression"], expected, expected + np.float32(0.021))[0]


def test_int8_values_may_differ_by_a_hundredth_of_the_spread() -> None:
    expected = np.array([[-1.0], [1.0]], np.float32)  # standard deviation 1
    assert agree("int8.cpu", TASKS["regression"], expected, expected + np.float32(0.009))[0]
    assert not agree("int8.cpu", TASKS["regression"], expected, expected + np.float32(0.011))[0]


def test_int8_may_be_as_far_from_what_is_expected_as_that_is_from_floats() -> None:
    expected = np.array([[-1.0], [1.0]], np.float32)
    floats = expected + np.float32(0.1)
    assert agree("int8.cpu", TASKS["regression"], expected, expected - np.float32(0.09), floats)[0]
    assert not agree("int8.cpu", TASKS["regression"], expected, expected - np.float32(0.11), floats)[0]
    assert not agree("fp32", TASKS["regression"], expected, expected - np.float32(0.09), floats)[0]
    classes = np.repeat(np.array([[0.6, 0.4]], np.float32), 100, axis=0)
    three, four = (np.concatenate([classes[:n, ::-1], classes[n:]]) for n in (3, 4))
    assert agree("int8.cpu", TASKS["binary"], classes, three, four) == (
        True,
        "97.00% of the classes equal, at least 96.00%",
    )
    assert not agree("int8.cpu", TASKS["binary"], classes, four, three)[0]


@pytest.mark.parametrize(("kind", "outputs"), [("binary", [[0.6, 0.4]]), ("multilabel", [[0.6, 0.4, 0.4]])])
def test_int8_classes_may_differ_in_one_of_a_hundred(kind: str, outputs: list[list[float]]) -> None:
    expected = np.repeat(np.array(outputs, np.float32), 300, axis=0)
    found = expected.copy()
    found[:3] = found[:3, ::-1]
    assert agree("int8.cpu", TASKS[kind], expected, found)[0]
    found[3:10] = found[3:10, ::-1]
    assert not agree("int8.cpu", TASKS[kind], expected, found)[0]
    close = np.where(expected > 0.5, 0.51, 0.49).astype(np.float32)
    assert agree("int8.cpu", TASKS[kind], expected, close)[0]  # another probability, the same decision


def test_outputs_that_are_not_numbers_never_agree() -> None:
    expected = np.zeros((2, 1), np.float32)
    for key in ("fp32", "int8.cpu"):
        assert not agree(key, TASKS["regression"], expected, np.full((2, 1), np.nan, np.float32))[0]
        assert not agree(key, TASKS["regression"], expected, np.zeros((2, 2), np.float32))[0]
