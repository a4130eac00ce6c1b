import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from edge import recipe as recipes
from edge.errors import InputError
from edge.metrics import score
from edge.recipe import Model, Recipe, Training
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train import methods, training
from edge.train.methods import ensemble, random_forest, run_fold
from edge.train.methods.fold import results
from edge.train.objectives import class_weights
from edge.train.paired import write_paired_set
from edge.train.sources.simulated import simulate
from edge.train.training import load_network, load_trained, outputs, predictions, split_of, train, train_network

SMALL = Recipe(
    model=Model(width=8, hidden=16, embedding=8), training=Training(epochs=8, lr=0.01, batch=32, patience=50)
)
SHORT = dataclasses.replace(SMALL, training=Training(epochs=1, batch=16))
FUSED = ("concat", "ensemble")
KEYS = {
    "method", "modality", "protocol", "fold", "seed", "n_train", "n_validation", "n_test", "metric", "validation",
    "test", "epochs", "seconds", "parameters",
}  # fmt: skip


@pytest.fixture(scope="module", params=["classification", "regression"])
def learnt(request, tmp_path_factory):
    """240 simulated fields; gives the set, the folder that all methods share, and the rows of a method."""
    folder = tmp_path_factory.mktemp(f"methods-{request.param}")
    data = simulate(folder / "set", task=request.param, n=240, seed=3)

    def rows(method):
        return run_fold(data, dataclasses.replace(SMALL, method=method), folder / "fold")

    return data, folder / "fold", rows


@pytest.mark.parametrize("method", recipes.METHODS)
def test_every_method_learns_something_in_a_few_epochs(learnt, method):
    data, _, rows = learnt
    found = rows(method)
    names = ["optical+sar"] if method in FUSED else ["optical", "sar"]
    assert [row["modality"] for row in found] == names
    split = split_of(data, SMALL)
    for row in found:
        assert set(row) == KEYS
        assert (row["method"], row["protocol"], row["fold"], row["seed"]) == (method, "grouped", 0, 0)
        assert set(row["test"]) == set(row["validation"])
        chance = 0.0 if row["metric"] == "r2" else 1 / 6
        assert row["test"][row["metric"]] > chance + (0.0 if row["metric"] == "r2" else 0.1)
        has = np.any([data.present(name) for name in row["modality"].split("+")], axis=0)
        assert row["n_test"] == has[split.test].sum()
        assert row["n_train"] == has[split.train].sum()
        json.dumps(row)
    if method != "random-forest":
        assert all(row["epochs"] == (16 if method == "ensemble" else 8) for row in found)


def test_the_recipe_knows_the_methods_and_each_says_what_it_needs():
    assert set(methods.ABOUT) == set(recipes.METHODS)
    assert len(recipes.METHODS) == len(set(recipes.METHODS))
    assert set(recipes.CO_LEARNED) == methods.TOGETHER & set(methods.STUDENTS_BY_NAME)
    for name, text in methods.ABOUT.items():
        assert ("every modality in use" in text) == (name in FUSED), name


def test_the_scores_are_those_of_the_saved_students_on_the_samples_of_each_part(learnt):
    data, folder, rows = learnt
    split = split_of(data, SMALL)
    for row in rows("discom-kd"):
        trained = load_trained(folder / "discom-kd")
        name = row["modality"]
        for part in ("validation", "test"):
            index = getattr(split, part)
            index = index[data.present(name)[index]]
            x = torch.from_numpy(trained.scaling[name].apply(np.array(data.arrays[name][index])))
            with torch.no_grad():
                output = trained.model.students[name](x).prediction
            mean, std = trained.target_scaling
            values = output * std + mean if data.task.kind == "regression" else output.softmax(1)
            assert row[part] == pytest.approx(score(data.task, values, data.target[index]), rel=1e-4)


def test_the_ensemble_is_the_mean_of_what_the_single_models_say(learnt):
    data, folder, rows = learnt
    (row,) = rows("ensemble")
    split = split_of(data, SMALL)
    total, count = np.zeros((len(data), data.task.n_outputs)), np.zeros((len(data), 1))
    for name in ("optical", "sar"):
        found = predictions(load_trained(folder / f"single-{name}"), data, split.test)[name]
        total[found.index] += found.values
        count[found.index] += 1
    assert (count[split.test] == 1).any()  # some samples lack a modality
    assert row["test"] == pytest.approx(
        score(data.task, (total / count.clip(1))[split.test], data.target[split.test]), rel=1e-6
    )
    singles = rows("single")
    assert row["parameters"] == sum(single["parameters"] for single in singles)
    assert row["epochs"] == sum(single["epochs"] for single in singles)


def test_the_forest_is_scikit_learns(learnt):
    data, _, rows = learnt
    split = split_of(data, SMALL)
    settings = {"n_estimators": 200, "min_samples_leaf": 3, "random_state": 0}
    for row in rows("random-forest"):
        name = row["modality"]
        train, test = (index[data.present(name)[index]] for index in (split.train, split.test))
        x = np.array(data.arrays[name]).reshape(len(data), -1)
        assert np.isnan(x[train]).any() == (name == "optical")  # clouds
        if data.task.kind == "regression":
            expected = RandomForestRegressor(max_features=0.4, **settings)
            values = expected.fit(x[train], data.target[train]).predict(x[test])[:, None]
        else:
            expected = RandomForestClassifier(class_weight="balanced", max_features="sqrt", **settings)
            values = expected.fit(x[train], data.target[train]).predict_proba(x[test])
        assert row["test"] == score(data.task, values, data.target[test])


def test_the_teacher_and_the_single_models_are_used_again_by_what_builds_on_them(learnt, monkeypatch):
    _, folder, rows = learnt
    for method in ("single", "concat", "distilled", "ensemble"):
        rows(method)
    begun, fit = [], training.fit
    monkeypatch.setattr(training, "fit", lambda *a, **k: begun.append(k["label"]) or fit(*a, **k))
    for method in ("ensemble", "distilled"):
        shutil.rmtree(folder / method)
    rows("ensemble")
    rows("distilled")
    assert begun == ["train distilled optical+sar"]


def test_a_fold_that_is_done_is_read_and_not_made_again(learnt, monkeypatch):
    _, _, rows = learnt
    names = ("single", "concat", "distilled", "random-forest")
    first = [rows(method) for method in names]
    monkeypatch.setattr(training, "fit", None)
    monkeypatch.setattr(random_forest, "forest", None)
    assert [rows(method) for method in names] == first


@pytest.mark.parametrize("method", ["mutual", "discom-kd", "distilled", "concat", "random-forest"])
def test_the_same_seed_gives_the_same_numbers_and_another_gives_others(small_paired, tmp_path, method, monkeypatch):
    monkeypatch.setattr(random_forest, "TREES", 5)

    def scores(folder, seed):
        recipe = dataclasses.replace(SHORT, method=method, seed=seed)
        return [row["test"] for row in run_fold(small_paired, recipe, tmp_path / folder)]

    assert scores("one", 0) == scores("two", 0)
    assert scores("one", 0) != scores("three", 1)


def test_without_resume_everything_is_made_again_to_the_same_numbers(small_paired, tmp_path):
    recipe = dataclasses.replace(SHORT, method="distilled")

    def times():
        return [(tmp_path / name / "model.safetensors").stat().st_mtime_ns for name in ("concat", "distilled")]

    first, before = run_fold(small_paired, recipe, tmp_path), times()
    again = run_fold(small_paired, recipe, tmp_path, resume=False)
    assert [row["test"] for row in again] == [row["test"] for row in first]
    assert all(new > old for new, old in zip(times(), before, strict=True))


@pytest.mark.parametrize("method", ["single-matched", "distilled", "mutual", "discom-kd", "without-con"])
def test_width_matched_students_have_the_parameters_of_the_co_learned_ones(small_paired, tmp_path, method):
    def parameters(method):
        rows = run_fold(small_paired, dataclasses.replace(SHORT, method=method), tmp_path)
        return {row["modality"]: row["parameters"] for row in rows}

    assert parameters(method) == parameters("mdico")
    assert parameters("single")["sar"] < parameters("mdico")["sar"]


TASKS = {
    "binary": (Task("binary", classes=("no", "yes")), lambda v: (v > 0).astype(np.int64)),
    "multilabel": (Task("multilabel", classes=("a", "b")), lambda v: np.stack([v > 0, v < 0.5], axis=1)),
    "regression": (Task("regression"), lambda v: v.astype(np.float32)),
}


@pytest.fixture
def sparse(tmp_path):
    """60 samples of three modalities; most lack one, so that some batches of 8 hold one sample with SAR, or none."""

    def make(kind):
        rng, (task, target) = np.random.default_rng(0), TASKS[kind]
        shapes = {"optical": (3, 2), "sar": (3, 2), "soil": (2,)}
        arrays = {name: rng.normal(size=(60, *shape)).astype(np.float32) for name, shape in shapes.items()}
        value = sum(values.reshape(60, -1)[:, 0] for values in arrays.values())
        arrays["sar"][np.arange(60) % 10 > 2] = np.nan
        arrays["soil"][::3] = np.nan
        arrays["optical"][3:5] = np.nan
        arrays["optical"][3:, 1] = np.nan
        modalities = {
            name: Modality(name, (Band("a"), Band("b")), ("time", "band")[-len(shape) :], shape)
            for name, shape in shapes.items()
        }
        return write_paired_set(
            tmp_path / "set", name="sparse", modalities=modalities, arrays=arrays, target=target(value), task=task,
            groups=np.arange(60) // 2, source={"title": "made for a test"},
        )  # fmt: skip

    return make


@pytest.mark.parametrize("kind", TASKS)
def test_every_method_takes_every_task_and_samples_that_lack_modalities(sparse, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(random_forest, "TREES", 5)
    data, recipe = sparse(kind), dataclasses.replace(SHORT, training=Training(epochs=1, batch=8))
    split = split_of(data, recipe)
    for method in ("mdico", "single-matched", "ensemble", "distilled", "mutual", "discom-kd", "random-forest"):
        for row in run_fold(data, dataclasses.replace(recipe, method=method), tmp_path / "fold"):
            has = np.any([data.present(name) for name in row["modality"].split("+")], axis=0)
            assert row["n_test"] == has[split.test].sum(), method
            assert np.isfinite(row["test"][data.task.metric]), method


def test_a_fused_prediction_depends_neither_on_the_batch_nor_on_values_that_are_absent(sparse, tmp_path):
    data = sparse("regression")
    fused = train_network(data, dataclasses.replace(SHORT, method="concat"), tmp_path / "concat")
    ((index, whole),) = outputs(fused, data, np.arange(60)).values()
    lacks_all = ~np.any([data.present(name) for name in data.modalities], axis=0)
    np.testing.assert_array_equal(index, np.flatnonzero(~lacks_all))
    for sample in (0, 4, 10, 13):  # with two modalities, one, three and two
        ((_, alone),) = outputs(fused, data, np.array([sample])).values()
        torch.testing.assert_close(alone[0], whole[list(index).index(sample)], rtol=1e-4, atol=1e-5)


def test_an_absent_modality_is_zeros_for_the_fused_head(sparse, tmp_path):
    data = sparse("regression")
    fused = train_network(data, dataclasses.replace(SHORT, method="concat"), tmp_path / "concat")
    ((_, found),) = outputs(fused, data, np.array([4])).values()  # soil alone, the last of three
    x = torch.from_numpy(fused.scaling["soil"].apply(np.array(data.arrays["soil"][[4]])))
    with torch.no_grad():
        features = fused.model.encoders["soil"](x)
    head = fused.model.head
    torch.testing.assert_close(found, features @ head.weight[:, 16:].T + head.bias)


def test_a_fused_network_is_read_again_and_is_no_student(small_paired, tmp_path):
    recipe = dataclasses.replace(SHORT, method="concat")
    fused = train_network(small_paired, recipe, tmp_path / "concat")
    again = load_network(tmp_path / "concat").model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in fused.model.state_dict().items())
    with pytest.raises(InputError, match="holds a 'concat' network, which has no student of one modality"):
        load_trained(tmp_path / "concat")


@pytest.mark.parametrize("method", ["concat", "ensemble", "random-forest"])
def test_a_method_without_students_cannot_be_trained_as_one(small_paired, tmp_path, method):
    with pytest.raises(InputError, match=f"method '{method}' gives no student of one modality; use taught"):
        train(small_paired, dataclasses.replace(SHORT, method=method), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", sorted(methods.TOGETHER))
def test_what_learns_together_needs_two_modalities(small_paired, tmp_path, method):
    recipe = dataclasses.replace(SHORT, method=method, modalities=("sar",))
    with pytest.raises(InputError, match="learns from at least two modalities together, got \\['sar'\\]"):
        run_fold(small_paired, recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_forest_without_training_samples_is_refused(sparse, tmp_path):
    data = sparse("regression")
    recipe = dataclasses.replace(SHORT, method="random-forest")
    split = split_of(data, recipe)
    absent = dataclasses.replace(split, train=np.flatnonzero(~data.present("sar")))
    with pytest.raises(InputError, match="no sample of the train part has the modality 'sar'"):
        random_forest.predict(data, recipe, absent, tmp_path, resume=True)


def test_the_folder_of_a_method_without_network_holds_its_scores_and_is_nobody_elses(
    small_paired, tmp_path, monkeypatch
):
    monkeypatch.setattr(random_forest, "TREES", 5)
    recipe = dataclasses.replace(SHORT, method="random-forest")
    (result,) = results(small_paired, recipe, tmp_path)
    assert result.folder == tmp_path / "random-forest"
    assert [path.name for path in result.folder.iterdir()] == ["training.json"]
    assert result.facts == json.loads((result.folder / "training.json").read_text())
    assert set(result.facts["validation"]) == {"optical", "sar"}
    (result.folder / "training.json").unlink()
    (result.folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        list(results(small_paired, recipe, tmp_path))


def test_the_ensemble_speaks_where_one_of_its_sensors_is_absent_from_a_part(sparse, tmp_path):
    data = sparse("regression")
    recipe = dataclasses.replace(SHORT, method="ensemble", training=Training(epochs=1, batch=8))
    split = split_of(data, recipe)
    lacking = split.test[~data.present("sar")[split.test]]
    lacking = lacking[np.any([data.present(name)[lacking] for name in data.modalities], axis=0)]
    assert len(lacking)
    (found,) = ensemble.predict(
        data, recipe, dataclasses.replace(split, test=lacking), tmp_path / "fold", resume=False
    ).values()
    np.testing.assert_array_equal(found.parts["test"].index, lacking)


def test_class_weights_are_those_of_the_samples_that_are_trained_on(sparse, tmp_path, monkeypatch):
    data, seen = sparse("binary"), []
    recipe = dataclasses.replace(SHORT, method="mdico", fold=2)
    train_part = split_of(data, recipe).train
    has = np.any([data.present(name)[train_part] for name in data.modalities], axis=0)
    assert not has.all()
    monkeypatch.setattr(training, "class_weights", lambda task, y: seen.append(len(y)) or class_weights(task, y))
    train_network(data, recipe, tmp_path / "run")
    assert seen == [has.sum()]
