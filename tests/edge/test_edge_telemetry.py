"""Telemetry of ONNX Runtime, OpenVINO and NNCF is off before they are imported, and leaves nothing on the disk."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

NAME = "ORT_DISABLE_TELEMETRY"
PREDICT = "from edge.deploy.engine import open_engine; import numpy, pathlib, sys; \
open_engine(pathlib.Path(sys.argv[1])).run({'x': numpy.zeros((1, 4), 'f4')})"


def python(home: Path, code: str, *words: str, **variables: str) -> str:
    """What `code` prints in a process with a home, a cache and a temporary folder of its own, and no CI's variables."""
    for folder in (home / "tmp", home / "cache"):
        folder.mkdir(parents=True)
    # Nothing else of the environment: on a CI's machine ONNX Runtime would be silent by itself.
    own = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(home / "tmp")}
    command = [sys.executable, "-c", code, *words]
    environment = {"PATH": os.environ["PATH"], **own, **variables}
    done = subprocess.run(command, env=environment, cwd=home, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def traces(home: Path) -> list[str]:
    return sorted(path.name for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({NAME: "0"}, "0"), ({NAME: "1"}, "1")])
def test_import_edge_switches_it_off_and_the_users_own_word_counts(
    tmp_path: Path, given: dict[str, str], expected: str
) -> None:
    code = f"import edge, os, sys; print(os.environ['{NAME}'], 'onnxruntime' in sys.modules)"
    assert python(tmp_path / "home", code, **given) == f"{expected} False"


def test_the_variable_is_the_one_that_this_onnxruntime_knows() -> None:
    """Read, not run: a client that was switched on would send. Fails if a newer wheel asks for another name."""
    found = importlib.util.find_spec("onnxruntime")
    assert found
    assert found.origin
    binary = next((Path(found.origin).parent / "capi").glob("onnxruntime_pybind11_state*")).read_bytes()
    if b"OneCollector" not in binary:
        pytest.skip("this ONNX Runtime has no telemetry client")
    assert f"\0{NAME}\0".encode() in binary


def test_a_prediction_leaves_no_file_of_telemetry(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "relu.onnx")
    python(tmp_path / "edge", PREDICT, str(tmp_path / "relu.onnx"))
    assert traces(tmp_path / "edge") == []


# Prints what starts a process or opens a socket from here on.
WATCH = """import sys
def hook(event, values):
    if event.startswith(("socket.", "subprocess.", "os.fork", "os.posix_spawn")):
        print(event)
sys.addaudithook(hook)
"""


@pytest.mark.parametrize("library", ["openvino", "nncf"])
def test_no_library_reports_that_it_was_imported(tmp_path: Path, library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    code = "import edge\nassert 'openvino_telemetry' in sys.modules\n"
    code += "import edge.compress.quantize\n" if library == "nncf" else ""  # silences it in more ways
    paths = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    assert python(tmp_path / "home", f"{WATCH}{code}import {library}", **paths) == ""
    assert traces(tmp_path / "home") == []
