import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from edge.errors import InputError
from edge.metrics import score
from edge.recipe import Model, Objectives, Recipe, Training
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train import training
from edge.train.model import Encoder
from edge.train.paired import write_paired_set
from edge.train.samples import Samples
from edge.train.splits import split_indices
from edge.train.training import load_trained, train

SMALL = Recipe(
    method="mdico",
    model=Model(width=8, hidden=16, embedding=8, dropout=0.2),
    training=Training(epochs=2, batch=32, patience=5),
)


def changed(**parts):
    return dataclasses.replace(SMALL, **parts)


def same_weights(a, b):
    pairs = zip(a.model.state_dict().items(), b.model.state_dict().items(), strict=True)
    return all(name == other and torch.equal(one, two) for (name, one), (other, two) in pairs)


def history(trained):
    return [(record["train"], record["validation"]) for record in trained.facts["history"]]


@pytest.fixture
def vectors(tmp_path):
    """A set of 60 samples, two series and a vector, whose target follows from the first value of each."""

    def make(task, target, **spoilt):
        rng = np.random.default_rng(0)
        shapes = {"optical": (3, 2), "sar": (3, 2), "soil": (2,)}
        arrays = {name: rng.normal(size=(60, *shape)).astype(np.float32) for name, shape in shapes.items()}
        value = sum(values.reshape(60, -1)[:, 0] for values in arrays.values())
        for name, absent in spoilt.items():
            arrays[name][absent] = np.nan
        return write_paired_set(
            tmp_path / "set",
            name="vectors",
            modalities={
                name: Modality(name, (Band("a"), Band("b")), ("time", "band")[-len(shape) :], shape)
                for name, shape in shapes.items()
            },
            arrays=arrays,
            target=target(value),
            task=task,
            groups=np.arange(60) // 2,
            source={"title": "made for a test"},
        )

    return make


@pytest.fixture
def yields(vectors):
    return lambda **spoilt: vectors(Task("regression", unit="t/ha"), lambda v: 100 + 7 * v.astype(np.float32), **spoilt)


@pytest.mark.parametrize("method", ["mdico", "released", "single", "single-matched"])
def test_every_method_trains_and_writes_what_can_be_read_again(small_paired, tmp_path, method):
    trained = train(small_paired, changed(method=method), tmp_path / "run")
    written = ["curves.svg", "epochs.jsonl", "model.safetensors", "training.json"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == written
    facts = json.loads((tmp_path / "run" / "training.json").read_text())
    assert facts == trained.facts
    assert facts["schema"] == "edge.training/1"
    assert len(facts["history"]) == 2
    alone = method.startswith("single")
    assert set(facts["history"][0]["train"]) == {"main", "total"} | (set() if alone else {"aux", "con", "mod"})
    assert list(trained.model.students) == ["optical", "sar"]
    again = load_trained(tmp_path / "run")
    assert same_weights(again, trained)
    assert not again.model.training
    assert again.recipe == changed(method=method)
    assert again.modalities == small_paired.modalities
    for name, scaling in again.scaling.items():
        np.testing.assert_array_equal(scaling.mean, trained.scaling[name].mean)


def test_the_validation_metrics_are_those_of_the_saved_student_on_validation_samples(yields, tmp_path):
    data = yields(sar=[0, 1, 2, 3])
    trained = train(data, SMALL, tmp_path / "run")
    split = split_indices(data)
    for name, found in trained.facts["validation"].items():
        index = split.validation[data.present(name)[split.validation]]
        x = trained.scaling[name].apply(np.array(data.arrays[name][index]))
        with torch.no_grad():
            output = trained.model.students[name](torch.from_numpy(x)).prediction.numpy()
        mean, std = data.target[split.train].mean(), data.target[split.train].std()
        expected = score(data.task, output * std + mean, data.target[index])
        assert found == pytest.approx(expected, rel=1e-4)
    assert abs(found["rmse"]) < 30  # in units of the target, which has mean 100 and deviation 12


TASKS = {
    "binary": (Task("binary", classes=("no", "yes")), lambda v: (v > 0).astype(np.int64)),
    "multiclass": (Task("multiclass", classes=("a", "b", "c")), lambda v: np.digitize(v, [-0.7, 0.7])),
    "multilabel": (Task("multilabel", classes=("a", "b")), lambda v: np.stack([v > 0, v < 0.5], axis=1)),
    "regression": (Task("regression"), lambda v: v.astype(np.float32)),
}


@pytest.mark.parametrize("kind", TASKS)
def test_every_task_is_learnt_from_three_modalities(vectors, tmp_path, kind):
    recipe = changed(training=Training(epochs=12, batch=8, lr=0.01), objectives=Objectives(con=0.1))
    trained = train(vectors(*TASKS[kind]), recipe, tmp_path / "run")
    losses = [record["train"]["main"] for record in trained.facts["history"]]
    assert losses[-1] < 0.95 * losses[0]
    assert set(trained.facts["validation"]) == {"optical", "sar", "soil"}
    for found in trained.facts["validation"].values():
        assert trained.task.metric in found


def test_a_regression_starts_at_the_mean_of_the_target_not_a_hundred_units_away(yields, tmp_path):
    trained = train(yields(), SMALL, tmp_path / "run")
    assert trained.facts["history"][0]["train"]["main"] < 4  # in squared standard deviations
    assert trained.target_scaling == pytest.approx((100, 12), rel=0.2)


def test_a_modality_that_some_samples_lack_is_trained_with_the_others(yields, tmp_path):
    """Sparse enough that many batches of 8 hold one sample with SAR, or none."""
    lacking = np.arange(60) % 10 > 1
    recipe = changed(training=Training(epochs=2, batch=8))
    trained = train(yields(sar=lacking), recipe, tmp_path / "run")
    assert all(value.isfinite().all() for value in trained.model.state_dict().values())
    alone = changed(training=Training(epochs=2, batch=8), method="single", modalities=("sar",))
    trained = train(yields(sar=lacking), alone, tmp_path / "alone")
    assert all(value.isfinite().all() for value in trained.model.state_dict().values())


def test_a_modality_that_the_training_part_lacks_is_refused_before_training(yields, tmp_path):
    data = yields()
    data = yields(sar=split_indices(data).train[1:])
    with pytest.raises(InputError, match="modality 'sar': 1 of 36 samples of the training part have it"):
        train(data, SMALL, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_modality_names_the_known_ones(small_paired, tmp_path):
    with pytest.raises(InputError, match="modality 'lidar' is not in simulated; known: optical, sar"):
        train(small_paired, changed(modalities=("optical", "lidar")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_modality_that_is_named_twice_is_refused(small_paired, tmp_path):
    with pytest.raises(InputError, match="one is named twice"):
        train(small_paired, changed(modalities=("sar", "sar")), tmp_path / "run")


@pytest.mark.parametrize("method", ["mdico", "released"])
def test_co_learning_needs_two_modalities(small_paired, tmp_path, method):
    with pytest.raises(InputError, match=f"'{method}' learns from at least two modalities together, got \\['sar'\\]"):
        train(small_paired, changed(method=method, modalities=("sar",)), tmp_path / "run")


def test_the_set_recommends_modalities_and_the_recipe_wins(small_paired):
    recommended = dataclasses.replace(small_paired, default_modalities=("sar", "optical"))
    assert training.choose_modalities(recommended, SMALL) == ("sar", "optical")
    assert training.choose_modalities(recommended, changed(modalities=("optical", "sar"))) == ("optical", "sar")


def test_what_fits_is_used_again(small_paired, tmp_path, monkeypatch):
    first = train(small_paired, SMALL, tmp_path / "run")
    monkeypatch.setattr(training, "fit", None)  # training again would fail
    assert same_weights(train(small_paired, SMALL, tmp_path / "run"), first)
    elsewhere = changed(data="elsewhere", modalities=("optical", "sar"), max_drop=0.5)  # training does not read these
    assert same_weights(train(small_paired, elsewhere, tmp_path / "run"), first)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"fold": 1}, {"objectives": Objectives(con=0.5)}, {"modalities": ("sar", "optical")}],
    ids=str,
)
def test_another_recipe_is_trained_again(small_paired, tmp_path, change):
    short = dataclasses.replace(SMALL, training=Training(epochs=1))
    first = train(small_paired, short, tmp_path / "run")
    second = train(small_paired, dataclasses.replace(short, **change), tmp_path / "run")
    assert second.facts["fingerprint"] != first.facts["fingerprint"]
    assert load_trained(tmp_path / "run").facts == second.facts


def test_the_same_seed_gives_the_same_numbers(small_paired, tmp_path):
    one, two = (train(small_paired, SMALL, tmp_path / name) for name in ("one", "two"))
    assert same_weights(one, two)
    assert history(one) == history(two)


def test_bfloat16_changes_the_losses_by_no_more_than_its_rounding(small_paired, tmp_path):
    exact = train(small_paired, SMALL, tmp_path / "exact")
    bf16 = dataclasses.replace(SMALL.training, bf16=True)
    rounded = train(small_paired, changed(training=bf16), tmp_path / "rounded")
    assert not any(module.bf16 for module in rounded.model.modules() if isinstance(module, Encoder))
    (first, *_), (other, *_) = history(exact), history(rounded)
    assert first != other
    assert other[0] == pytest.approx(first[0], rel=0.02)
    assert other[1] == pytest.approx(first[1], rel=0.02)


def test_without_resume_everything_is_done_again_to_the_same_numbers(small_paired, tmp_path):
    first = train(small_paired, SMALL, tmp_path / "run")
    written = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert same_weights(train(small_paired, SMALL, tmp_path / "run", resume=False), first)
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns > written


def test_ctrl_c_keeps_a_state_that_the_same_call_continues(small_paired, tmp_path, monkeypatch):
    recipe = changed(training=Training(epochs=3, batch=32))
    whole = train(small_paired, recipe, tmp_path / "whole")
    batch, calls = Samples.batch, []

    def interrupted(samples, index):
        calls.append(index)
        if len(calls) == 9:  # in the second epoch: 4 batches of training and 2 of validation each
            raise KeyboardInterrupt
        return batch(samples, index)

    monkeypatch.setattr(Samples, "batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(small_paired, recipe, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["epochs.jsonl", "state.safetensors"]
    monkeypatch.setattr(Samples, "batch", batch)
    resumed = train(small_paired, recipe, tmp_path / "run")
    assert same_weights(resumed, whole)
    assert history(resumed) == history(whole)
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_a_folder_that_holds_something_else_is_left_alone(small_paired, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        train(small_paired, SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_weights_and_facts_of_different_runs_are_refused(small_paired, tmp_path):
    train(small_paired, SMALL, tmp_path / "one")
    train(small_paired, changed(seed=1), tmp_path / "two")
    shutil.copy(tmp_path / "one" / "model.safetensors", tmp_path / "two")
    with pytest.raises(InputError, match=r"model\.safetensors and training\.json are of different runs"):
        load_trained(tmp_path / "two")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[]", "has schema None; this version reads 'edge.training/1'"),
        ('{"schema": "edge.training/9"}', "has schema 'edge.training/9'"),
        ('{"schema": "edge.training/1"}', "is not whole: 'fingerprint'; train again with --force"),
        ("{", "is not valid JSON"),
    ],
)
def test_a_broken_training_json_is_refused_and_force_mends_it(small_paired, tmp_path, document, message):
    good = train(small_paired, changed(training=Training(epochs=1)), tmp_path / "run")
    (tmp_path / "run" / "training.json").write_text(document)
    with pytest.raises(InputError, match=message):
        load_trained(tmp_path / "run")
    assert same_weights(train(small_paired, good.recipe, tmp_path / "run", resume=False), good)


def test_weights_of_another_shape_are_refused(small_paired, tmp_path):
    train(small_paired, SMALL, tmp_path / "run")
    path = tmp_path / "run" / "training.json"
    facts = json.loads(path.read_text())
    facts["recipe"]["model"]["width"] = 16
    path.write_text(json.dumps(facts))
    with pytest.raises(InputError, match="is not whole"):
        load_trained(tmp_path / "run")


@pytest.mark.parametrize(
    ("samples", "batch", "epochs"), [(50, 32, 100), (1_901, 32, 14), (9_999, 32, 12), (10_000, 128, 12)]
)
def test_batch_and_epochs_follow_the_size_of_the_set_unless_the_recipe_says_otherwise(samples, batch, epochs):
    schedule = training.schedule_of(Recipe(), samples)
    assert (schedule.batch, schedule.epochs, schedule.decay) == (batch, epochs, True)
    early = training.schedule_of(Recipe(training=Training(patience=5)), samples)
    assert (early.batch, early.epochs, early.decay) == (batch, 100, False)
    own = training.schedule_of(Recipe(training=Training(batch=7, epochs=3)), samples)
    assert (own.batch, own.epochs) == (7, 3)
