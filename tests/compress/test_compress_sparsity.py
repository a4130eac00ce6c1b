"""2:4 sparsity with fine-tuning: which weights stay, that they stay at 0, and that both exported graphs have it."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edge.compress.compression import Compressed, compress, load_compressed
from edge.compress.export import export
from edge.compress.fold import DeployedStudent, FoldedStudent
from edge.compress.graphs import fp32_graph, int8_graphs
from edge.compress.quantize import quantize
from edge.compress.sparsity import hold, largest, prune
from edge.deploy.onnx_graph import Graph
from edge.deploy.rules_onnxruntime import check_fused
from edge.deploy.rules_tensorrt import check_tensorrt
from edge.deploy.sparsity import broken_groups, check_sparse, declare, declared, rows_of
from edge.errors import InputError
from edge.gates import sparsity_gates
from edge.recipe import Compression, Model, Recipe
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.model import Branch
from edge.train.scaling import Scaling

SPARSE = {"specific.conv2", "specific.dense", "shared.conv2", "shared.dense"}  # conv1 has 12 bands, the shared part 8


@pytest.fixture(scope="module")
def sparse(two, tmp_path_factory) -> Compressed:
    """Fine-tuned with steps large enough to move what may move."""
    settings = Compression(epochs=1, lr=1e-3, sparsity="2:4")
    recipe = dataclasses.replace(two.recipe, compression=settings)
    return compress(two.data, two.trained, recipe, tmp_path_factory.mktemp("sparse") / "compress")


@pytest.fixture(scope="module")
def graphs(two, sparse) -> dict[str, onnx.ModelProto]:
    return int8_graphs(two.trained, sparse, "optical")


@pytest.mark.parametrize("shape", [(3, 8), (2, 16, 5), (4, 4, 3, 3)])
def test_the_two_largest_of_any_four_stay(shape) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    kept = (weight * largest(weight)).reshape(shape[0], shape[1], -1).numpy()
    flat = weight.reshape(shape[0], shape[1], -1).numpy()
    for k in range(shape[0]):
        for place in range(flat.shape[2]):
            for start in range(0, shape[1], 4):
                group = flat[k, start : start + 4, place]
                expected = np.where(np.argsort(np.argsort(-np.abs(group))) < 2, group, 0)
                np.testing.assert_array_equal(kept[k, start : start + 4, place], expected)


def test_equal_weights_lose_two_as_well() -> None:
    assert largest(torch.ones(1, 8)).sum() == 4


def test_the_layers_that_sparse_kernels_take_are_pruned_and_keep_their_range(two) -> None:
    student = FoldedStudent(two.trained.model.students["optical"])
    before = {name: student.get_parameter(f"{name}.weight").abs().max() for name in SPARSE}
    prune({"optical": student})
    assert set(student.sparse) >= SPARSE
    for name in student.sparse:
        weight = student.get_parameter(f"{name}.weight").detach()
        assert broken_groups(weight.numpy()) == 0
        assert (weight == 0).float().mean() == 0.5
    assert before == {name: student.get_parameter(f"{name}.weight").abs().max() for name in SPARSE}
    assert (student.get_parameter("specific.conv1.weight") != 0).all()
    assert (student.head.weight != 0).all()


def test_students_without_a_layer_of_that_size_are_refused(two) -> None:
    student = FoldedStudent(two.trained.model.students["optical"])
    for name in ("conv2", "dense"):
        setattr(student.specific, name, torch.nn.Linear(12, 8))
        setattr(student.shared, name, torch.nn.Linear(12, 8))
    student.to_shared = torch.nn.Sequential(torch.nn.Linear(12, 8))
    with pytest.raises(InputError, match="no layer is of a size that sparse kernels take"):
        prune({"optical": student})


def test_zeros_get_no_step_and_others_do(two) -> None:
    student = FoldedStudent(two.trained.model.students["optical"])
    prune({"optical": student})
    live = torch.nn.ModuleDict({"optical": quantize(student, [two.samples.inputs["optical"][:32]])})
    hold(live)
    weights = {name: live["optical"].get_parameter(f"{name}.weight") for name in student.sparse}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    optimiser = torch.optim.Adam(live.parameters(), lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        live["optical"](two.samples.inputs["optical"][:32])[0].square().sum().backward()
        optimiser.step()
    for name, weight in weights.items():
        zeros = before[name] == 0
        assert (weight[zeros] == 0).all(), name
        assert (weight[~zeros] != before[name][~zeros]).float().mean() > 0.5, name


@pytest.mark.parametrize("key", ["int8.tensorrt", "int8.cpu"])
def test_both_graphs_have_exact_zeros_in_the_pattern_after_quantization(graphs, key) -> None:
    graph = Graph(graphs[key])
    assert set(declared(graphs[key])) >= SPARSE
    assert list(check_sparse(graph)) == []
    for node in graph.nodes:
        if node.op_type in ("Conv", "Gemm") and any(node.name.startswith(f"{name}.") for name in SPARSE):
            weight = rows_of(graph, node)
            assert (weight == 0).mean() >= 0.5
            assert weight.dtype == (np.int8 if key == "int8.cpu" else np.float32)


def test_the_graphs_keep_the_rules_of_their_engines(graphs) -> None:
    assert check_tensorrt(graphs["int8.tensorrt"]) == []
    assert check_fused(graphs["int8.cpu"]) == []


def test_the_gate_counts_layers_that_break_the_pattern_or_are_not_declared(graphs, sparse, tmp_path) -> None:
    paths = {key: tmp_path / f"{key}.onnx" for key in graphs}
    for key, model in graphs.items():
        onnx.save(model, paths[key])
    layers = sparse.students["optical"].sparse
    assert [(gate["value"], gate["passed"]) for gate in sparsity_gates(paths, layers)] == [(0, True), (0, True)]
    broken = onnx.ModelProto()
    broken.CopyFrom(graphs["int8.cpu"])
    (tensor,) = (each for each in broken.graph.initializer if each.name == "specific.dense.weight.quantized")
    tensor.CopyFrom(numpy_helper.from_array(np.ones_like(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(broken, paths["int8.cpu"])
    found = sparsity_gates(paths, (*layers, "specific.conv1"))
    assert [(gate["value"], gate["passed"]) for gate in found] == [(1, False), (2, False)]


@pytest.mark.parametrize(
    ("encoder", "dims", "shape", "some"),
    [
        ("ltae", ("time", "band"), (6, 16), "specific.attention.key"),
        ("transformer", ("time", "band"), (6, 16), "shared.block2_dense.body.narrow"),
        ("mlp", ("band",), (16,), "specific.dense1"),
        ("mobilenet", ("band", "y", "x"), (3, 16, 16), "shared.conv9"),
        ("resnet18", ("band", "y", "x"), (3, 32, 32), "specific.layer2_0.shortcut.conv"),
        ("patch", ("band", "y", "x"), (20, 7, 7), "specific.sizes.around.conv"),
    ],
)
def test_every_family_has_its_sparse_layers_in_the_graph(encoder, dims, shape, some) -> None:
    bands = tuple(Band(f"b{i}") for i in range(shape[dims.index("band")]))
    modality, task = Modality(encoder, bands, dims, shape), Task("regression")
    torch.manual_seed(0)
    model = Model(width=64, hidden=32, embedding=32, encoder=encoder)
    student = FoldedStudent(Branch(modality, task, model).eval())
    prune({encoder: student})
    assert some in student.sparse
    flat = [1] * len(shape)
    scaling = Scaling(np.zeros(flat, np.float32), np.ones(flat, np.float32))
    graph = export(DeployedStudent(student), modality, task, scaling, (0.0, 1.0))
    declare(graph, student.sparse)
    assert list(check_sparse(Graph(graph))) == []


def test_the_float_graph_stays_dense(two) -> None:
    graph = fp32_graph(two.trained, "optical")
    assert declared(graph) == ()
    (weight,) = (tensor for tensor in graph.graph.initializer if tensor.name == "specific.conv2.weight")
    assert (numpy_helper.to_array(weight) != 0).all()


def test_what_is_sparse_is_known_again_when_it_is_loaded(two, sparse) -> None:
    loaded = load_compressed(sparse.folder, two.trained)
    assert loaded.students["sar"].sparse == sparse.students["sar"].sparse != ()
    assert two.compressed.students["sar"].sparse == ()
    assert sparse.facts["fingerprint"] != two.compressed.facts["fingerprint"]


def test_another_pattern_is_refused() -> None:
    with pytest.raises(InputError, match="the only pattern is '2:4'"):
        Recipe(compression=Compression(sparsity="1:4")).check()
