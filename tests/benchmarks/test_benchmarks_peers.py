import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edge.benchmarks import peers, predict_overhead, student_speed
from edge.benchmarks.latency import Timing
from edge.benchmarks.student_speed import STUDENTS, Shape
from edge.errors import BackendMissing
from edge.sensors import Band, Modality
from edge.tasks import Task


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the peers' own
@pytest.mark.parametrize("name", ["LFMC sar", "patch, lidar"])
def test_every_peer_that_is_installed_computes_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(Shape, "batches", (1, 2))
    student = peers.Student(STUDENTS[name], tmp_path)
    rows = {row["peer"]: row for row in peers.measure(student, Timing(0, 0, 2, 0.1))}
    for name in ("edge FP32", "ONNX Runtime FP32", "torch eager"):
        assert rows[name]["missing"] is None
        assert rows[name]["difference"] < 1e-4
    for name in ("edge INT8", "ONNX Runtime static INT8", "NNCF, ONNX Runtime INT8"):
        assert rows[name]["missing"] is None
        assert 0 < rows[name]["difference"] < 0.3
    assert rows["edge INT8"]["times_ours"] == {"1": 1.0, "2": 1.0}
    assert "no CUDAExecutionProvider" in rows["ONNX Runtime CUDA"]["missing"]
    assert "not here: ONNX Runtime CUDA" in peers.table(list(rows.values()))


def test_a_peer_that_is_missing_or_fails_is_a_reason_not_a_number() -> None:
    def missing() -> Any:
        raise BackendMissing("openvino is not installed")

    def failing() -> Any:
        raise RuntimeError("\n\nno kernel\nfor this")

    assert peers._opened(missing) == "openvino is not installed"
    assert peers._opened(failing) == "RuntimeError: no kernel"
    answer = peers._opened(lambda: lambda: np.ones(3))
    assert callable(answer)


def test_the_latency_that_trtexec_prints_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "trtexec"
    program.write_text(
        "#!/bin/sh\n"
        "echo '[I] Latency: min = 0.041 ms, max = 0.2 ms, mean = 0.05 ms, median = 0.0459 ms'\n"
        "echo '[I] GPU Compute Time: min = 0.02 ms, max = 0.1 ms, mean = 0.03 ms, median = 0.0250 ms'\n"
    )
    program.chmod(0o755)
    student: Any = type("Student", (), {"fp32": tmp_path / "x.onnx", "name": "series", "kind": STUDENTS["LFMC sar"]})
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert peers.trtexec(student, 1) == pytest.approx(45.9)
    program.unlink()
    assert "not on the PATH" in str(peers.trtexec(student, 1))


def test_the_overhead_of_predict_is_measured_for_every_kind_of_file(make_tiny: Callable[[], Path]) -> None:
    result = CliRunner().invoke(
        predict_overhead.main, [str(make_tiny()), "--samples", "600", "--repeats", "1"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout.splitlines()[-1])
    rows = {row["source"]: row for row in document["results"]["fp32"]}
    assert list(rows) == ["bare loop", ".npy", ".npz", "folder", ".csv", ".npy to .csv", "scene to map"]
    assert all(row["seconds"] > 0 for row in rows.values())
    assert set(rows[".csv"]["stages"]) == {"reading", "checking", "running", "writing"}


@pytest.fixture
def make_tiny(student: Callable[..., Path], tmp_path: Path) -> Callable[[], Path]:
    """A bundle with the FP32 graph alone."""
    from edge.benchmarks.report import make_report
    from edge.card import make_card
    from edge.deploy.bundle import write_bundle

    def make() -> Path:
        task = Task("multiclass", name="crop", classes=("wheat", "maize", "rape"))
        optical = Modality("optical", tuple(Band(f"B{i}") for i in range(4)), ("band",), (4,))
        card = make_card(
            name="tiny", modality=optical, task=task, graphs=["fp32"], created="2026-01-31T12:00:00Z",
            training={"method": "mdico", "modalities": ["optical"], "data": "test"}, accuracy={},
        )  # fmt: skip
        golden = {"input": np.ones((5, 4), np.float32), "expected.fp32": np.ones((5, 3), np.float32)}
        report = make_report(dataset="test", modality="optical", task=task, protocol=None, results=[])
        write_bundle(
            tmp_path / "tiny", card=card, graphs={"fp32": student()}, golden=golden, report=report, report_html=""
        )
        return tmp_path / "tiny"

    return make


@pytest.mark.slow
@pytest.mark.parametrize(("name", "modality"), [("LFMC sar", "series"), ("patch, lidar", "image")])
def test_the_speed_of_a_student_is_measured_under_its_modality_s_name(name: str, modality: str) -> None:
    result = CliRunner().invoke(student_speed.main, ["--seconds", "0.01", "--student", name], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert ("bars: INT8" in result.stdout) == (STUDENTS[name].bars is not None)
    found = json.loads(result.stdout.splitlines()[-1])["students"]
    assert list(found) == [name]
    assert found[name]["encoder"] == STUDENTS[name].encoder
    assert STUDENTS[name].modality().name == modality
    assert [row["graph"] for row in found[name]["rows"]] == ["FP32 unfolded", "FP32 folded", "INT8"]
    for row in found[name]["rows"]:
        assert list(row["us"]) == [str(batch) for batch in STUDENTS[name].batches]
        assert min(row["us"].values()) > 0
