import pytest
import torch
from torch import nn

from edge.compress.fold import (
    DeployedStudent,
    FoldedSingle,
    FoldedStudent,
    cost,
    first_rows,
    fold_batch_norm,
    fold_sequential,
    merge_linear,
)
from edge.recipe import Model
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.model import SingleBranch

SERIES = Modality("sar", (Band("VV"), Band("VH")), ("time", "band"), (6, 2))
VECTOR = Modality("soil", tuple(Band(f"b{i}") for i in range(4)), ("band",), (4,))
TASK = Task("multiclass", "crop", ("oat", "rye", "pea"))
SMALL = {"width": 16, "hidden": 32, "embedding": 16}


@pytest.mark.parametrize("modality", [SERIES, VECTOR], ids=["series", "vector"])
@pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "layer_norm"])
def test_a_folded_student_gives_the_same_features_and_predictions(branch, modality, layer_norm) -> None:
    whole = branch(modality, TASK, Model(**SMALL, layer_norm=layer_norm))
    folded = FoldedStudent(whole)
    x = 3 * torch.randn(200, *modality.shape)
    with torch.no_grad():
        expected, (prediction, specific, shared, trunk) = whole(x), folded(x)
        deployed = DeployedStudent(folded)(x)
    size = expected.prediction.abs().max()
    assert size > 1  # outputs that are worth comparing
    for found, wanted in ((specific, expected.specific), (shared, expected.shared), (prediction, expected.prediction)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * max(1.0, float(wanted.abs().max())))
    torch.testing.assert_close(deployed, expected.prediction, rtol=0, atol=1e-5 * max(1.0, float(size)))
    torch.testing.assert_close(whole.specific.trunk(x), trunk, rtol=0, atol=1e-5 * float(trunk.abs().max()))


@pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "layer_norm"])
def test_a_folded_single_model_gives_the_same_predictions(branch, layer_norm) -> None:
    whole = branch(SERIES, TASK, Model(**SMALL, layer_norm=layer_norm), SingleBranch)
    x = torch.randn(200, *SERIES.shape)
    with torch.no_grad():
        expected = whole(x).prediction
        torch.testing.assert_close(FoldedSingle(whole)(x), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_a_trained_student_is_folded_within_1e_minus_5(case) -> None:
    for name, whole in case.trained.model.students.items():
        x = case.samples.inputs[name]
        with torch.no_grad():
            difference = (DeployedStudent(FoldedStudent(whole))(x) - whole(x).prediction).abs().max()
        assert difference <= 1e-5, name


def test_nothing_is_left_of_batch_norm_dropout_and_the_unused_half(branch) -> None:
    folded = DeployedStudent(FoldedStudent(branch(SERIES, TASK)))
    kinds = {type(layer) for layer in folded.modules()}
    assert not kinds & {nn.BatchNorm1d, nn.Dropout, nn.LayerNorm}
    assert [
        (name, tuple(layer.weight.shape)) for name, layer in folded.named_modules() if hasattr(layer, "weight")
    ] == [
        ("specific.conv1", (16, 2, 5)),
        ("specific.conv2", (16, 16, 5)),
        ("specific.dense", (32, 96)),
        ("shared.conv1", (16, 2, 5)),
        ("shared.conv2", (16, 16, 5)),
        ("shared.dense", (32, 96)),
        ("to_shared.project", (8, 32)),
        ("head", (3, 40)),  # 32 trunk features and 8 shared features
    ]


def test_with_layer_norm_all_units_of_the_embedding_stay(branch) -> None:
    folded = DeployedStudent(FoldedStudent(branch(SERIES, TASK, Model(**SMALL, layer_norm=True))))
    assert folded.to_specific is not None
    assert folded.to_specific.project.out_features == 16
    assert folded.head.weight.shape == (3, 24)
    assert not folded.head.weight[:, 8:16].any()  # z_unused counts for nothing


def test_parameters_and_macs_are_those_counted_by_hand(branch) -> None:
    whole = branch(SERIES, TASK)
    x = torch.zeros(1, *SERIES.shape)
    conv1, conv2, dense = 16 * 2 * 5, 16 * 16 * 5, 32 * 96  # weights of one trunk
    norms, biases = 2 * (16 + 16 + 32), 16 + 16 + 32
    trunk_macs = 6 * (conv1 + conv2) + dense  # each convolution at six time steps
    before = cost(whole, x)
    assert (
        before.parameters
        == 2 * (conv1 + conv2 + dense + biases + norms + 32 * 16 + 16) + (16 * 8 + 8 + 2 * 8) + 16 * 3 + 3
    )
    assert before.macs == 2 * (trunk_macs + 32 * 16) + 16 * 8 + 16 * 3
    after = cost(DeployedStudent(FoldedStudent(whole)), x)
    assert after.parameters == 2 * (conv1 + conv2 + dense + biases) + (32 * 8 + 8) + 40 * 3 + 3
    assert after.macs == 2 * trunk_macs + 32 * 8 + 40 * 3
    assert after.to_json() == {"parameters": after.parameters, "macs": after.macs}


def test_folding_leaves_the_model_as_it_was(branch) -> None:
    whole = branch(SERIES, TASK)
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    folded = FoldedStudent(whole)
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.zero_()
    after = whole.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Conv1d(3, 5, 3, bias=False), nn.BatchNorm1d(5), (4, 3, 9)),
        (nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), (4, 3, 6, 6)),
        (nn.Linear(3, 5), nn.BatchNorm1d(5), (4, 3)),
    ],
)
def test_batch_norm_is_folded_into_each_kind_of_layer(layer, norm, shape) -> None:
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 4)
        norm.weight.normal_()
        norm.bias.normal_()
    x = torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(fold_batch_norm(layer, norm)(x), norm.eval()(layer(x)), rtol=1e-5, atol=1e-5)


def test_a_batch_norm_without_a_layer_before_it_stays() -> None:
    layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(6), nn.Linear(6, 2), nn.Dropout(), nn.Linear(2, 3))
    folded = fold_sequential(layers)
    assert [type(layer) for layer in folded] == [nn.Flatten, nn.BatchNorm1d, nn.Linear]
    assert folded[2].weight.shape == (3, 6)


def test_two_linear_layers_become_their_product() -> None:
    first, second = nn.Linear(4, 7), nn.Linear(7, 2)
    x = torch.randn(9, 4)
    with torch.no_grad():
        torch.testing.assert_close(merge_linear(first, second)(x), second(first(x)))


def test_dropped_rows_are_the_last_ones() -> None:
    layer = nn.Linear(4, 6)
    x = torch.randn(9, 4)
    with torch.no_grad():
        torch.testing.assert_close(first_rows(layer, 2)(x), layer(x)[:, :2])
