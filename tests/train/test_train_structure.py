import csv
import dataclasses
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from edge.cli import main
from edge.errors import InputError
from edge.metrics import bootstrap_interval
from edge.recipe import Model, Recipe, Training
from edge.tasks import Task
from edge.train import structure
from edge.train.analysis import table, write_analysis
from edge.train.samples import load_samples
from edge.train.sources.simulated import simulate
from edge.train.splits import split_indices
from edge.train.structure import (
    Value,
    Views,
    analyse,
    found_at,
    headline,
    modality_probe,
    retrieval,
    target_probe,
    views_of,
)
from edge.train.structure_picture import cohorts_of, components, placed
from edge.train.training import split_of, train

REGRESSION = Task("regression", "moisture", unit="%")


def views(rng, apart, n=200, names=("optical", "sar")):
    """Features of n samples; each modality is shifted by `apart`."""
    return {
        name: Views(np.arange(n), {part: rng.normal(size=(n, 6)) + apart * number for part in structure.PARTS})
        for number, name in enumerate(names)
    }


def test_the_probe_tells_modalities_that_lie_apart_and_not_those_that_do_not():
    rng = np.random.default_rng(0)
    assert modality_probe("shared", views(rng, 9.0), views(rng, 9.0)) == Value(1.0, None, None, 400)
    assert 0.4 < modality_probe("shared", views(rng, 0.0), views(rng, 0.0)).value < 0.6


def test_the_probe_is_scikit_learns_and_balanced():
    rng = np.random.default_rng(1)
    seen, unseen = views(rng, 0.4, names=("a", "b", "c")), views(rng, 0.4, names=("a", "b", "c"))
    seen["c"] = Views(np.arange(30), {part: x[:30] for part, x in seen["c"].parts.items()})
    x, y = np.concatenate([v.parts["unused"] for v in seen.values()]), np.repeat([0, 1, 2], [200, 200, 30])
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(class_weight="balanced", max_iter=300).fit(scaler.transform(x), y)
    test = np.concatenate([v.parts["unused"] for v in unseen.values()])
    expected = balanced_accuracy_score(np.repeat([0, 1, 2], 200), model.predict(scaler.transform(test)))
    assert modality_probe("unused", seen, unseen).value == pytest.approx(expected)


def test_recall_is_that_of_nearest_neighbours_by_cosine():
    rng = np.random.default_rng(2)
    a = rng.normal(size=(80, 5))
    b = a + rng.normal(size=(80, 5))
    neighbours = NearestNeighbors(metric="cosine").fit(b).kneighbors(a, 10, return_distance=False)
    own = neighbours == np.arange(80)[:, None]
    np.testing.assert_array_equal(found_at(a, b, (1, 10)), np.stack([own[:, :1].any(1), own.any(1)], axis=1))
    assert found_at(a, 3 * a, (1,)).all()


@pytest.mark.parametrize("same", [np.ones((20, 4)), np.zeros((20, 4))], ids=["alike", "silent"])
def test_features_that_are_all_the_same_find_nothing(same):
    assert not found_at(same, same, (1, 10)).any()


def test_retrieval_is_over_the_samples_that_have_both_modalities():
    rng = np.random.default_rng(8)
    z = rng.normal(size=(60, 5))
    a, b = Views(np.arange(40), {"shared": z[:40]}), Views(np.arange(30, 60), {"shared": 2 * z[30:]})
    assert retrieval(a, b) == [Value(1.0, None, None, 10)] * 2
    apart = Views(np.arange(50, 60), {"shared": z[50:]})
    assert retrieval(a, apart) == [Value(None, None, None, 0)] * 2


def test_intervals_draw_groups():
    rng = np.random.default_rng(9)
    groups = np.repeat(np.arange(20), 10)
    target = rng.normal(size=200)
    seen, unseen = views(rng, 0.3), views(rng, 0.3)
    for name in unseen:
        unseen[name].parts["shared"][:, 0] += target + np.repeat(rng.normal(size=20), 10)  # groups differ
        seen[name].parts["shared"][:, 0] += target
    found = target_probe(REGRESSION, target, seen["sar"], unseen["sar"], "shared", groups)
    said = structure._ridge(seen["sar"].parts["shared"], target, unseen["sar"].parts["shared"])[:, None]
    assert (found.low, found.high) == bootstrap_interval(REGRESSION, said, target, groups)
    one = Views(np.arange(200), {"shared": rng.normal(size=(200, 3))})
    other = Views(np.arange(200), {"shared": np.where((groups < 10)[:, None], one.parts["shared"], 1.0)})
    first = retrieval(one, other, groups)[0]
    alone = retrieval(one, other, np.arange(200))[0]
    assert first.value == alone.value
    assert first.low < alone.low < first.value < alone.high < first.high
    assert retrieval(one, other, np.zeros(200))[0] == Value(first.value, None, None, 200)  # one group has no spread
    assert modality_probe("shared", seen, unseen, groups).low is not None


def test_the_target_probe_finds_what_is_linear_in_the_features():
    rng = np.random.default_rng(3)
    target = rng.normal(size=400)
    x = np.stack([2 * target + 1, rng.normal(size=400)], axis=1)
    seen = Views(np.arange(200), {"shared": x[:200], "specific": rng.normal(size=(200, 2))})
    unseen = Views(np.arange(200, 400), {"shared": x[200:], "specific": rng.normal(size=(200, 2))})
    assert target_probe(REGRESSION, target, seen, unseen, "shared").value > 0.999
    assert target_probe(REGRESSION, target, seen, unseen, "specific").value < 0.1
    mean = np.full(200, target[:200].mean())
    assert target_probe(REGRESSION, target, seen, unseen, "specific").value > r2_score(target[200:], mean) - 0.2


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "binary"])
def test_the_target_probe_takes_every_task(kind):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 3))
    classes = ("a", "b") if kind == "binary" else ("a", "b", "c")
    target = x.argmax(axis=1) if kind == "multiclass" else (x[:, 0] > 0).astype(int)
    if kind == "multilabel":
        target = (x > 0).astype(np.int64)
        target[:, 2] = 0  # a label that no sample has
    seen, unseen = Views(np.arange(150), {"shared": x[:150]}), Views(np.arange(150, 300), {"shared": x[150:]})
    found = target_probe(Task(kind, classes=classes), target, seen, unseen, "shared")
    assert found.value > (0.6 if kind == "multilabel" else 0.9)


@pytest.mark.parametrize("task", [REGRESSION, Task("binary", classes=("a", "b"))], ids=lambda task: task.kind)
def test_nothing_is_fitted_to_the_test_part(monkeypatch, task):
    fitted = []

    def spied(kind):
        fit = kind.fit
        monkeypatch.setattr(
            kind, "fit", lambda model, x, y=None, **more: (fitted.append(x), fit(model, x, y, **more))[1]
        )

    for kind in (StandardScaler, RidgeCV, LogisticRegression):
        spied(kind)
    rng = np.random.default_rng(5)
    target = (rng.normal(size=400) > 0).astype(int)
    seen, unseen = views(rng, 1.0), views(rng, 1.0)
    unseen = {name: Views(v.index + 200, {part: x + 1e6 for part, x in v.parts.items()}) for name, v in unseen.items()}
    analyse(task, target, np.arange(400), seen, unseen)
    assert len(fitted) == 2 * (3 + 6)  # a scaler and a model for each probe
    assert max(np.abs(x).max() for x in fitted) < 100


def test_the_table_has_every_measure_part_and_pair():
    rng = np.random.default_rng(6)
    names = ("optical", "sar", "lidar")
    groups = np.arange(200) // 4
    rows = analyse(REGRESSION, rng.normal(size=200), groups, views(rng, 1.0, names=names), views(rng, 1.0, names=names))
    assert {tuple(row) for row in rows} == {("measure", "part", "modality", "value", "low", "high", "chance", "n")}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert [row["chance"] for row in rows[:3]] == [pytest.approx(1 / 3)] * 3
    pairs = [row["modality"] for row in rows if row["measure"] == "recall@10"]
    assert len(pairs) == 6
    assert {"optical -> sar", "lidar -> optical"} <= set(pairs)
    assert sum(row["measure"] == "target probe, r2" for row in rows) == 9


def test_what_cannot_be_measured_is_said():
    rng = np.random.default_rng(6)
    seen, target = views(rng, 1.0), rng.normal(size=200)
    with pytest.raises(InputError, match="no sample of one part has the modality 'sar'"):
        analyse(REGRESSION, target, np.arange(200), seen, {"optical": seen["optical"]})
    with pytest.raises(InputError, match="between modalities, and there is sar only"):
        analyse(REGRESSION, target, np.arange(200), {"sar": seen["sar"]}, {"sar": seen["sar"]})


def test_components_are_those_of_scikit_learn():
    x = np.random.default_rng(7).normal(size=(50, 4)) @ np.diag([3.0, 1.0, 1.0, 0.1])
    scaler = StandardScaler().fit(x)
    pca = PCA(2).fit(scaler.transform(x))
    found, share = components(x, x)
    np.testing.assert_allclose(np.abs(found), np.abs(pca.transform(scaler.transform(x))), atol=1e-6)
    assert share == pytest.approx(pca.explained_variance_ratio_.sum())
    changed = x + 0.1
    found, _ = components(changed, x)
    np.testing.assert_allclose(np.abs(found), np.abs(pca.transform(scaler.transform(changed))), atol=1e-6)


def test_a_unit_that_never_fires_does_no_harm():
    x = np.random.default_rng(7).normal(size=(50, 3))
    x[:, 2] = 0
    found, share = components(x, x)
    assert share == pytest.approx(1.0)
    changed, _ = components(x + np.array([0, 0, 1e-3]), x)
    np.testing.assert_allclose(changed, found, atol=1e-2)


def test_all_precisions_of_a_part_have_the_same_axes():
    rng = np.random.default_rng(10)
    before = views(rng, 2.0)
    after = {name: Views(v.index, {part: x.copy() for part, x in v.parts.items()}) for name, v in before.items()}
    after["sar"].parts["shared"][7] += 1.0
    found = placed("shared", {"fp32": before, "int8": after})
    moved = np.flatnonzero((found["fp32"][0] != found["int8"][0]).any(axis=1))
    assert moved.tolist() == [200 + 7]
    both = np.concatenate([places for places, _ in found.values()])
    assert both.min() == 0
    assert both.max() == 1


def test_classes_beyond_the_palette_share_a_colour():
    many = Task("multiclass", classes=tuple("abcdefgh"))
    name, names, value = cohorts_of(many, np.arange(8))
    assert (name, names) == ("class", ["a", "b", "c", "d", "e", "others"])
    assert value.tolist() == [0, 1, 2, 3, 4, 5, 5, 5]
    _, names, value = cohorts_of(REGRESSION, np.arange(9.0))
    assert len(names) == 3
    assert np.bincount(value).tolist() == [3, 3, 3]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("structure")
    data = simulate(folder / "set", task="classification", n=240, seed=3)
    recipe = Recipe(method="mdico", model=Model(width=8, hidden=16, embedding=8), training=Training(epochs=2))
    return data, train(data, recipe, folder / "run" / "train" / "mdico")


def test_views_hold_the_features_of_the_samples_that_have_the_modality(trained):
    data, model = trained
    split = split_indices(data)
    samples = load_samples(data, ("optical", "sar"), split)
    found = views_of(model.model, samples, split.test)
    for name, view in found.items():
        assert data.present(name)[view.index].all()
        assert set(view.index) <= set(split.test)
        with torch.no_grad():
            features = model.model.students[name](samples.inputs[name][view.index])
        for part in structure.PARTS:
            np.testing.assert_allclose(view.parts[part], getattr(features, part), atol=1e-6)


def test_a_modality_that_no_sample_has_is_left_out(trained):
    data, model = trained
    samples = load_samples(data, ("optical", "sar"), split_indices(data))
    without = np.flatnonzero(~data.present("sar"))
    assert len(without)
    assert list(views_of(model.model, samples, without)) == ["optical"]


def test_the_headline_is_what_the_table_says(trained):
    data, model = trained
    split = split_indices(data)
    samples = load_samples(data, ("optical", "sar"), split)
    found = headline(*(views_of(model.model, samples, part) for part in (split.train, split.test)))
    rows = write_analysis(model, data, model.folder / "nothing")
    table = {(row["measure"], row["part"]): row["value"] for row in rows if row["measure"] == "modality probe"}
    assert found == {
        **{f"modality probe, {part}": table["modality probe", part] for part in structure.PARTS},
        "recall@1": np.mean([row["value"] for row in rows if row["measure"] == "recall@1"]),
    }


def test_a_large_part_is_thinned_evenly(trained, monkeypatch):
    data, model = trained
    monkeypatch.setattr(structure, "AT_MOST", 10)
    samples = load_samples(data, ("optical",), split_indices(data))
    kept = views_of(model.model, samples, np.arange(100))["optical"].index
    assert len(kept) <= 10
    assert kept[0] < 12
    assert kept[-1] > 87


def test_the_analysis_writes_table_and_picture(trained, tmp_path):
    data, model = trained
    rows = write_analysis(model, data, tmp_path / "nothing")
    assert {row["precision"] for row in rows} == {"fp32"}
    with open(model.folder / "structure.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["measure"] for line in lines] == [row["measure"] for row in rows]
    assert json.loads((model.folder / "structure.json").read_text())["rows"] == rows
    picture = ET.parse(model.folder / "structure.svg").getroot()  # noqa: S314 - ours
    assert len(picture.findall("{*}g")) == 4
    assert "modality probe" in table(rows)
    split = split_of(data, model.recipe)
    assert max(row["n"] for row in rows) <= 2 * len(split.test)


@pytest.mark.parametrize("method", ["concat", "ensemble", "single", "random-forest"])
def test_the_command_refuses_before_it_trains(method, trained, tmp_path):
    arguments = [
        "train",
        "--data",
        str(trained[0].folder),
        "--method",
        f"mdico,{method}",
        "--out",
        str(tmp_path / "run"),
    ]
    result = CliRunner().invoke(main, [*arguments, "--analyse"])
    assert result.exit_code == 2
    assert f"method '{method}' has no shared and specific features to analyse" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_model_without_parts_is_refused(trained, tmp_path):
    data, model = trained
    single = dataclasses.replace(model, recipe=dataclasses.replace(model.recipe, method="single"))
    with pytest.raises(InputError, match="has no shared and specific features"):
        write_analysis(single, data, tmp_path)
