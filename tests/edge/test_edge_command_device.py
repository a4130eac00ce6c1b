"""The commands of the device: inspect, verify, predict."""

import importlib.util
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge.cli import main

GATE = {"name": "max drop", "passed": False}


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """tests/deploy/tiny_bundles.py, which the tests of edge.deploy use too."""
    spec = importlib.util.spec_from_file_location(
        "tiny_bundles", Path(__file__).parents[1] / "deploy" / "tiny_bundles.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bundle(tiny: ModuleType, tmp_path: Path) -> Path:
    folder: Path = tiny.build(tmp_path / "optical-int8").folder
    return folder


@pytest.fixture
def samples(tiny: ModuleType, tmp_path: Path) -> Path:
    np.save(tmp_path / "samples.npy", tiny.values(20))
    return tmp_path / "samples.npy"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def document(result: Result) -> Any:
    """Stdout must be one JSON document and nothing else."""
    return json.loads(result.stdout)


def test_verify_passes_a_good_bundle(bundle: Path) -> None:
    result = run("verify", bundle)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert result.stderr.count("passed") == 12
    found = document(run("verify", bundle, "--json"))
    assert found["passed"] is True
    assert found["checks"][0] == {"name": "checksums", "passed": True, "detail": "7 files"}


def test_verify_fails_with_3_and_says_which_check(tiny: ModuleType, tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "bundle", gates=(GATE,)).folder
    result = run("verify", folder)
    assert result.exit_code == 3
    assert "1 of 12 checks failed: gates" in result.stderr
    as_json = run("verify", folder, "--json")
    assert as_json.exit_code == 3
    assert document(as_json)["passed"] is False


@pytest.mark.parametrize("command", ["verify", "inspect", "predict"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: (b / "golden.npz").write_bytes(b"x" + (b / "golden.npz").read_bytes()[1:]), "the file golden.npz"),
        (lambda b: (b / "model.fp32.onnx").unlink(), "the file model.fp32.onnx"),
        (lambda b: rewrite(b / "card.json", "./model.fp32.onnx", "../model.fp32.onnx"), "leaves its folder"),
        (lambda b: rewrite(b / "card.json", "edge.bundle/1", "edge.bundle/7"), "'edge.bundle/7' is not known"),
        (lambda b: (b / "card.json").unlink(), "is not a bundle"),
    ],
    ids=["changed byte", "missing file", "path outside", "unknown schema", "no card"],
)
def test_a_bad_bundle_exits_with_2_and_names_the_thing(
    bundle: Path, samples: Path, tmp_path: Path, command: str, damage: Callable[[Path], object], message: str
) -> None:
    damage(bundle)
    more = (samples, "-o", tmp_path / "out.csv") if command == "predict" else ()
    result = run(command, bundle, *more)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output
    assert not (tmp_path / "out.csv").exists()


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_inspect_prints_tables_or_json(bundle: Path) -> None:
    result = run("inspect", bundle)
    assert result.exit_code == 0, result.output
    assert "B04 [reflectance x 10000]" in result.stdout
    assert document(run("inspect", bundle, "--json"))["graphs"]["int8.cpu"]["layers"][0]["op"] == "Conv"


def test_predict_writes_a_table_and_says_what_it_did(bundle: Path, samples: Path, tmp_path: Path) -> None:
    result = run("predict", bundle, samples, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("20 samples, int8 on onnxruntime, ")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 21
    done = document(run("predict", bundle, samples, "-o", tmp_path / "out.npz", "--precision", "fp32", "--json"))
    assert (done["samples"], done["precision"]) == (20, "fp32")


def test_predict_warns_of_a_bundle_that_failed_a_gate(tiny: ModuleType, samples: Path, tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "bundle", gates=(GATE,)).folder
    result = run("predict", folder, samples, "-o", tmp_path / "out.csv", "--json")
    assert result.exit_code == 0
    assert "Warning: this bundle failed gates of its build: max drop" in result.stderr
    assert document(result)["failed_gates"] == ["max drop"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 3, 5), np.float32), "has shape [4, 3, 5]"),
        (np.zeros((4, 3, 2), np.complex64), "holds complex64 values"),
        (np.zeros((0, 3, 2), np.float32), "holds no samples"),
    ],
    ids=["bands", "type", "empty"],
)
def test_predict_refuses_samples_that_do_not_fit(bundle: Path, tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "bad.npy", array)
    result = run("predict", bundle, tmp_path / "bad.npy", "-o", tmp_path / "out.csv")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out.csv").exists()


def test_predict_refuses_an_empty_folder(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    result = run("predict", bundle, tmp_path / "void", "-o", tmp_path / "out.csv")
    assert result.exit_code == 2
    assert "holds no .npy, .npz, .tif, .png or .jpg file" in result.stderr


def test_predict_on_a_full_disk_leaves_nothing_and_no_traceback(
    bundle: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.deploy.predict._write_csv", full)
    (tmp_path / "results").mkdir()
    result = run("predict", bundle, samples, "-o", tmp_path / "results" / "out.csv")
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.parametrize("command", ["verify", "predict"])
def test_a_missing_engine_exits_with_5(
    bundle: Path, samples: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    more = (samples, "-o", tmp_path / "out.csv") if command == "predict" else ()
    result = run(command, bundle, *more)
    assert result.exit_code == 5
    assert "pip install 'edge-colearn[cpu]'" in result.stderr


@pytest.mark.parametrize("command", ["verify", "predict"])
def test_an_unknown_engine_exits_with_2(bundle: Path, samples: Path, tmp_path: Path, command: str) -> None:
    more = (samples, "-o", tmp_path / "out.csv") if command == "predict" else ()
    result = run(command, bundle, *more, "--backend", "abacus")
    assert result.exit_code == 2
    assert "backend 'abacus' is not known" in result.stderr


def test_a_bar_is_drawn_on_a_terminal_only(bundle: Path, samples: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "edge", "predict", bundle, samples, "-o", tmp_path / "out.csv"]
    plain = subprocess.run(arguments, capture_output=True, check=True)
    assert b"\r" not in plain.stderr
    ours, theirs = pty.openpty()
    subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=theirs, check=True)
    drawn = os.read(ours, 1 << 16)
    os.close(ours)
    os.close(theirs)
    assert b"100%" in drawn


def test_predict_runs_with_numpy_click_and_onnxruntime_alone(bundle: Path, samples: Path, tmp_path: Path) -> None:
    blocked = ("torch", "nncf", "onnx", "jsonschema", "referencing", "matplotlib", "tqdm", "safetensors", "pyarrow")
    code = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\nfrom edge.cli import main\nmain(sys.argv[1:])"
    )
    for name in ("out.csv", "out.npz"):
        arguments = [sys.executable, "-c", code, "predict", bundle, samples, "-o", tmp_path / name]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / name).exists()
    checked = subprocess.run(
        [sys.executable, "-c", code, "verify", bundle], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "skipped  card" in checked.stderr
