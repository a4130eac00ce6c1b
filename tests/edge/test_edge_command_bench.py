import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from edge.benchmarks import bundles
from edge.benchmarks.latency import Timing
from edge.benchmarks.report import make_report, validate_report
from edge.card import make_card
from edge.commands.bench import command
from edge.deploy.bundle import write_bundle
from edge.sensors import Band, Modality
from edge.tasks import Task

TASK = Task("multiclass", name="crop", classes=("wheat", "maize", "rape"))
WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples, and no process per graph."""
    quick = Timing(warmup_s=0.0, min_duration_s=0.0, min_samples=11, max_duration_s=0.1)
    monkeypatch.setattr(bundles.Plan, "timing", quick)
    monkeypatch.setattr(bundles, "cold_starts", lambda graphs, **_: [None for _ in graphs])
    monkeypatch.setattr(
        "edge.benchmarks.bench.peak_memory", lambda _graph, _shapes, batches, **_: dict.fromkeys(batches)
    )


def save_graph(path: Path, modality: str) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [modality, "weight"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["prediction"], axis=1),
        ],
        "student",
        [helper.make_tensor_value_info(modality, TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """Writes a bundle with an FP32 and an INT8 graph (both the same small net), whose method is mdico."""

    def make(name: str = "optical-int8", modality: str = "optical", task: Task = TASK) -> Path:
        graph = tmp_path / f"{name}.onnx"
        graph.parent.mkdir(parents=True, exist_ok=True)
        save_graph(graph, modality)
        sensor = Modality(modality, tuple(Band(f"B{i}") for i in range(4)), ("band",), (4,))
        card = make_card(
            name=name, modality=sensor, task=task, graphs=["fp32", "int8.cpu"], created="2026-01-31T12:00:00Z",
            training={"method": "mdico", "modalities": ["optical", "sar"], "data": "my-fields"},
            accuracy={},
        )  # fmt: skip
        golden = {"input": np.ones((5, 4), np.float32)}
        golden |= {f"expected.{key}": np.ones((5, 3), np.float32) for key in ("fp32", "int8.cpu")}
        report = make_report(dataset="test", modality=modality, task=task, protocol=None, results=[])
        graphs = {"fp32": graph, "int8.cpu": graph}
        write_bundle(tmp_path / name, card=card, graphs=graphs, golden=golden, report=report, report_html="")
        return tmp_path / name

    return make


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Test data that the students predict rightly in nine of ten samples."""
    x = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
    target = (x @ WEIGHT).argmax(1)
    target[::10] = (target[::10] + 1) % 3
    path = tmp_path / "test.npz"
    np.savez(path, optical=x, sar=x, target=target, groups=np.arange(60) // 6)
    return path


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_bundle_is_measured_with_data(bundle: Callable[..., Path], data: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "out.json", tmp_path / "page.html"
    result = run(bundle(), "--data", data, "--batch", "1,8", "--json", "--out", out, "--html", page)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    validate_report(report)
    assert json.loads(out.read_text()) == report
    assert "<!doctype html>" in page.read_text()
    assert [(row["method"], row["precision"], row["batch"]) for row in report["results"]] == [
        ("mdico", "fp32", 1),
        ("mdico", "fp32", 8),
        ("mdico", "int8", 1),
        ("mdico", "int8", 8),
    ]
    assert report["results"][0]["scores"]["accuracy"] == pytest.approx(0.9)
    assert report["results"][0]["metric_ci95"] is not None
    assert report["modality"] == "optical"
    assert report["dataset"] == "test"
    assert "latency at batch 8" in result.stderr


def test_scenarios_threads_and_a_minute_under_load_stand_in_the_report(bundle: Callable[..., Path], data: Path) -> None:
    result = run(
        bundle(), "--data", data, "--batch", "1,4", "--threads", "1,2", "--latency-ms", "50", "--minutes", "0.001",
        "--precision", "int8", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    validate_report(report)
    assert [(row["threads"], row["scenario"]) for row in report["scenarios"]] == [
        (threads, name) for threads in (1, 2) for name in ("single-stream", "multi-stream", "server", "offline")
    ]
    (sustained,) = report["sustained"]
    assert sustained["batch"] == 1
    assert sustained["queries"] == sum(window["n"] for window in sustained["windows"])
    assert report["settings"]["threads"] == [1, 2]


def test_a_folder_holds_data_for_each_modality(bundle: Callable[..., Path], data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "test"
    folder.mkdir()
    with np.load(data) as archive:
        np.savez(folder / "optical.npz", optical=archive["optical"], target=archive["target"])
        np.savez(folder / "sar.npz", sar=archive["sar"][:30], target=1 - archive["target"][:30].clip(0, 1))
    result = run(bundle(), bundle("sar-int8", "sar"), "--data", folder, "--batch", "1", "--scenario", "", "--json")
    assert result.exit_code == 0, result.stderr
    rows = {row["modality"]: row for row in json.loads(result.stdout)["results"]}
    assert rows["optical"]["scores"]["accuracy"] == pytest.approx(0.9)
    assert rows["sar"]["scores"]["accuracy"] < 0.5
    (folder / "sar.npz").unlink()
    result = run(bundle(), bundle("sar-int8", "sar"), "--data", folder)
    assert (result.exit_code, "sar.npz is missing" in result.stderr) == (2, True)


def test_without_data_golden_inputs_are_timed_and_the_table_says_so(bundle: Callable[..., Path]) -> None:
    result = run(bundle(), "--precision", "int8", "--batch", "1")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"mdico\s+INT8\s+onnxruntime\s+n/a", result.stdout)
    assert "FP32" not in result.stdout
    assert "Accuracy was not measured" in result.stderr


def test_bundles_of_two_modalities_stand_in_one_report(bundle: Callable[..., Path], data: Path) -> None:
    result = run(bundle(), bundle("sar-int8", "sar"), "--data", data, "--batch", "1")
    assert result.exit_code == 0, result.stderr
    assert [line.split()[:2] for line in result.stdout.splitlines()[2:6]] == 2 * [["optical", "mdico"]] + 2 * [
        ["sar", "mdico"]
    ]


def test_two_bundles_of_one_modality_are_told_apart_by_their_folders(bundle: Callable[..., Path]) -> None:
    result = run(bundle("old"), bundle("new"), "--batch", "1", "--json")
    methods = {row["method"] for row in json.loads(result.stdout)["results"]}
    assert methods == {"mdico (old)", "mdico (new)"}


def test_two_bundles_of_one_name_are_told_apart_by_their_runs(bundle: Callable[..., Path]) -> None:
    folders = [bundle(f"{root}/bundles/{name}", name) for root in "ab" for name in ("optical", "sar")]
    result = run(*folders, "--batch", "1", "--json")
    methods = {row["method"] for row in json.loads(result.stdout)["results"]}
    assert methods == {"mdico (a)", "mdico (b)"}


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (["r/a", "r/b"], ["a", "b"]),
        (["r/a/bundles/x", "r/a/bundles/y", "r/b/bundles/x"], ["a/bundles/x", "a/bundles/y", "b/bundles/x"]),
        (["r/b", "r/b/b"], ["b", "b/b"]),
    ],
)
def test_where_paths_differ(folders: list[str], labels: list[str]) -> None:
    assert bundles.where_they_differ([Path(folder) for folder in folders]) == labels


def test_a_bundle_that_is_given_twice_is_refused(bundle: Callable[..., Path]) -> None:
    result = run(bundle(), bundle(), "--batch", "1")
    assert (result.exit_code, "is given twice" in result.stderr) == (2, True)


def test_bundles_of_different_tasks_are_refused(bundle: Callable[..., Path]) -> None:
    other = Task("multiclass", name="forest", classes=TASK.classes)
    result = run(bundle(), bundle("forest", task=other))
    assert (result.exit_code, "predicts 'forest'" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--batch", "1,x"), "give whole numbers"),
        (("--batch", "0"), "the smallest is 1"),
        (("--precision", "int4"), "holds 'int4'"),
        (("--data", "absent.npz"), "absent.npz is missing"),
        (("--scenario", "server"), "give one with --latency-ms"),
        (("--scenario", "stream"), "'stream' is not known"),
    ],
)
def test_bad_options_exit_with_two(bundle: Callable[..., Path], option: tuple[str, str], message: str) -> None:
    result = run(bundle(), *option)
    assert (result.exit_code, message in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optical": None}, "has no array 'optical'"),
        ({"target": None}, "has no array 'target'"),
        ({"optical": np.zeros((60, 5))}, "it must be numbers of shape (60, 4)"),
        ({"optical": np.zeros((59, 4))}, "it must be numbers of shape (60, 4)"),
        ({"groups": np.zeros(3)}, "groups has shape (3,)"),
        ({"target": np.full(60, 3)}, "class 3"),
        ({"target": np.array([{}] * 60)}, "not an .npz of plain arrays"),
    ],
)
def test_data_that_do_not_fit_are_named(
    bundle: Callable[..., Path], data: Path, changes: dict[str, Any], message: str
) -> None:
    with np.load(data) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(data, **{name: array for name, array in arrays.items() if array is not None})
    out = data.with_name("out.json")
    result = run(bundle(), "--data", data, "--out", out)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert not out.exists()


def test_a_file_that_is_no_archive_is_named(bundle: Callable[..., Path], tmp_path: Path) -> None:
    for name, content in (("text.npz", b"no archive"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        result = run(bundle(), "--data", tmp_path / name)
        assert (result.exit_code, f"{name} is not an .npz" in result.stderr) == (2, True)
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert run(bundle("third"), "--data", tmp_path / "array.npy").exit_code == 2


@pytest.fixture
def second_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine `halved` beside ours: ONNX Runtime, with all predictions turned to the first class."""
    import edge.deploy

    folder = tmp_path / "engines"
    folder.mkdir()
    (folder / "engine_halved.py").write_text(
        "from edge.deploy import engine_onnxruntime\n\n"
        "def open_graph(graph, threads):\n"
        "    engine = engine_onnxruntime.open_graph(graph, threads)\n"
        "    whole = engine.run\n"
        "    def run(inputs):\n"
        "        found = whole(inputs)['prediction'].copy()\n"
        "        found[:, 0] = 2\n"
        "        return {'prediction': found}\n"
        "    engine.run = run\n"
        "    return engine\n"
    )
    monkeypatch.setattr(edge.deploy, "__path__", [*edge.deploy.__path__, str(folder)])


@pytest.mark.usefixtures("second_engine")
def test_engines_stand_side_by_side_each_with_its_own_accuracy(bundle: Callable[..., Path], data: Path) -> None:
    arguments = (bundle(), "--data", data, "--batch", "1", "--precision", "int8", "--backend", "onnxruntime,halved")
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    validate_report(report)
    found = {row["engine"]: row["scores"]["accuracy"] for row in report["results"]}
    assert list(found) == ["onnxruntime", "halved"]
    assert found["onnxruntime"] == pytest.approx(0.9)
    assert found["halved"] < 0.6
    assert [row["engine"] for row in report["scenarios"]] == 3 * ["onnxruntime", "halved"]
    text = run(*arguments).stdout
    assert re.search(r"mdico\s+INT8\s+halved\s", text)
    assert "mdico INT8 onnxruntime" in text
    assert "mdico INT8 halved" in text  # a column of accuracy by class for each


def test_an_engine_that_is_unknown_or_lacks_its_graph_is_named(bundle: Callable[..., Path]) -> None:
    result = run(bundle(), "--backend", "onnxruntime,tensorflow")
    assert result.exit_code == 2
    assert "the backend 'tensorflow' is not known; use onnxruntime, openvino, tensorrt" in result.stderr
    result = run(bundle(), "--backend", "tensorrt", "--precision", "int8")
    assert (result.exit_code, "has no int8 for tensorrt; it has fp32, int8.cpu" in result.stderr) == (2, True)


def test_the_data_set_is_named_where_the_data_are_those_that_its_build_kept(
    bundle: Callable[..., Path], data: Path, tmp_path: Path
) -> None:
    (tmp_path / "bundles").mkdir()
    folder = bundle("optical-int8").rename(tmp_path / "bundles" / "optical-int8")
    (tmp_path / "test").mkdir()
    kept, own = tmp_path / "test" / "optical.npz", tmp_path / "fields.npz"
    for path in (kept, own):
        path.write_bytes(data.read_bytes())
    for path, name in ((kept.parent, "my-fields"), (kept, "my-fields"), (own, "fields")):
        result = run(folder, "--data", path, "--batch", "1", "--scenario", "", "--json")
        assert json.loads(result.stdout)["dataset"] == name
