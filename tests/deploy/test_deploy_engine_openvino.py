"""The OpenVINO engine beside numpy and ONNX Runtime, on the same graphs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundles import TASKS, build, reference, student, values

from edge.deploy import engine_openvino
from edge.deploy.bundle import Bundle
from edge.deploy.engine import backends, open_engine
from edge.deploy.engine_openvino import OpenVINOEngine, open_graph
from edge.deploy.verify import verify
from edge.errors import BackendMissing, FitError, InputError


@pytest.fixture(scope="module")
def openvino():
    return pytest.importorskip("openvino", reason="openvino is not installed; pip install 'edge-colearn[openvino]'")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "model.fp32.onnx"
    onnx.save(student(TASKS["binary"], "fp32"), path)
    return path


@pytest.fixture
def engine(openvino, graph: Path) -> OpenVINOEngine:
    return open_graph(graph, threads=1)


def ask(engine: OpenVINOEngine, inputs: np.ndarray) -> np.ndarray:
    return engine.run({"optical": inputs})["prediction"]


def test_a_missing_library_names_the_line_that_installs_it(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "openvino" in backends()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendMissing, match=r"pip install 'edge-colearn\[openvino\]'"):
        open_engine(graph, backend="openvino")


@pytest.mark.parametrize("kind", TASKS)
def test_it_computes_what_numpy_computes(openvino, kind: str, tmp_path: Path) -> None:
    onnx.save(student(TASKS[kind], "fp32"), tmp_path / "model.onnx")
    inputs = values(20)
    found = open_engine(tmp_path / "model.onnx", backend="openvino").run({"optical": inputs})
    assert list(found) == ["prediction"]
    np.testing.assert_allclose(found["prediction"], reference(TASKS[kind], inputs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("key", ["fp32", "int8.cpu"])
def test_it_gives_what_onnx_runtime_gives(openvino, tiny_bundle: Bundle, key: str) -> None:
    inputs = values(64)
    theirs = open_engine(tiny_bundle.graphs[key]).run({"optical": inputs})["prediction"]
    found = ask(open_graph(tiny_bundle.graphs[key], 1), inputs)
    np.testing.assert_allclose(found, theirs, atol=1e-6)


def test_quantized_layers_run_in_integers(openvino, tiny_bundle: Bundle) -> None:
    model = openvino.Core().read_model(tiny_bundle.graphs["int8.cpu"])
    model.reshape([4, 3, 2])
    compiled = openvino.Core().compile_model(model, "CPU", engine_openvino._SETTINGS)
    about = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    found = {str(each["layerType"].value): str(each["runtimePrecision"].value) for each in about}
    assert found["Convolution"] in ("u8", "i8")
    assert found["FullyConnected"] in ("u8", "i8")


def test_float_layers_stay_in_single_precision(openvino, tmp_path: Path) -> None:
    """Where the processor has bfloat16, OpenVINO's default is off by 1e-3 here."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(256, 256)).astype(np.float32) / 16
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 256]) for name in "xy"]
    made = helper.make_graph(nodes, "g", sides[:1], sides[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    x = random.normal(size=(64, 256)).astype(np.float32)
    found = open_graph(tmp_path / "model.onnx", 1).run({"x": x})["y"]
    np.testing.assert_allclose(found, x.astype(np.float64) @ weight, atol=1e-5)


def test_every_batch_size_gives_the_same_and_few_of_them_are_kept(engine: OpenVINOEngine) -> None:
    inputs = values(40)
    expected = reference(TASKS["binary"], inputs)
    for size in (1, 40, *range(2, 12), 1, 40):
        np.testing.assert_allclose(ask(engine, inputs[:size]), expected[:size], rtol=1e-4, atol=1e-6)
    assert len(engine._requests) == engine_openvino.REQUESTS


def test_a_batch_size_is_compiled_once(engine: OpenVINOEngine) -> None:
    for size in (3, 5, 3, 5, 3):
        ask(engine, values(size))
    assert list(engine._requests) == [((5, 3, 2),), ((3, 3, 2),)], "the one used last stands last"
    first = engine._requests[((3, 3, 2),)]
    ask(engine, values(3, seed=1))
    assert engine._requests[((3, 3, 2),)] is first


def test_an_answer_is_not_changed_by_the_next_run(engine: OpenVINOEngine) -> None:
    first = ask(engine, values(4))
    kept = first.copy()
    ask(engine, values(4, seed=1))
    np.testing.assert_array_equal(first, kept)


def test_inputs_may_be_strided_or_read_only(engine: OpenVINOEngine) -> None:
    inputs = values(10)
    strided, frozen = np.repeat(inputs, 2, axis=0)[::2], inputs.copy()
    frozen.flags.writeable = False
    assert not strided.flags.c_contiguous
    expected = ask(engine, inputs)
    np.testing.assert_array_equal(ask(engine, strided), expected)
    np.testing.assert_array_equal(ask(engine, frozen), expected)


def test_inputs_that_do_not_fit_are_refused(engine: OpenVINOEngine) -> None:
    with pytest.raises(InputError, match=r"received shape \[2, 3, 1\]; expected \[batch, 3, 2\]"):
        ask(engine, values(2)[..., :1])
    with pytest.raises(InputError, match="received no samples"):
        ask(engine, values(2)[:0])


def test_a_fixed_batch_axis_stays_fixed(openvino, tmp_path: Path) -> None:
    onnx.save(student(TASKS["binary"], "fp32", batch=4), tmp_path / "model.onnx")
    engine = open_graph(tmp_path / "model.onnx", 1)
    np.testing.assert_allclose(ask(engine, values(4)), reference(TASKS["binary"], values(4)), rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match=r"expected \[4, 3, 2\]"):
        ask(engine, values(3))


def test_describe_says_what_runs_and_on_how_many_threads(openvino, graph: Path) -> None:
    engine = open_engine(graph, backend="openvino", threads=2)
    about = engine.describe()
    assert (about["backend"], about["threads"], about["graph"]) == ("openvino", 2, str(graph))
    assert openvino.__version__.startswith(about["version"])
    assert about["inputs"] == [{"name": "optical", "shape": [None, 3, 2], "dtype": "float32"}]
    assert about["outputs"] == [{"name": "prediction", "shape": [None, 2], "dtype": "float32"}]
    engine.run({"optical": values(2)})
    (request,) = engine._requests.values()
    assert request._request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") == 2


def test_the_parts_of_a_run_are_the_graph_alone(engine: OpenVINOEngine) -> None:
    outputs, parts = engine.run_in_parts({"optical": values(5)})
    np.testing.assert_array_equal(outputs["prediction"], ask(engine, values(5)))
    assert parts.graph > 0
    assert parts.copy_in is parts.copy_out is None


def test_graphs_that_it_cannot_run_are_told_from_graphs_that_are_none(openvino, tmp_path: Path) -> None:
    model = student(TASKS["binary"], "fp32")
    model.graph.node[-1].op_type = "Nonsense"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FitError, match=r"cannot run .*: No conversion rule found for operations: Nonsense"):
        open_graph(tmp_path / "model.onnx", 1)
    model = student(TASKS["binary"], "fp32")
    model.graph.node[-1].input[0] = "nowhere"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="is not a graph that OpenVINO accepts: nowhere node not found"):
        open_graph(tmp_path / "model.onnx", 1)
    (tmp_path / "model.onnx").write_bytes(b"hello, world")
    with pytest.raises(InputError, match="is not an ONNX file"):
        open_graph(tmp_path / "model.onnx", 1)


def test_a_graph_that_does_not_compile_does_not_fit_this_machine(
    engine: OpenVINOEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Exception from src/a.cpp:1:\nCheck 'x' failed at src/b.cpp:2:\nno kernel for it\n")

    monkeypatch.setattr(engine._core, "compile_model", refuse)
    with pytest.raises(FitError, match=r"cannot compile .*model\.fp32\.onnx: no kernel for it$"):
        ask(engine, values(2))


@pytest.mark.parametrize("kind", TASKS)
def test_a_bundle_verifies_on_it(openvino, kind: str, tmp_path: Path) -> None:
    bundle = build(tmp_path / "bundle", kind)
    checks = verify(bundle, "openvino")
    assert [check.name for check in checks if check.passed is False] == []
    assert {check.name for check in checks} >= {"golden int8.cpu", "batch int8.cpu", "golden fp32"}


def test_opening_and_running_prints_nothing(openvino, graph: Path) -> None:
    code = (
        "import numpy, pathlib; from edge.deploy.engine import open_engine; "
        f"engine = open_engine(pathlib.Path({str(graph)!r}), backend='openvino'); "
        "engine.run({'optical': numpy.zeros((2, 3, 2), 'f4')}); engine.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
