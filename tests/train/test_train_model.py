import dataclasses

import pytest
import torch
from torch import nn

from edge.errors import InputError
from edge.recipe import Model
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train import encoders
from edge.train.encoders import build_trunk, mlp, tempcnn
from edge.train.model import Branch, CoLearner

SMALL = Model(width=8, hidden=16, embedding=8)
OPTICAL = Modality("optical", tuple(Band(f"b{i}") for i in range(3)), ("time", "band"), (6, 3))
SAR = Modality("sar", (Band("VV"), Band("VH")), ("time", "band"), (4, 2))
SOIL = Modality("soil", (Band("clay"),), ("band",), (1,))
PHOTO = Modality("photo", (Band("red"),), ("band", "y", "x"), (1, 8, 8))
TASKS = [
    Task("binary", classes=("no", "yes")),
    Task("multiclass", classes=("oat", "rye", "pea")),
    Task("multilabel", classes=("oak", "fir", "elm", "yew")),
    Task("regression"),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("modalities", [[OPTICAL, SAR], [OPTICAL, SAR, SOIL]], ids=["two", "three"])
@pytest.mark.parametrize("single", [False, True], ids=["co-learner", "single"])
def test_every_student_predicts_from_its_own_number_of_samples(task, modalities, single):
    model = CoLearner(modalities, task, SMALL, single=single)
    inputs = {modality.name: torch.randn(5 + i, *modality.shape) for i, modality in enumerate(modalities)}
    features = model(inputs)
    assert list(features) == [modality.name for modality in modalities]
    for i, part in enumerate(features.values()):
        assert part.prediction.shape == (5 + i, task.n_outputs)
        half = 0 if single else 4
        assert part.specific.shape == part.unused.shape == part.shared.shape == (5 + i, half)


@pytest.mark.parametrize("modality", [OPTICAL, SOIL], ids=["series", "vector"])
def test_a_trunk_ends_in_non_negative_features_of_the_hidden_width(modality):
    features = build_trunk(modality, SMALL)(torch.randn(7, *modality.shape))
    assert features.shape == (7, 16)
    assert (features >= 0).all()


def test_specific_and_unused_are_the_two_halves_of_one_embedding():
    torch.manual_seed(0)
    branch = Branch(OPTICAL, TASKS[3], SMALL).eval()
    x = torch.randn(5, *OPTICAL.shape)
    found = branch(x)
    z = branch.specific(x)
    torch.testing.assert_close(found.specific, z[:, :4])
    torch.testing.assert_close(found.unused, z[:, 4:])
    torch.testing.assert_close(found.prediction, branch.head(torch.cat([z[:, :4], found.shared], dim=1)))
    assert (found.shared >= 0).all()


def test_the_unused_half_has_no_influence_on_the_prediction():
    branch = Branch(OPTICAL, TASKS[3], SMALL).eval()
    x = torch.randn(5, *OPTICAL.shape)
    before = branch(x).prediction
    with torch.no_grad():
        branch.specific.project.weight[4:] += 1
    torch.testing.assert_close(branch(x).prediction, before)


def test_convolutions_run_along_time_and_see_all_bands():
    trunk = build_trunk(OPTICAL, Model(width=8, hidden=16, embedding=8, kernel=3)).eval()
    x = torch.zeros(1, *OPTICAL.shape)
    moved = x.clone()
    moved[0, 0, 2] = 1.0  # the first time step, the last band
    difference = (trunk[:2](moved) - trunk[:2](x))[0]  # (width, time)
    assert (difference[:, :2] != 0).all()  # a kernel of 3 reaches one step
    assert (difference[:, 2:] == 0).all()


def test_layer_norm_stands_behind_every_encoder_only_if_asked_for():
    def count(model):
        return sum(isinstance(part, nn.LayerNorm) for part in CoLearner([OPTICAL, SOIL], TASKS[3], model).modules())

    assert count(SMALL) == 0
    assert count(Model(width=8, hidden=16, embedding=8, layer_norm=True)) == 4


@pytest.mark.parametrize("modality", [OPTICAL, PHOTO, SOIL], ids=["series", "image", "vector"])
def test_bfloat16_rounds_as_long_as_it_is_asked_for(modality):
    torch.manual_seed(0)
    encoder = Branch(modality, TASKS[3], dataclasses.replace(SMALL, dropout=0.0)).specific
    x = torch.randn(16, *modality.shape)
    exact = encoder(x).detach()
    encoder.bf16 = True
    rounded = encoder(x)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.05  # 8 bits of mantissa, some layers
    rounded.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in encoder.parameters())
    encoder.bf16 = False
    assert torch.equal(encoder(x), exact)


def test_the_discriminators_have_one_output_for_each_modality():
    heads = CoLearner([OPTICAL, SAR, SOIL], TASKS[1], SMALL).heads
    assert heads.tell_specific.out_features == heads.tell_unused.out_features == 3
    assert heads.auxiliary.out_features == 3


def test_a_modality_without_an_encoder_is_refused(monkeypatch):
    monkeypatch.setattr(encoders, "FAMILIES", (tempcnn, mlp))
    with pytest.raises(InputError, match=r"'photo' is of kind 'image'; .* for series tempcnn; for vector mlp"):
        build_trunk(PHOTO, SMALL)
