import dataclasses

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from edge.errors import InputError
from edge.recipe import Recipe
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.methods import taught
from edge.train.methods.method import Setting
from edge.train.methods.random_forest import QUANTILES, described
from edge.train.objectives import Loss, class_weights
from edge.train.paired import write_paired_set
from edge.train.samples import load_samples
from edge.train.splits import Split

REGRESSION = Task("regression", "moisture", unit="%")
CLASSES = Task("multiclass", "crop", classes=("wheat", "maize", "rye"))
LABELS = Task("multilabel", "trees", classes=("oak", "pine"))


@pytest.fixture
def setting(tmp_path, monkeypatch):
    """120 samples of 12 groups: what is known of a sample is in `weather`, which is not trained on."""
    monkeypatch.setattr("edge.train.methods.random_forest.TREES", 20)

    def make(task=REGRESSION, change=lambda target: target):
        rng = np.random.default_rng(0)
        arrays = {name: rng.normal(size=(120, 2)).astype(np.float32) for name in ("optical", "sar", "weather")}
        value = arrays["weather"][:, 0]
        target = {
            "regression": value,
            "multiclass": np.digitize(value, (-0.5, 0.5)),
            "multilabel": np.stack([value > 0, value < 1], axis=1).astype(np.int64),
        }[task.kind]
        data = write_paired_set(
            tmp_path / f"set{len(list(tmp_path.iterdir()))}", name="made",
            modalities={name: Modality(name, (Band("a"), Band("b")), ("band",), (2,)) for name in arrays},
            arrays=arrays, task=task, target=change(target.copy()), groups=np.arange(120) // 10,
            source={"title": "made for a test"}, default_modalities=("optical", "sar"),
        )  # fmt: skip
        split = Split(np.arange(80), np.arange(80, 100), np.arange(100, 120))
        samples = load_samples(data, ("optical", "sar"), split)
        return Setting(data, Recipe(), split, samples, Loss(task), tmp_path, resume=True)

    return make


def test_no_group_is_judged_by_a_forest_that_saw_it(setting):
    def other_labels_in_group_3(target):
        target[30:40] = target[30:40][::-1] + 5 * np.arange(10)
        return target

    # the scaling of the target follows the labels, so both are compared in units
    said = []
    for each in (setting(), setting(change=other_labels_in_group_3)):
        mean, std = each.samples.target_scaling
        said.append((taught.cross_fitted_forest(each).outputs[:, 0] * std + mean).numpy())
    unchanged = np.isclose(said[0][:80], said[1][:80], rtol=1e-3, atol=1e-3)
    assert unchanged[30:40].all()
    assert not unchanged[:30].all()
    assert not np.allclose(said[0][80:100], said[1][80:100])


def test_the_teacher_uses_modalities_that_no_student_reads(setting):
    found = setting()
    said = taught.cross_fitted_forest(found).outputs[:80, 0]
    assert np.corrcoef(said, found.samples.target[:80])[0, 1] > 0.8


@pytest.mark.parametrize("task", [REGRESSION, CLASSES, LABELS], ids=lambda task: task.kind)
def test_validation_samples_hear_what_scikit_learns_forest_on_all_training_samples_says(setting, task):
    found = setting(task)
    data, split = found.data, found.split
    x = np.concatenate([np.asarray(data.arrays[name]) for name in data.arrays], axis=1)
    shared = {"n_estimators": 20, "min_samples_leaf": 3, "random_state": 0}
    y = found.samples.target.numpy()
    outputs = taught.cross_fitted_forest(found).outputs[split.validation]
    if task.kind == "regression":
        expected = RandomForestRegressor(max_features=0.4, **shared).fit(x[split.train], y[split.train])
        np.testing.assert_allclose(outputs[:, 0], expected.predict(x[split.validation]), rtol=1e-5)
        return
    expected = RandomForestClassifier(class_weight="balanced", max_features="sqrt", **shared)
    expected.fit(x[split.train], y[split.train])
    said = expected.predict_proba(x[split.validation])
    if task.kind == "multilabel":
        np.testing.assert_allclose(outputs.sigmoid(), np.stack([p[:, 1] for p in said], 1).clip(1e-3, 0.999), rtol=1e-4)
    else:
        np.testing.assert_allclose(outputs.softmax(1), said, atol=3e-3)


def test_a_teacher_of_classes_leans_to_none_of_them():
    """90 samples of class 0, 10 of class 1, none of class 2: worked out by hand."""
    said = torch.tensor([[0.8, 0.19, 0.01]]).repeat(90, 1), torch.tensor([[0.6, 0.39, 0.01]]).repeat(10, 1)
    target = torch.tensor([0] * 90 + [1] * 10)
    weights = class_weights(CLASSES, target)
    asked = torch.tensor([[0.7, 0.29, 0.01]])  # on average what it says of either class: it knows nothing
    found = taught.balanced(torch.cat([*said, asked]).log(), target, weights).exp()
    np.testing.assert_allclose(found[-1], [1, 1, 0.01], rtol=1e-5)
    np.testing.assert_allclose(found[0], [0.8 / 0.7, 0.19 / 0.29, 0.01], rtol=1e-5)


def test_forests_of_rare_classes_are_balanced(setting):
    found = setting(CLASSES, change=lambda target: np.where(np.arange(120) % 4 > 0, 0, target))
    y = found.samples.target[:80]
    weighted = dataclasses.replace(found, loss=Loss(CLASSES, class_weights(CLASSES, y)))
    leaning, even = (
        torch.stack([taught.cross_fitted_forest(each).outputs[:80].softmax(1)[y == k].mean(0) for k in range(3)])
        for each in (found, weighted)
    )
    assert (even.mean(0) - 1 / 3).abs().max() < 0.5 * (leaning.mean(0) - 1 / 3).abs().max()


def test_test_samples_are_not_asked_about(setting):
    assert torch.isnan(taught.cross_fitted_forest(setting()).outputs[100:]).all()


def test_a_large_set_teaches_from_a_part_of_it(setting, monkeypatch):
    whole = taught.cross_fitted_forest(setting()).outputs
    monkeypatch.setattr(taught, "AT_MOST", 40)
    monkeypatch.setattr(taught, "BLOCK", 7)
    part = taught.cross_fitted_forest(setting()).outputs
    assert torch.isfinite(part[:100]).all()
    assert not torch.equal(part[:100], whole[:100])
    assert torch.equal(part[:100], taught.cross_fitted_forest(setting()).outputs[:100])


def test_one_group_cannot_be_judged_by_others(setting):
    found = setting()
    split = dataclasses.replace(found.split, train=np.arange(10))
    with pytest.raises(InputError, match="all training samples are of one group"):
        taught.cross_fitted_forest(dataclasses.replace(found, split=split))


def test_with_random_folds_the_places_of_the_students_are_the_teachers_places(setting):
    found = setting()
    one_group = dataclasses.replace(found.split, train=np.arange(10))
    random = dataclasses.replace(found, split=one_group, recipe=dataclasses.replace(found.recipe, protocol="random"))
    assert torch.isfinite(taught.cross_fitted_forest(random).outputs[:10]).all()


def test_an_image_is_told_by_the_quantiles_of_its_bands(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(6, 2, 5, 4)).astype(np.float32)
    image[1, 0, :2] = np.nan
    image[2, 1] = np.nan
    data = write_paired_set(
        tmp_path / "set", name="made",
        modalities={"rgb": Modality("rgb", (Band("a"), Band("b")), ("band", "y", "x"), (2, 5, 4))},
        arrays={"rgb": image}, task=REGRESSION, target=np.arange(6.0), groups=np.arange(6),
        source={"title": "made for a test"},
    )  # fmt: skip
    found = described(data, "rgb", np.array([1, 2, 4]))
    assert found.shape == (3, 2 * len(QUANTILES))
    np.testing.assert_allclose(found[2, 5:], np.quantile(image[4, 1], QUANTILES), rtol=1e-5)
    np.testing.assert_allclose(found[0, :5], np.quantile(image[1, 0, 2:], QUANTILES), rtol=1e-5)
    assert np.isnan(found[1, 5:]).all()
