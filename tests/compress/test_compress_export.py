from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edge.compress.export import PredictionOnly, export
from edge.compress.fold import DeployedStudent, FoldedSingle, FoldedStudent, cost
from edge.compress.graphs import folding, fp32_graph
from edge.recipe import Model
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.model import SingleBranch
from edge.train.scaling import Scaling

SERIES = Modality("optical", (Band("B04"), Band("B08"), Band("NDVI")), ("time", "band"), (6, 3))
VECTOR = Modality("soil", tuple(Band(f"b{i}") for i in range(4)), ("band",), (4,))
TASKS = {
    "binary": Task("binary", "crop", ("no", "yes")),
    "multiclass": Task("multiclass", "crop", ("oat", "rye", "pea")),
    "multilabel": Task("multilabel", "use", ("meadow", "orchard", "vineyard")),
    "regression": Task("regression", "lfmc", unit="%"),
}
TARGET_SCALING = (104.5, 38.0)  # mean and standard deviation of a moisture content in percent


def scaling(modality: Modality) -> Scaling:
    bands = len(modality.bands)
    shape = (1, bands) if modality.kind == "series" else (bands,)
    mean, std = np.linspace(500, 1500, bands), np.linspace(40, 300, bands)
    return Scaling(mean.reshape(shape).astype(np.float32), std.reshape(shape).astype(np.float32))


def values(modality: Modality, n: int = 256) -> np.ndarray:
    """Sensor values with gaps, and a sample that is missing altogether."""
    random = np.random.default_rng(0)
    x = (1000 + 300 * random.normal(size=(n, *modality.shape))).astype(np.float32)
    x[random.random(x.shape) < 0.2] = np.nan
    x[0] = np.nan
    return x


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (prediction,) = session.run(["prediction"], {model.graph.input[0].name: x})
    return prediction


def by_torch(whole: torch.nn.Module, modality: Modality, task: Task, x: np.ndarray) -> np.ndarray:
    """The unfolded student on z-scores of numpy; probabilities and units by numpy too."""
    z = np.where(np.isnan(x), 0, (x - scaling(modality).mean) / scaling(modality).std)
    with torch.no_grad():
        output = whole(torch.from_numpy(z.astype(np.float32))).prediction.numpy().astype(np.float64)
    if task.kind == "regression":
        return output * TARGET_SCALING[1] + TARGET_SCALING[0]
    if task.kind == "multilabel":
        return 1 / (1 + np.exp(-output))
    exponents = np.exp(output - output.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def deployed(whole: torch.nn.Module) -> torch.nn.Module:
    return FoldedSingle(whole) if isinstance(whole, SingleBranch) else DeployedStudent(FoldedStudent(whole))


@pytest.fixture
def graph(branch) -> onnx.ModelProto:
    return export(
        deployed(branch(SERIES, TASKS["multiclass"])), SERIES, TASKS["multiclass"], scaling(SERIES), (0.0, 1.0)
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("modality", [SERIES, VECTOR], ids=["series", "vector"])
def test_onnx_runtime_gives_what_the_unfolded_student_gives(branch, modality, task) -> None:
    whole = branch(modality, task)
    x = values(modality)
    found = run(export(deployed(whole), modality, task, scaling(modality), TARGET_SCALING), x)
    expected = by_torch(whole, modality, task, x)
    assert found.shape == (256, task.n_outputs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    assert np.ptp(expected, axis=0).max() > 1e-3  # a hundred times the tolerance


@pytest.mark.parametrize("kind", ["layer_norm", "single"])
def test_students_with_layer_norm_and_single_models_are_exported_too(branch, kind) -> None:
    model = Model(width=16, hidden=32, embedding=16, layer_norm=kind == "layer_norm")
    task = TASKS["regression"]
    whole = branch(SERIES, task, model, *([SingleBranch] if kind == "single" else []))
    found = run(export(deployed(whole), SERIES, task, scaling(SERIES), TARGET_SCALING), values(SERIES))
    expected = by_torch(whole, SERIES, task, values(SERIES))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_regression_speaks_units_of_its_target(three) -> None:
    model = fp32_graph(three.trained, "sar")
    test = three.split.test[three.data.present("sar")[three.split.test]]
    predicted = run(model, three.data.arrays["sar"][test])[:, 0]
    target = three.data.target[test]
    assert np.corrcoef(predicted, target)[0, 1] > 0.3  # it has learned something ...
    assert abs(predicted.mean() - target.mean()) < 0.5 * target.std()  # ... and says it in t/ha


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_the_batch_axis_is_free(graph, batch) -> None:
    x = values(SERIES)
    np.testing.assert_allclose(run(graph, x[:batch]), run(graph, x)[:batch], rtol=1e-5, atol=1e-6)


def test_the_names_of_input_output_and_layers_say_what_they_are(graph) -> None:
    (given,), (result,) = graph.graph.input, graph.graph.output
    assert (given.name, result.name) == ("optical", "prediction")
    assert [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim] == ["batch", 6, 3]
    assert [axis.dim_param or axis.dim_value for axis in result.type.tensor_type.shape.dim] == ["batch", 3]
    assert {given.type.tensor_type.elem_type, result.type.tensor_type.elem_type} == {onnx.TensorProto.FLOAT}
    weights = {tensor.name for tensor in graph.graph.initializer}
    assert {"specific.conv1.weight", "shared.dense.bias", "to_shared.project.weight", "head.weight"} <= weights
    assert not [node.name for node in graph.graph.node if "/" in node.name or not node.name]


@pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "layer_norm"])
def test_the_graph_is_opset_17_of_plain_onnx_with_its_weights_inside(branch, layer_norm, tmp_path) -> None:
    whole = branch(SERIES, TASKS["binary"], Model(width=16, hidden=32, embedding=16, layer_norm=layer_norm))
    graph = export(deployed(whole), SERIES, TASKS["binary"], scaling(SERIES), (0.0, 1.0))
    onnx.checker.check_model(graph, full_check=True)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 17)]
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    kinds = {node.op_type for node in graph.graph.node}
    assert not kinds & {"Identity", "Constant", "Dropout", "BatchNormalization", "Slice"}
    onnx.save(graph, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in graph.graph.initializer)


def test_every_tensor_has_an_inferred_shape(graph) -> None:
    described = {value.name for value in (*graph.graph.value_info, *graph.graph.output)}
    assert {name for node in graph.graph.node for name in node.output} <= described


def test_folding_saves_parameters_macs_and_nodes_and_changes_nothing(case) -> None:
    for name in case.trained.modalities:
        saved = folding(case.trained, name)
        assert saved.difference <= 1e-5
        assert saved.after["nodes"] < saved.before["nodes"]
        if not case.recipe.model.layer_norm:
            assert saved.after["parameters"] < saved.before["parameters"]
            assert saved.after["macs"] <= saved.before["macs"]
        graph = fp32_graph(case.trained, name)
        assert saved.after["nodes"] == len(graph.graph.node)


def test_at_the_real_width_folding_removes_macs_too(branch) -> None:
    task = Task("binary", "crop", ("no", "yes"))
    whole = branch(SERIES, task, Model())
    before = cost(PredictionOnly(whole), torch.zeros(1, *SERIES.shape))
    after = cost(deployed(whole), torch.zeros(1, *SERIES.shape))
    # project and to_shared of both encoders and the head, against to_shared and the merged head
    assert before.macs - after.macs == 2 * 512 * 128 + 128 * 64 + 128 * 2 - (512 * 64 + 576 * 2)


def test_exporting_does_not_change_the_trained_model(three, tmp_path: Path) -> None:
    first, second = (fp32_graph(three.trained, "soil").SerializeToString() for _ in range(2))
    assert first == second
