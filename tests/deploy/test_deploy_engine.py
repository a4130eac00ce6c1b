import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundles import TASKS, reference, student, values

from edge.deploy.bundle import Bundle
from edge.deploy.engine import backends, open_engine
from edge.deploy.engine_onnxruntime import optimized_model
from edge.deploy.onnx_file import read_onnx
from edge.errors import BackendMissing, FitError, InputError


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "model.fp32.onnx"
    onnx.save(student(TASKS["binary"], "fp32"), path)
    return path


@pytest.mark.parametrize("kind", TASKS)
def test_the_engine_computes_what_numpy_computes(kind: str, tmp_path: Path) -> None:
    onnx.save(student(TASKS[kind], "fp32"), tmp_path / "model.onnx")
    inputs = values(20)
    found = open_engine(tmp_path / "model.onnx").run({"optical": inputs})
    assert list(found) == ["prediction"]
    np.testing.assert_allclose(found["prediction"], reference(TASKS[kind], inputs), rtol=1e-4, atol=1e-6)


def test_describe_says_what_runs_and_on_how_many_threads(graph: Path) -> None:
    about = open_engine(graph, threads=2).describe()
    assert about["backend"] == "onnxruntime"
    assert about["threads"] == 2
    assert about["providers"] == ["CPUExecutionProvider"]
    assert about["graph"] == str(graph)
    assert about["inputs"] == [{"name": "optical", "shape": [None, 3, 2], "dtype": "float32"}]
    assert about["outputs"] == [{"name": "prediction", "shape": [None, 2], "dtype": "float32"}]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"sar": values(2)}, r"received the inputs \['sar'\]; the graph expects \['optical'\]"),
        ({"optical": values(2), "sar": values(2)}, r"received the inputs \['optical', 'sar'\]"),
        ({}, r"received the inputs \[\]"),
        ({"optical": values(2)[..., :1]}, r"received shape \[2, 3, 1\]; expected \[batch, 3, 2\]"),
        ({"optical": values(2)[0]}, r"received shape \[3, 2\]; expected \[batch, 3, 2\]"),
        ({"optical": values(2)[:0]}, "received no samples"),
        ({"optical": values(2).astype(np.float64)}, "received float64 values; expected float32"),
        ({"optical": values(2).astype(">f4")}, "received >f4 values; expected float32"),
        ({"optical": values(2).tolist()}, "received a list; expected a numpy array"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_both_sides_named(
    graph: Path, inputs: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_engine(graph).run(inputs)


def test_an_input_that_is_not_contiguous_gives_the_same_prediction(graph: Path) -> None:
    engine, inputs = open_engine(graph), values(10)
    strided = np.repeat(inputs, 2, axis=0)[::2]
    assert not strided.flags.c_contiguous
    np.testing.assert_array_equal(
        engine.run({"optical": strided})["prediction"], engine.run({"optical": inputs})["prediction"]
    )


def test_an_unknown_backend_names_the_known_ones(graph: Path) -> None:
    with pytest.raises(InputError, match=r"backend 'cuda' is not known; use one of .*onnxruntime"):
        open_engine(graph, backend="cuda")
    assert "onnxruntime" in backends()


def test_a_missing_library_names_the_line_that_installs_it(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendMissing, match=r"pip install 'edge-colearn\[cpu\]'"):
        open_engine(graph)


def test_threads_below_one_are_refused(graph: Path) -> None:
    with pytest.raises(InputError, match="threads is 0"):
        open_engine(graph, threads=0)


@pytest.mark.parametrize("kept", [0, 1, 40, 300])
def test_a_truncated_graph_is_refused(graph: Path, kept: int) -> None:
    graph.write_bytes(graph.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"model\.fp32\.onnx is not an ONNX file, or it is truncated"):
        open_engine(graph)


@pytest.mark.parametrize("content", [b"PK\x03\x04 not a graph", b"hello, world", b"\x00" * 64, bytes(range(256))])
def test_a_file_that_is_not_onnx_is_refused(graph: Path, content: bytes) -> None:
    graph.write_bytes(content)
    with pytest.raises(InputError, match="is not an ONNX file"):
        open_engine(graph)


def test_a_missing_graph_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.onnx"):
        with pytest.raises(InputError, match="is not a file"):
            open_engine(path)


def test_a_graph_that_onnxruntime_refuses_is_an_input_error(tmp_path: Path) -> None:
    model = student(TASKS["binary"], "fp32")
    model.graph.node[-1].input[0] = "nowhere"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="is not a graph that ONNX Runtime accepts"):
        open_engine(tmp_path / "model.onnx")


def test_a_graph_of_a_later_opset_does_not_fit_this_machine(tmp_path: Path) -> None:
    model = student(TASKS["binary"], "fp32")
    model.opset_import[0].version = 99
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FitError, match="cannot run"):
        open_engine(tmp_path / "model.onnx")


def test_weights_in_another_file_are_refused_wherever_they_hang(tmp_path: Path) -> None:
    outside = numpy_helper.from_array(np.ones(4, np.float32), "w")
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="/etc/passwd")
    constant = helper.make_node("Constant", [], ["c"])
    constant.attribute.append(helper.make_attribute("value", outside))
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])])
    condition = helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)
    for nodes, initializers in (([], [outside]), ([constant], []), ([condition], [])):
        graph = helper.make_graph(nodes, "g", [], [], initializers)
        (tmp_path / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
        with pytest.raises(InputError, match="keeps weights in another file"):
            open_engine(tmp_path / "model.onnx")


def test_the_reader_hands_back_every_byte_of_a_whole_graph(graph: Path) -> None:
    assert read_onnx(graph) == graph.read_bytes()


def test_the_graph_that_onnxruntime_runs_can_be_looked_at(tiny_bundle: Bundle, tmp_path: Path) -> None:
    optimized_model(tiny_bundle.graphs["int8.cpu"], tmp_path / "optimized.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert any(operator.startswith("QLinearConv") for operator in operators)
    assert "Conv" not in operators


def test_opening_an_engine_prints_nothing(graph: Path) -> None:
    code = f"from pathlib import Path\nfrom edge.deploy.engine import open_engine\nopen_engine(Path({str(graph)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
