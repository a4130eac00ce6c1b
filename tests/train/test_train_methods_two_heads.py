import dataclasses

import numpy as np
import pytest
import torch

from edge.recipe import Model, Recipe
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.methods import taught
from edge.train.methods.mdico import objectives
from edge.train.methods.method import Setting
from edge.train.methods.two_heads import WEIGHTS, WithSecondHead, best_weight, merge, read
from edge.train.objectives import Loss
from edge.train.paired import write_paired_set
from edge.train.samples import load_samples
from edge.train.splits import Split
from edge.train.training import load_trained, train

TASK = Task("regression", "moisture", unit="%")
RECIPE = Recipe(model=Model(width=8, hidden=16, embedding=8))
SPLIT = Split(np.arange(40), np.arange(40, 70), np.arange(70, 80))


@pytest.fixture
def setting(tmp_path, monkeypatch):
    """80 samples of 8 groups; the validation samples are of three of them."""
    monkeypatch.setattr("edge.train.methods.random_forest.TREES", 5)
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(80, 2)).astype(np.float32) for name in ("optical", "sar")}
    arrays["sar"][50:55] = np.nan
    data = write_paired_set(
        tmp_path / "set", name="made",
        modalities={name: Modality(name, (Band("a"), Band("b")), ("band",), (2,)) for name in arrays},
        arrays=arrays, task=TASK, target=arrays["optical"][:, 0], groups=np.arange(80) // 10,
        source={"title": "made for a test"},
    )  # fmt: skip
    samples = load_samples(data, ("optical", "sar"), SPLIT)
    return Setting(data, RECIPE, SPLIT, samples, Loss(TASK), tmp_path / "run", resume=True)


@pytest.fixture
def network(setting):
    torch.manual_seed(0)
    return taught.build(list(setting.data.modalities.values()), TASK, RECIPE).eval()


def losses(best, gains):
    """Those of weight 0 are 1, those of `best` lower by `gains`, all others are 2."""
    found = np.full((len(WEIGHTS), len(gains)), 2.0)
    found[0] = 1
    found[WEIGHTS.index(best)] = 1 - np.array(gains)
    return found


def test_the_second_head_must_be_better_by_a_standard_error():
    """By hand: 3, 2, 1 deviate by 1, so that their sum 6 has an error of 1.73; that of 3, -1, -1 is 4."""
    assert best_weight(losses(0.7, [3, 2, 1])) == 0.7
    assert best_weight(losses(0.7, [3, -1, -1])) == 0


def test_where_the_taught_head_is_best_it_stays():
    assert best_weight(losses(0.9, [-0.1, -0.2])) == 0


def test_the_second_heads_learn_and_change_nothing_else(network, setting):
    batch = setting.batch(network, torch.arange(12))
    plain = objectives(dataclasses.replace(RECIPE, method="mdico"), setting.loss)

    def gradients(objective):
        network.zero_grad()
        parts = objective(network(batch.inputs), batch.target, batch.rows, network.heads)
        parts["total"].backward()
        return parts, {name: parameter.grad for name, parameter in network.named_parameters()}

    without, expected = gradients(plain)
    both, found = gradients(WithSecondHead(plain))
    assert both["total"].item() == pytest.approx((without["total"] + both["label"]).item())
    for name, gradient in found.items():
        if name.startswith("heads.label"):
            assert expected[name] is None
            assert gradient.abs().sum() > 0
        else:
            torch.testing.assert_close(gradient, expected[name])


def test_one_head_says_what_the_mixture_of_both_said(network, setting):
    x = setting.samples.inputs["optical"][:20]
    student, second = network.students["optical"], network.heads.label[0]
    with torch.no_grad():
        student.head.bias.fill_(10)  # far off, so that there is something to choose
        before = student(x)
        other = second(read(before))
    weight = merge(network, setting)["optical"]
    assert weight > 0
    np.testing.assert_allclose(
        student(x).prediction.detach(), (1 - weight) * before.prediction + weight * other, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("good", "expected"), [(0, 0.0), (1, 1.0)])
def test_a_head_that_knows_the_target_is_taken_alone(network, setting, monkeypatch, good, expected):
    """The target is the first value of optical: a student that passes it on, and one head that reads it."""
    monkeypatch.setattr("edge.train.methods.two_heads.AT_ONCE", 7)  # 30 validation samples are five pieces

    class Passing(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.pad(x[:, :1], (0, 7))

    student, second = network.students["optical"], network.heads.label[0]
    student.specific = Passing()
    with torch.no_grad():
        for head, knows in ((student.head, good == 0), (second, good == 1)):
            head.weight.zero_()
            head.bias.zero_()
            head.weight[0, 0] = 1.0 if knows else -1.0
    assert merge(network, setting)["optical"] == expected


@pytest.mark.parametrize(("protocol", "expected"), [("random", 0.7), ("grouped", 0.0)])
def test_the_taught_head_stays_alone_for_new_places(setting, monkeypatch, protocol, expected):
    monkeypatch.setattr("edge.train.methods.two_heads.best_weight", lambda losses: 0.7)
    training = dataclasses.replace(RECIPE.training, epochs=2)
    recipe = dataclasses.replace(RECIPE, method="taught", protocol=protocol, folds=4, training=training)
    made = train(setting.data, recipe, setting.folder)
    assert made.facts["untaught"] == {"optical": expected, "sar": expected}
    assert ("label" in made.facts["history"][0]["train"]) == (protocol == "random")
    x = torch.from_numpy(made.scaling["optical"].apply(np.asarray(setting.data.arrays["optical"])))
    torch.testing.assert_close(
        load_trained(setting.folder).model.students["optical"](x).prediction,
        made.model.students["optical"](x).prediction,
    )
