"""The code for TensorRT 10 and the code for TensorRT 11, both run by NVIDIA's libraries (slow, with the network).

TensorRT-RTX 1.4.0.76 has the API of TensorRT 10, 1.7.1.116 that of 11. Each gets a virtual environment of its own, in
EDGE_TEST_VENVS if that is set, so that a second run needs no network. Neither says anything about Jetson's TensorRT.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import onnx
import pytest
from qdq_graphs import tempcnn

pytestmark = pytest.mark.slow
VERSIONS = ("1.4.0.76", "1.7.1.116")
PACKAGES = ("numpy", "click", "onnx")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A folder from which `edge` can be imported as it is here, without being installed."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT / "edge", folder / "edge")
    for part in ("deploy", "benchmarks"):
        shutil.copytree(ROOT / part, folder / "edge" / part, ignore=shutil.ignore_patterns("results"))
    return folder


@pytest.fixture(scope="module")
def graphs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    onnx.save(tempcnn("float"), folder / "float.onnx")
    onnx.save(tempcnn(), folder / "int8.onnx")
    return folder


@pytest.fixture(scope="module", params=VERSIONS)
def python(request, tmp_path_factory) -> tuple[str, str]:
    """A version, and a Python that has it."""
    version = request.param
    kept = os.environ.get("EDGE_TEST_VENVS")
    folder = (Path(kept) if kept else tmp_path_factory.mktemp("venvs")) / f"tensorrt-rtx-{version}"
    inside = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [inside, "-m", "pip", "install", "-q", f"tensorrt-rtx=={version}", *PACKAGES]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"pip cannot install tensorrt-rtx {version}: {done.stderr.strip().splitlines()[-1]}")
        (folder / "ready").touch()
    return version, str(inside)


def run(python: str, package: Path, code: str, graphs: Path, cache: Path) -> dict:
    """What `code` leaves in `found`, run where `build`, `Options` and the graphs are at hand; warnings are errors."""
    head = f"""
        import json, sys
        from pathlib import Path
        from edge.deploy import tensorrt_api
        from edge.deploy.builder_tensorrt import Options, build
        from edge.errors import EdgeError
        graphs, found = Path({str(graphs)!r}), {{}}
    """
    script = textwrap.dedent(head) + textwrap.dedent(code) + "\nprint(json.dumps(found))"
    done = subprocess.run(
        [python, "-W", "error", "-c", script], capture_output=True, text=True, check=False, cwd=package,
        env={**os.environ, "EDGE_CACHE": str(cache), "PYTHONPATH": str(package)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_float_graphs_build_in_fp32_and_fp16_with_free_and_fixed_batch(python, package, graphs, tmp_path):
    version, inside = python
    code = """
        for precision in ("fp32", "fp16"):
            for batch in ((1, 4, 8), (4, 4, 4)):
                made = build(graphs / "float.onnx", Options(precision, batch, workspace_mb=64, level=3))
                found[f"{precision} {batch}"] = [len(made.plan), made.builder, made.typed, list(made.warnings)]
    """
    found = run(inside, package, code, graphs, tmp_path)
    assert len(found) == 4
    for size, builder, typed, warnings in found.values():
        assert size > 10_000
        assert (builder, typed, warnings) == (f"tensorrt_rtx {version}", "strongly", [])


def test_the_flag_for_strong_typing_has_the_number_of_its_version(python, package, graphs, tmp_path):
    version, inside = python
    code = """
        trt = tensorrt_api.load("tensorrt_rtx").trt
        flags = trt.NetworkDefinitionCreationFlag.__members__
        found = {name: int(value) for name, value in flags.items()}
        found["INT8"] = "INT8" in trt.BuilderFlag.__members__
    """
    found = run(inside, package, code, graphs, tmp_path)
    old = version == VERSIONS[0]
    assert (found.get("STRONGLY_TYPED"), found["INT8"], "EXPLICIT_BATCH" in found) == (
        (1, True, True) if old else (0, False, False)
    )


def test_int8_builds_with_the_11_api_and_the_10_one_reads_the_graph(python, package, graphs, tmp_path):
    version, inside = python
    code = """
        try:
            found["bytes"] = len(build(graphs / "int8.onnx", Options("int8", (1, 4, 8))).plan)
        except EdgeError as error:
            found["error"] = error.message
    """
    found = run(inside, package, code, graphs, tmp_path)
    if version == VERSIONS[1]:
        assert found["bytes"] > 10_000
    else:  # it parses, and its compiler has no INT8 convolution
        assert "cannot build" in found["error"]
        assert "refuses" not in found["error"]
        assert "would change the types" not in found["error"]


def test_the_weakly_typed_branch_really_sets_the_flags_of_the_10_api(python, package, graphs, tmp_path):
    """TensorRT-RTX takes strongly typed networks only, and names the flag that it was given: proof that it arrived."""
    version, inside = python
    if version != VERSIONS[0]:
        pytest.skip("TensorRT 11's API has no flags for precision")
    code = """
        tensorrt_api.Api.strongly_typed = lambda self, asked: False
        found["fp32"] = len(build(graphs / "float.onnx", Options("fp32", (1, 4, 8))).plan)
        import edge.deploy.builder_tensorrt as builder
        builder.keep_ends_in_fp32 = lambda *_: None  # its layers have no precision to set
        for precision, graph in (("fp16", "float.onnx"), ("int8", "int8.onnx")):
            try:
                build(graphs / graph, Options(precision, (1, 4, 8)))
            except EdgeError as error:
                found[precision] = error.message
    """
    found = run(inside, package, code, graphs, tmp_path)
    assert found["fp32"] > 10_000
    assert "getFlag(BuilderFlag::kFP16)" in found["fp16"]
    assert "getFlag(BuilderFlag::kINT8)" in found["int8"]
