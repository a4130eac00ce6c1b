"""The device's side on its oldest Python, with numpy, click and onnxruntime and nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    python = shutil.which("python3.10")
    if python is None or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no python3.10 here: JetPack 6 has it")
    folder = tmp_path_factory.mktemp("device")
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "-q", f"{ROOT}[cpu]"], check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A bundle of a small student, built here, and its test samples."""
    run = tmp_path_factory.mktemp("run")
    recipe = run.with_suffix(".json")
    small = {"width": 16, "hidden": 32, "embedding": 16}
    recipe.write_text(
        json.dumps({"model": small, "training": {"epochs": 2}, "compression": {"epochs": 1}, "max_drop": 1})
    )
    edge = Path(sys.executable).with_name("edge")
    command = [str(edge), "build", "--modality", "sar", "--int8", "--recipe", str(recipe), "--out", str(run), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr  # a student this small may be slower in INT8
    return Path(json.loads(done.stdout)["bundle"]), run / "test" / "sar.npz"


def test_predict_verify_and_bench_run_with_three_packages(device, built, tmp_path):
    bundle, samples = built
    run = lambda *words: subprocess.run(  # noqa: E731
        [str(device / "edge"), *map(str, words)], check=False, capture_output=True, text=True
    )
    packages = subprocess.run([str(device / "pip"), "list"], check=True, capture_output=True, text=True).stdout
    assert not {"torch", "onnx", "nncf", "jsonschema"} & {line.split()[0].lower() for line in packages.splitlines()}
    done = run("predict", bundle, samples, "-o", tmp_path / "out.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as found:
        assert len(found["prediction"]) == len(np.load(samples)["target"])
    checks = json.loads(run("verify", bundle, "--json").stdout)["checks"]
    assert {check["passed"] for check in checks if check["name"] not in ("card", "gates")} == {True}, checks
    report = json.loads(run("bench", bundle, "--data", samples, "--batch", "1", "--json").stdout)
    assert {row["precision"] for row in report["results"]} == {"fp32", "int8"}
