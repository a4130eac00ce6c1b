"""`edge build` from end to end, on small encoders; only the stop-watch is replaced."""

import errno
import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from full_disk import room_for
from onnxruntime import InferenceSession

from edge.benchmarks.accuracy import worst_class
from edge.benchmarks.latency import Times
from edge.benchmarks.report import validate_report
from edge.cli import main
from edge.deploy.bundle import open_bundle
from edge.deploy.rules_tensorrt import check_tensorrt
from edge.gates import choose
from edge.metrics import score
from edge.tasks import Task
from edge.train.paired import open_paired_set
from edge.train.sources.simulated import simulate
from edge.train.splits import split_indices

YIELD = Task("regression", "yield", unit="t/ha")
RECIPE = {
    "method": "mdico",
    "max_drop": 0.05,
    "model": {"width": 16, "hidden": 32, "embedding": 16},
    "training": {"epochs": 8, "lr": 0.003},
    "compression": {"epochs": 1},
}
FILES = [
    "SHA256SUMS", "card.json", "golden.npz", "model.fp32.onnx", "model.int8.cpu.onnx", "model.int8.tensorrt.onnx",
    "report.html", "report.json",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Any:
    """Latencies that are known beforehand, no process for each graph."""

    def timed(engines: dict[Any, Any], _timing: object) -> dict[Any, Times]:
        return {key: Times([1e-3 / (1 + at)] * 20) for at, key in enumerate(engines)}  # single, FP32, INT8: ever faster

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.benchmarks.bench.measure_together", timed)
        patch.setattr(
            "edge.benchmarks.bench.peak_memory", lambda _graph, _shapes, batches, **_: dict.fromkeys(batches, 60.0)
        )
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a paired set and a recipe."""
    folder = tmp_path_factory.mktemp("build")
    # Regression: where one class of 80 may flip on another processor, yields move by a thousandth.
    simulate(folder / "set", task="regression", n=400, seed=3)
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    return folder


def edge(place: Path, *arguments: object, out: Path | None = None, command: str = "build") -> Result:
    options = ["--data", place / "set", "--recipe", place / "recipe.json", "--out", out or place / "run"]
    return CliRunner().invoke(main, [command, *map(str, arguments), *map(str, options)])


@pytest.fixture(scope="module")
def built(place: Path) -> Result:
    """The first build of the run."""
    return edge(place, "--modality", "optical", "--int8", "--json")


@pytest.fixture
def copy(place: Path, built: Result, tmp_path: Path) -> Path:
    """A copy of the built run, for a test to work on."""
    assert built.exit_code == 0, built.stderr
    return shutil.copytree(place / "run", tmp_path / "run")


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_is_built_and_described_in_one_json_document(place: Path, built: Result) -> None:
    assert built.exit_code == 0, built.stderr
    document = json.loads(built.stdout)
    assert set(document) == {"bundle", "reused", "folding", "report", "engines"}
    assert document["bundle"] == str(place / "run" / "bundles" / "optical-int8")
    assert document["reused"] is False
    validate_report(document["report"])
    saved = document["folding"]
    assert saved["after"]["nodes"] < saved["before"]["nodes"]
    assert saved["after"]["parameters"] < saved["before"]["parameters"]
    assert saved["difference"] <= 1e-5
    assert sorted(path.name for path in Path(document["bundle"]).iterdir()) == FILES
    assert sorted(path.name for path in (place / "run").iterdir()) == ["bundles", "compress", "test", "train"]


def test_the_report_compares_single_fp32_and_int8_at_three_batch_sizes(built: Result) -> None:
    report = json.loads(built.stdout)["report"]
    rows = [(row["method"], row["precision"], row["batch"]) for row in report["results"]]
    assert rows == [
        (method, precision, batch)
        for method, precision in (("single", "fp32"), ("mdico", "fp32"), ("mdico", "int8"))
        for batch in (1, 32, 256)
    ]
    assert all(row["metric"] is not None and row["metric_ci95"] for row in report["results"])
    assert [gate["name"] for gate in report["gates"]] == [
        "folding: largest difference",
        "parity torch = fp32: rms difference / target sd",
        "parity torch = int8.cpu: rms difference / target sd",
        "parity torch = int8.tensorrt: rms difference / target sd",
        "int8.tensorrt: broken rules",
        "int8.cpu: nodes left in float",
        "relative drop of the metric, int8 against fp32",
        "latency int8 / fp32, slowest batch",
    ]
    assert all(gate["passed"] for gate in report["gates"])
    assert report["gates"][-1]["value"] == pytest.approx(2 / 3)
    assert (report["dataset"], report["modality"], report["protocol"]) == (
        "simulated-regression",
        "optical",
        "grouped, 5 folds, test fold 0, seed 0",
    )


def test_edge_verify_passes_on_the_bundle(place: Path, built: Result) -> None:
    bundle = json.loads(built.stdout)["bundle"]
    result = CliRunner().invoke(main, ["verify", bundle])
    assert result.exit_code == 0, result.output


def test_golden_inputs_are_validation_samples_and_test_samples_stay_in_the_run(place: Path, built: Result) -> None:
    from edge.train.paired import open_paired_set
    from edge.train.splits import split_indices

    bundle = open_bundle(Path(json.loads(built.stdout)["bundle"]))
    data = open_paired_set(place / "set")
    split = split_indices(data)
    validation, test = ({x.tobytes() for x in data.arrays["optical"][part]} for part in (split.validation, split.test))
    golden = {x.tobytes() for x in bundle.golden()["input"]}
    assert golden <= validation
    with np.load(place / "run" / "test" / "optical.npz") as kept:
        assert {x.tobytes() for x in kept["optical"]} <= test
        assert len(kept["optical"]) == len(kept["target"]) == len(kept["groups"])
        assert not np.isnan(kept["optical"]).all(axis=(1, 2)).any()


def test_the_kept_test_samples_fit_edge_bench(place: Path, built: Result) -> None:
    bundle = json.loads(built.stdout)["bundle"]
    test = str(place / "run" / "test" / "optical.npz")
    result = CliRunner().invoke(main, ["bench", bundle, "--data", test, "--batch", "1", "--json"])
    assert result.exit_code == 0, result.stderr
    measured = {row["precision"]: row["metric"] for row in json.loads(result.stdout)["results"]}
    wanted = {row["precision"]: row["metric"] for row in json.loads(built.stdout)["report"]["results"][3:]}
    assert measured == pytest.approx(wanted)


def test_a_second_build_uses_everything_again(place: Path, copy: Path) -> None:
    before = times(copy)
    result = edge(place, "--modality", "optical", "--precision", "int8", out=copy)
    assert result.exit_code == 0, result.stderr
    assert times(copy) == before
    assert "was there already; --force builds it again" in result.stdout
    assert "folding: " in result.stderr


def test_the_next_modality_trains_its_single_model_alone(place: Path, copy: Path) -> None:
    before = times(copy)
    result = edge(place, "--modality", "sar", "--int8", out=copy)
    assert result.exit_code == 0, result.stderr
    after = times(copy)
    assert {name: after[name] for name in before} == before
    assert {name.rpartition("/")[0] for name in set(after) - set(before)} == {
        "bundles/sar-int8",
        "test",
        "train/single-sar",
    }
    assert result.stdout.count("INT8 ") == 1
    assert "bundle: " in result.stdout


def test_without_a_precision_the_bundle_is_fp32(place: Path, copy: Path) -> None:
    result = edge(place, "--modality", "optical", out=copy)
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in (copy / "bundles" / "optical-fp32").glob("*.onnx")) == ["model.fp32.onnx"]
    assert [gate["name"] for gate in open_bundle(copy / "bundles" / "optical-fp32").report()["gates"]] == [
        "folding: largest difference",
        "parity torch = fp32: rms difference / target sd",
    ]


def test_for_a_board_the_bundle_keeps_all_rules_and_says_what_to_type_there(place: Path, copy: Path) -> None:
    result = edge(place, "--modality", "optical", "--int8", "--target", "jetson-orin-nano", out=copy)
    assert result.exit_code == 0, result.stderr
    folder = copy / "bundles" / "optical-int8-jetson-orin-nano"
    following = "edge engine optical-int8-jetson-orin-nano --data optical.npz"
    assert result.stdout.splitlines()[-3:] == [
        "next, to the board and on it:",
        f"  scp -r {folder} {copy / 'test' / 'optical.npz'} USER@BOARD:",
        f"  {following}",
    ]
    bundle = open_bundle(folder)
    assert check_tensorrt(bundle.graphs["int8.tensorrt"]) == []
    report, card = bundle.report(), bundle.card["properties"]
    assert report["next"] == card["edge:next"] == following
    assert (card["edge:target"], card["edge:precision"]["chosen"]) == ("jetson-orin-nano", None)
    names = [gate["name"] for gate in report["gates"]]
    assert "int8.tensorrt: broken rules" in names
    assert "relative drop of the metric, int8 against fp32" in names
    assert not [name for name in names if name.startswith("latency")]  # that of this machine says nothing
    compiled = [name for name in names if "refused by tensorrt_rtx" in name]
    assert len(compiled) == (2 if importlib.util.find_spec("tensorrt_rtx") else 0)
    assert all(gate["passed"] for gate in report["gates"])
    assert any("on jetson-orin-nano `edge engine` measures, and chooses" in text for text in report["warnings"])


def test_auto_on_a_cpu_decides_now(place: Path, copy: Path) -> None:
    result = edge(place, "--modality", "optical", "--precision", "auto", "--json", out=copy)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    card = open_bundle(Path(document["bundle"])).card["properties"]
    assert card["edge:precision"] == {
        "asked": "auto", "chosen": "int8", "why": ["INT8 is used: the fastest at batch 32 (0.333 ms)"],
    }  # fmt: skip
    assert not [gate for gate in document["report"]["gates"] if gate["name"].startswith("latency")]
    assert (document["report"]["next"], document["engines"]) == (None, None)


def test_auto_judges_accuracy_on_validation_samples(place: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: dict[str, Any] = {}

    def recorded(task: Task, rows: list[dict[str, Any]], *rest: Any) -> tuple[str, list[str]]:
        judged.update({row["precision"]: row["scores"] for row in rows})
        return choose(task, rows, *rest)

    monkeypatch.setattr("edge.build.choose", recorded)
    result = edge(place, "--modality", "optical", "--precision", "auto", "--json", out=copy)
    bundle = open_bundle(Path(json.loads(result.stdout)["bundle"]))
    data = open_paired_set(place / "set")
    index = split_indices(data, 0).validation
    index = index[data.present("optical")[index]]
    session = InferenceSession(bundle.graph_for("int8").read_bytes())
    (said,) = session.run(None, {session.get_inputs()[0].name: data.arrays["optical"][index]})
    assert judged["int8"] == pytest.approx(score(data.task, said, data.target[index]))
    reported = {row["precision"]: row["scores"] for row in json.loads(result.stdout)["report"]["results"]}
    assert judged["int8"] != pytest.approx(reported["int8"])  # that of the test part


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "jetson-orin-nan"], "did you mean 'jetson-orin-nano'?"),
        (["--target", "jetson-xavier-nx"], "has no JetPack with Python 3.10 or newer"),
        (["--precision", "fp16"], "fp16 is for boards with TensorRT"),
    ],
)
def test_a_target_or_precision_that_cannot_be_is_refused_before_any_work(
    place: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    result = edge(place, "--modality", "optical", *options, out=tmp_path / "run")
    assert (result.exit_code, message in result.stderr) == (2, True)
    assert not (tmp_path / "run").exists()


def test_a_host_that_cannot_be_asked_is_refused_before_any_work(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text("#!/bin/sh\necho no route to host >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(ssh.parent), prepend=os.pathsep)
    result = edge(place, "--modality", "optical", "--on", "me@board", out=tmp_path / "run")
    assert (result.exit_code, "me@board cannot be asked: no route to host" in result.stderr) == (2, True)
    assert not (tmp_path / "run").exists()


def test_a_damaged_bundle_is_built_again(place: Path, copy: Path) -> None:
    report = copy / "bundles" / "optical-int8" / "report.html"
    report.write_text("nothing")
    result = edge(place, "--modality", "optical", "--int8", "--json", out=copy)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["reused"] is False
    assert report.read_text() != "nothing"


def test_a_failed_gate_exits_with_three_and_keeps_the_marked_bundle(
    place: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.gates.relative_drop", lambda *_: 0.02)
    result = edge(place, "--modality", "optical", "--int8", "--max-drop", "0.01", "--json", out=copy)
    assert result.exit_code == 3
    name = "relative drop of the metric, int8 against fp32"
    assert f"{name}: 0.02 (bound 0.01)" in result.stderr
    assert result.stderr.endswith("--mixed leaves in float what INT8 hurts most; the bound is --max-drop\n")
    assert json.loads(result.stdout)["report"]["gates"][-2] == {
        "name": name, "bound": 0.01, "value": 0.02, "passed": False,
    }  # fmt: skip
    assert open_bundle(copy / "bundles" / "optical-int8").failed_gates == [name]
    assert CliRunner().invoke(main, ["verify", str(copy / "bundles" / "optical-int8")]).exit_code == 3
    again = edge(place, "--modality", "optical", "--int8", "--max-drop", "0.01", out=copy)
    assert again.exit_code == 3  # also when it is reused


def test_an_unknown_modality_names_the_known_ones_and_trains_nothing(place: Path, tmp_path: Path) -> None:
    result = edge(place, "--modality", "lidar", "--int8", out=tmp_path / "run")
    assert result.exit_code == 2
    assert "'lidar' is not in the modalities of simulated-regression" in result.stderr
    assert "known: optical, sar" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_single_model_is_not_built(place: Path, tmp_path: Path) -> None:
    result = edge(place, "--modality", "sar", "--method", "single", out=tmp_path / "run")
    assert (result.exit_code, "'single' gives no co-learned student" in result.stderr) == (2, True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_output_folder_that_holds_something_else_is_left_alone(place: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "thesis"
    if kind == "folder":
        out.mkdir()
        (out / "chapter1.tex").write_text("It was a dark and stormy night")
    else:
        out.write_text("notes")
    result = edge(place, "--modality", "sar", "--int8", out=out)
    assert result.exit_code == 2
    assert "give --out a folder that is new, empty or an earlier run" in result.stderr
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [
        "chapter1.tex" if out.is_dir() else "thesis"
    ]


@pytest.mark.parametrize("full", ["edge.deploy.bundle.write_json", "edge.build.np.savez", "onnx.save"])
def test_a_full_disk_leaves_nothing_half_written(
    place: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    shutil.rmtree(copy / "bundles")
    shutil.rmtree(copy / "test")
    before = times(copy)
    monkeypatch.setattr(full, no_space(os.fspath(copy / "somewhere")))
    result = edge(place, "--modality", "optical", "--int8", out=copy)
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.output
    left = set(times(copy)) - set(before)
    assert left <= {"test/optical.npz"}  # whole, or absent
    assert not list(copy.rglob(".*"))


def test_a_disk_that_is_full_during_training_leaves_no_half_written_state(place: Path, tmp_path: Path) -> None:
    with room_for(10_000):
        result = edge(place, "--modality", "optical", "--int8", out=tmp_path / "run")
    assert result.exit_code == 2
    assert "state.safetensors cannot be written: " in result.stderr
    assert "Traceback" not in result.output
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]


def no_space(path: str) -> Callable[..., None]:
    def write(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    return write


def test_an_fp16_student_is_verified_and_measured_where_it_is_built(place: Path, copy: Path) -> None:
    result = edge(place, "--modality", "optical", "--fp16", "--target", "jetson-orin-nano", "--json", out=copy)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    bundle = open_bundle(Path(document["bundle"]))
    assert (bundle.folder.name, list(bundle.graphs)) == ("optical-fp16-jetson-orin-nano", ["fp32", "fp16"])
    assert bundle.graph_for("fp16").stat().st_size < 0.7 * bundle.graph_for("fp32").stat().st_size
    report = document["report"]
    gates = {gate["name"]: gate for gate in report["gates"]}
    assert {"parity torch = fp16: rms difference / target sd", "fp16: largest value inside / largest of FP16",
            "relative drop of the metric, fp16 against fp32"} <= set(gates)  # fmt: skip
    assert all(gate["passed"] for gate in gates.values())
    assert [row["metric"] is not None for row in report["results"] if row["precision"] == "fp16"] == [True] * 3
    assert report["worst_class"]["precision"] == "fp16"
    assert any("FP16 weights alone" in text for text in report["warnings"])
    assert set(bundle.card["properties"]["edge:accuracy"]) == {"fp32", "fp16"}
    assert CliRunner().invoke(main, ["verify", str(bundle.folder)]).exit_code == 0


def test_a_bundle_has_one_precision(place: Path, tmp_path: Path) -> None:
    result = edge(place, "--modality", "optical", "--int8", "--fp16", out=tmp_path / "run")
    assert (result.exit_code, "fp16 and int8 are asked for" in result.stderr) == (2, True)


def test_a_class_that_int8_hurts_too_much_fails_the_build(
    place: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = worst_class(YIELD, np.array([[1.0], [2.0]]), np.array([[1.0], [3.0]]), np.array([0.0, 1.0]))
    found |= {"ci95": [0.06, 0.3], "drop": 0.2, "enough": True}  # the test part has 80 samples, too few to be judged
    monkeypatch.setattr("edge.benchmarks.accuracy.worst_class", lambda *_: found)
    result = edge(place, "--modality", "optical", "--int8", "--max-class-drop", "0.05001", "--json", out=copy)
    document = json.loads(result.stdout)
    (gate,) = (gate for gate in document["report"]["gates"] if gate["name"].startswith("worst class"))
    assert (result.exit_code, gate["passed"], gate["value"], gate["bound"]) == (3, False, 0.06, 0.05001)
    shown = edge(place, "--modality", "optical", "--int8", "--max-class-drop", "0.1", out=copy)
    assert shown.exit_code == 0
    assert f"worst class INT8: {found['name']}" in shown.stdout
    auto = edge(
        place, "--modality", "optical", "--precision", "auto", "--max-class-drop", "0.05001", "--json", out=copy
    )
    decided = open_bundle(Path(json.loads(auto.stdout)["bundle"])).card["properties"]["edge:precision"]
    assert (auto.exit_code, decided["chosen"]) == (0, "fp32")
    assert "0.06 (bound 0.05)" in decided["why"][-1]


def test_layers_that_are_excluded_are_float_in_the_bundle(place: Path, copy: Path) -> None:
    result = edge(place, "--modality", "optical", "--int8", "--exclude", "shared.dense", "--json", out=copy)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["reused"] is False
    shown = CliRunner().invoke(main, ["inspect", document["bundle"], "--json"])
    for key in ("int8.cpu", "int8.tensorrt"):
        layers = {layer["name"]: layer["computes"] for layer in json.loads(shown.stdout)["graphs"][key]["layers"]}
        assert layers["shared.dense.Gemm"] == "float, declared"
        assert layers["specific.dense.Gemm"] == "int8"
