import csv
import dataclasses
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from edge.errors import InputError
from edge.recipe import Model, Recipe, Training
from edge.tasks import Task
from edge.train import structure
from edge.train.analysis import table, write_analysis
from edge.train.samples import load_samples
from edge.train.sources.simulated import simulate
from edge.train.splits import split_indices
from edge.train.structure import Views, analyse, modality_probe, recall_at, target_probe, views_of
from edge.train.structure_picture import cohorts_of, components
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
    assert modality_probe("shared", views(rng, 9.0), views(rng, 9.0)) == (1.0, 400)
    value, _ = modality_probe("shared", views(rng, 0.0), views(rng, 0.0))
    assert 0.4 < value < 0.6


def test_the_probe_is_scikit_learns_and_balanced():
    rng = np.random.default_rng(1)
    seen, unseen = views(rng, 0.4, names=("a", "b", "c")), views(rng, 0.4, names=("a", "b", "c"))
    seen["c"] = Views(np.arange(30), {part: x[:30] for part, x in seen["c"].parts.items()})
    x, y = np.concatenate([v.parts["unused"] for v in seen.values()]), np.repeat([0, 1, 2], [200, 200, 30])
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(class_weight="balanced", max_iter=300).fit(scaler.transform(x), y)
    test = np.concatenate([v.parts["unused"] for v in unseen.values()])
    expected = balanced_accuracy_score(np.repeat([0, 1, 2], 200), model.predict(scaler.transform(test)))
    assert modality_probe("unused", seen, unseen)[0] == pytest.approx(expected)


def test_recall_is_that_of_nearest_neighbours_by_cosine():
    rng = np.random.default_rng(2)
    a = rng.normal(size=(80, 5))
    b = a + rng.normal(size=(80, 5))
    neighbours = NearestNeighbors(metric="cosine").fit(b).kneighbors(a, 10, return_distance=False)
    own = neighbours == np.arange(80)[:, None]
    assert recall_at(a, b, (1, 10)) == [own[:, :1].any(1).mean(), own.any(1).mean()]
    assert recall_at(a, 3 * a, (1,)) == [1.0]


def test_features_that_are_all_the_same_find_nothing():
    same = np.ones((20, 4))
    assert recall_at(same, same, (1, 10)) == [0.0, 0.0]
    assert recall_at(same[:0], same[:0], (1, 10)) == [None, None]


def test_the_target_probe_finds_what_is_linear_in_the_features():
    rng = np.random.default_rng(3)
    target = rng.normal(size=400)
    x = np.stack([2 * target + 1, rng.normal(size=400)], axis=1)
    seen = Views(np.arange(200), {"shared": x[:200], "specific": rng.normal(size=(200, 2))})
    unseen = Views(np.arange(200, 400), {"shared": x[200:], "specific": rng.normal(size=(200, 2))})
    assert target_probe(REGRESSION, target, seen, unseen, "shared") > 0.999
    assert target_probe(REGRESSION, target, seen, unseen, "specific") < 0.1
    mean = np.full(200, target[:200].mean())
    assert target_probe(REGRESSION, target, seen, unseen, "specific") > r2_score(target[200:], mean) - 0.2


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
    assert found > (0.6 if kind == "multilabel" else 0.9)


def test_nothing_of_the_test_part_is_fitted():
    rng = np.random.default_rng(5)
    seen, unseen, target = views(rng, 1.0), views(rng, 1.0), rng.normal(size=200)
    shifted = {
        name: Views(v.index, {part: np.vstack([x[:1], 1e6 * x[1:]]) for part, x in v.parts.items()})
        for name, v in unseen.items()
    }
    first = [structure._ridge(seen["sar"].parts["shared"], target, found["sar"].parts["shared"])[0]
             for found in (unseen, shifted)]  # fmt: skip
    assert first[0] == first[1]


def test_the_table_has_every_measure_part_and_pair():
    rng = np.random.default_rng(6)
    names = ("optical", "sar", "lidar")
    rows = analyse(REGRESSION, rng.normal(size=200), views(rng, 1.0, names=names), views(rng, 1.0, names=names))
    assert [row["chance"] for row in rows[:3]] == [pytest.approx(1 / 3)] * 3
    pairs = [row["modality"] for row in rows if row["measure"] == "recall@10"]
    assert len(pairs) == 6
    assert {"optical -> sar", "lidar -> optical"} <= set(pairs)
    assert sum(row["measure"] == "target probe, r2" for row in rows) == 9


def test_components_are_those_of_scikit_learn():
    x = np.random.default_rng(7).normal(size=(50, 4)) @ np.diag([3.0, 1.0, 1.0, 0.1])
    found, share = components(x)
    expected = PCA(2).fit(StandardScaler().fit_transform(x))
    np.testing.assert_allclose(np.abs(found), np.abs(expected.transform(StandardScaler().fit_transform(x))), atol=1e-6)
    assert share == pytest.approx(expected.explained_variance_ratio_.sum())


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


def test_a_model_without_parts_is_refused(trained, tmp_path):
    data, model = trained
    single = dataclasses.replace(model, recipe=dataclasses.replace(model.recipe, method="single"))
    with pytest.raises(InputError, match="has no shared and specific features"):
        write_analysis(single, data, tmp_path)
