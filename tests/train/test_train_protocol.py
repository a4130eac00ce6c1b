import csv
import dataclasses
import json
import multiprocessing

import numpy as np
import pytest

from edge.errors import BackendMissing, InputError
from edge.recipe import Model, Recipe, Training
from edge.train import methods
from edge.train.fold_table import read_rows
from edge.train.protocol import make_study, run_study
from edge.train.splits import TOO_GOOD, split_indices

SMALL = Recipe(model=Model(width=8, hidden=16, embedding=8), training=Training(epochs=1, batch=64))
BETTER = {"mdico": 0.1, "concat": 0.2, "single-matched": 0.0}


@pytest.fixture
def recipe(small_paired):
    return dataclasses.replace(SMALL, data=str(small_paired.folder))


@pytest.fixture
def calls(monkeypatch):
    """A stand-in for training: scores by a rule, a list of what was asked for, and `calls.fail` for what goes wrong."""

    class Calls(list):
        fail = {}  # noqa: RUF012 - one for each test

    calls = Calls()
    calls.fail = {}

    def run_fold(data, recipe, folder, *, resume=True):
        calls.append((recipe.method, recipe.seed, recipe.fold))
        if error := calls.fail.get((recipe.method, recipe.seed, recipe.fold)):
            raise error
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{recipe.method}.txt").write_text(f"resume {resume}")
        split = split_indices(data, recipe.fold, recipe.folds, protocol=recipe.protocol, seed=recipe.seed)
        value = 0.5 + BETTER[recipe.method] * (1 + recipe.fold) + 0.01 * recipe.seed
        names = ["optical+sar"] if recipe.method == "concat" else ["optical", "sar"]
        shared = {
            "method": recipe.method, "protocol": recipe.protocol, "fold": recipe.fold, "seed": recipe.seed,
            **{f"n_{part}": len(getattr(split, part)) for part in ("train", "validation", "test")},
            "metric": data.task.metric, "epochs": 3, "seconds": 1.5, "parameters": 1000,
        }  # fmt: skip
        scores = {"macro_recall": value, "f1_macro": value / 2}
        return [shared | {"modality": name, "validation": scores, "test": scores} for name in names]

    monkeypatch.setattr(methods, "run_fold", run_fold)
    return calls


def entry(summary, method, modality="optical"):
    (found,) = (one for one in summary["results"] if (one["method"], one["modality"]) == (method, modality))
    return found


def test_every_method_runs_on_every_fold_with_every_seed_beside_the_reference(recipe, calls, tmp_path):
    run_study(make_study(recipe, ("mdico", "concat"), tmp_path / "run", folds=3, seeds=2))
    assert sorted(calls) == sorted(
        (method, seed, fold) for method in ("mdico", "concat", "single-matched") for seed in (0, 1) for fold in range(3)
    )
    folder = tmp_path / "run" / "folds" / "grouped-3"
    tables = {f"seed{seed}-fold{fold}.csv" for seed in (0, 1) for fold in range(3)}
    assert {path.name for path in folder.iterdir() if path.is_file()} == tables | {"summary.json", "summary.csv"}


def test_seeds_count_from_the_recipes_seed_and_one_fold_can_be_asked_for(recipe, calls, tmp_path):
    study = make_study(dataclasses.replace(recipe, seed=5), ("single-matched",), tmp_path / "run", seeds=2, fold=3)
    run_study(study)
    assert calls == [("single-matched", 5, 3), ("single-matched", 6, 3)]
    assert study.recipe.folds == 5


def test_a_folds_csv_holds_what_the_methods_said(recipe, calls, tmp_path):
    study = make_study(recipe, ("mdico",), tmp_path / "run", folds=4)
    run_study(study)
    with open(study.folder / "seed0-fold2.csv", newline="") as file:
        first, *others = csv.DictReader(file)
    split = split_indices(study.data, 2, 4)
    assert (first["data"], first["protocol"], first["validation_is_test"]) == ("simulated", "grouped", "no")
    assert (first["folds"], first["fold"], first["seed"]) == ("4", "2", "0")
    assert (first["method"], first["modality"], first["metric"]) == ("mdico", "optical", "macro_recall")
    assert (first["n_train"], first["n_test"]) == (str(len(split.train)), str(len(split.test)))
    assert float(first["test_macro_recall"]) == 0.8
    assert float(first["validation_f1_macro"]) == 0.4
    assert (first["epochs"], first["error"], len(first["fingerprint"])) == ("3", "", 64)
    assert [(row["method"], row["modality"]) for row in others] == [
        ("mdico", "sar"), ("single-matched", "optical"), ("single-matched", "sar"),
    ]  # fmt: skip


def test_the_summary_has_means_deviations_and_the_paired_test(recipe, calls, tmp_path):
    study = make_study(recipe, ("mdico", "concat"), tmp_path / "run", folds=3, seeds=2)
    summary = run_study(study)
    assert json.loads((study.folder / "summary.json").read_text()) == summary
    values = [0.5 + 0.1 * (1 + fold) + 0.01 * seed for fold in range(3) for seed in range(2)]
    mdico = entry(summary, "mdico")
    assert mdico["n"] == 6
    assert mdico["mean"]["macro_recall"] == pytest.approx(np.mean(values))
    assert mdico["sd"]["macro_recall"] == pytest.approx(np.std(values, ddof=1))
    assert mdico["validation"]["f1_macro"] == pytest.approx(np.mean(values) / 2)
    test = mdico["against_reference"]
    assert (test["pairs"], test["n"], test["unit"]) == (6, 3, "fold")
    assert test["difference"] == pytest.approx(0.2)  # 0.1, 0.2 and 0.3 on the three folds
    # By hand: s = 0.1, n_test / n_learnt = 60 / 120, so t = 0.2 / (0.1 sqrt(1/3 + 1/2)) = 2.1909 with 2 degrees.
    assert test["p"] == pytest.approx(0.1597, abs=2e-4)
    assert entry(summary, "single-matched")["against_reference"] is None
    assert entry(summary, "concat", "optical+sar")["against_reference"] is None
    assert (summary["protocol"], summary["folds"], summary["seeds"]) == ("grouped", 3, [0, 1])
    assert summary["warning"] is None
    with open(study.folder / "summary.csv", newline="") as file:
        first = next(csv.DictReader(file))
    assert float(first["macro_recall_sd"]) == mdico["sd"]["macro_recall"]
    assert float(first["vs_single-matched_p"]) == test["p"]


def test_what_is_finished_is_not_done_again(recipe, calls, tmp_path):
    first = run_study(make_study(recipe, ("mdico",), tmp_path / "run", folds=3))
    del calls[:]
    assert run_study(make_study(recipe, ("mdico",), tmp_path / "run", folds=3)) == first
    assert calls == []


def test_another_method_or_seed_runs_alone_and_a_smaller_question_reads_what_is_there(recipe, calls, tmp_path):
    run_study(make_study(recipe, ("mdico",), tmp_path / "run", folds=3))
    del calls[:]
    wider = run_study(make_study(recipe, ("mdico", "concat"), tmp_path / "run", folds=3, seeds=2))
    assert [call for call in calls if call[1] == 0] == [("concat", 0, fold) for fold in range(3)]
    assert len(calls) == 3 + 9
    assert {one["method"] for one in wider["results"]} == {"mdico", "concat", "single-matched"}
    del calls[:]
    narrow = run_study(make_study(recipe, ("mdico",), tmp_path / "run", folds=3))
    assert calls == []
    assert {one["method"] for one in narrow["results"]} == {"mdico", "single-matched"}
    assert narrow["seeds"] == [0]


def test_a_fold_that_was_killed_between_two_methods_goes_on_with_the_second(recipe, calls, tmp_path):
    calls.fail[("single-matched", 0, 1)] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run_study(make_study(recipe, ("mdico",), tmp_path / "run", folds=3))
    folder = tmp_path / "run" / "folds" / "grouped-3"
    assert [row["method"] for row in read_rows(folder / "seed0-fold1.csv")] == ["mdico", "mdico"]
    assert not (folder / "summary.json").exists()
    (folder / ".seed0-fold2.csv.ab12cd_8.csv").touch()  # what kill -9 leaves
    (folder / "seed0-fold1" / ".state.safetensors.ab12cd_8.safetensors").touch()
    (folder / ".gitignore").touch()
    del calls[:]
    calls.fail.clear()
    run_study(make_study(recipe, ("mdico",), tmp_path / "run", folds=3))
    assert calls == [("single-matched", 0, 1), ("mdico", 0, 2), ("single-matched", 0, 2)]
    assert [path.name for path in folder.rglob(".*")] == [".gitignore"]


def test_another_recipe_is_trained_again(recipe, calls, tmp_path):
    run_study(make_study(recipe, ("mdico",), tmp_path / "run", folds=3))
    del calls[:]
    longer = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, epochs=2))
    study = make_study(longer, ("mdico",), tmp_path / "run", folds=3)
    run_study(study)
    assert len(calls) == 6
    assert len(read_rows(study.folder / "seed0-fold0.csv")) == 4


def test_without_resume_everything_asked_for_is_done_again_and_the_rest_is_kept(recipe, calls, tmp_path):
    run_study(make_study(recipe, ("mdico", "concat"), tmp_path / "run", folds=3))
    del calls[:]
    study = make_study(recipe, ("mdico",), tmp_path / "run", folds=3)
    run_study(study, resume=False)
    assert len(calls) == 6
    assert (study.folder / "seed0-fold0" / "mdico.txt").read_text() == "resume False"
    assert {row["method"] for row in read_rows(study.folder / "seed0-fold0.csv")} == {
        "mdico", "concat", "single-matched",
    }  # fmt: skip


def test_a_failed_fold_is_recorded_and_tried_again_and_the_others_go_on(recipe, calls, tmp_path, capsys):
    calls.fail[("mdico", 0, 1)] = InputError("training diverged in epoch 3,\nbatch 2: con = nan")
    calls.fail[("mdico", 0, 2)] = RuntimeError("a shape")
    study = make_study(recipe, ("mdico",), tmp_path / "run", folds=3)
    summary = run_study(study)
    assert [(one["method"], one["fold"], one["error"]) for one in summary["failures"]] == [
        ("mdico", 1, "training diverged in epoch 3, batch 2: con = nan"), ("mdico", 2, "RuntimeError: a shape"),
    ]  # fmt: skip
    assert entry(summary, "mdico")["n"] == 1
    assert entry(summary, "mdico")["sd"]["macro_recall"] is None
    assert entry(summary, "mdico")["against_reference"]["p"] is None
    assert entry(summary, "single-matched")["n"] == 3
    assert "mdico failed: training diverged in epoch 3, batch 2" in capsys.readouterr().err
    del calls[:]
    calls.fail.clear()
    assert run_study(study)["failures"] == []
    assert calls == [("mdico", 0, 1), ("mdico", 0, 2)]


def test_a_library_that_is_missing_ends_the_study_at_once(recipe, calls, tmp_path):
    calls.fail[("mdico", 0, 0)] = BackendMissing("scikit-learn is not installed")
    with pytest.raises(BackendMissing):
        run_study(make_study(recipe, ("mdico",), tmp_path / "run", folds=3))
    assert len(calls) == 1


def test_a_fault_of_ours_is_not_recorded_as_the_folds(recipe, calls, tmp_path):
    calls.fail[("mdico", 0, 0)] = AttributeError("a typo")
    with pytest.raises(AttributeError, match="a typo"):
        run_study(make_study(recipe, ("mdico",), tmp_path / "run", folds=3))


def test_models_are_kept_unless_only_the_table_is_wanted(recipe, calls, tmp_path):
    study = make_study(recipe, ("mdico",), tmp_path / "run", folds=3)
    calls.fail[("mdico", 0, 2)] = InputError("diverged")
    run_study(study, keep_models=False)
    assert [path.name for path in study.folder.iterdir() if path.is_dir()] == ["seed0-fold2"]  # a state to look at
    run_study(study, resume=False)
    assert (study.folder / "seed0-fold0" / "mdico.txt").exists()


def test_published_is_marked_in_every_output(recipe, calls, tmp_path):
    published = dataclasses.replace(recipe, protocol="published")
    study = make_study(published, ("mdico",), tmp_path / "run", folds=3)
    summary = run_study(study)
    assert study.folder.name == "published-3"
    assert {row["validation_is_test"] for row in read_rows(study.folder / "seed0-fold0.csv")} == {"yes"}
    assert (summary["validation_is_test"], summary["warning"]) == (True, TOO_GOOD)
    with open(study.folder / "summary.csv", newline="") as file:
        assert {(row["protocol"], row["validation_is_test"]) for row in csv.DictReader(file)} == {("published", "yes")}
    # Validation is the test, so trainings learn from 120 samples alone: the share is 60 / 120, not 60 / 180.
    test = entry(summary, "mdico")["against_reference"]
    assert (test["unit"], test["n"]) == ("fold x seed", 3)
    assert test["p"] == pytest.approx(0.1597, abs=2e-4)


def test_all_methods_of_one_seed_see_the_same_random_folds(recipe, calls, tmp_path):
    study = make_study(dataclasses.replace(recipe, protocol="random"), ("mdico",), tmp_path / "run", folds=3, seeds=2)
    run_study(study)
    for seed in (0, 1):
        rows = read_rows(study.folder / f"seed{seed}-fold0.csv")
        assert len({(row["n_train"], row["n_test"]) for row in rows}) == 1


def test_a_split_of_the_sets_own_is_one_fold_and_said_to_be_fixed(write, calls, tmp_path):
    data = write(split=np.array([0] * 6 + [1] * 2 + [2] * 4))
    recipe = Recipe(data=str(data.folder))
    study = make_study(recipe, ("mdico",), tmp_path / "run", seeds=3)
    assert (study.recipe.protocol, study.folds, study.seeds) == ("fixed", (0,), (0, 1, 2))
    summary = run_study(study)
    assert (summary["protocol"], study.folder.name) == ("fixed", "fixed")
    assert entry(summary, "mdico")["against_reference"]["unit"] == "seed"
    with pytest.raises(InputError, match="tiny has a split of its own, used unless another protocol is named, and not"):
        make_study(recipe, ("mdico",), tmp_path / "run", folds=3)


@pytest.mark.parametrize(
    ("sizes", "changes", "message"),
    [
        ({"folds": 2}, {}, "2 folds leave nothing to train on"),
        ({"folds": 99}, {}, "there are 56 groups, fewer than the 99 folds"),
        ({"folds": 0}, {}, "folds is 0; it must be above 0"),
        ({"seeds": 0}, {}, "seeds is 0; it must be above 0"),
        ({"fold": 5}, {}, "fold 5 is out of range: there are 5 folds"),
        ({}, {"protocol": "fixed"}, "has no split of its own"),
        ({}, {"modalities": ("optical", "lidar")}, "modality 'lidar' is not in simulated"),
    ],
)
def test_what_would_fail_in_every_fold_is_refused_at_once(recipe, calls, tmp_path, sizes, changes, message):
    with pytest.raises(InputError, match=message):
        make_study(dataclasses.replace(recipe, **changes), ("mdico",), tmp_path / "run", **sizes)
    assert not (tmp_path / "run").exists()


def test_a_csv_that_is_not_ours_is_named(recipe, calls, tmp_path):
    study = make_study(recipe, ("mdico",), tmp_path / "run", folds=3)
    study.folder.mkdir(parents=True)
    (study.folder / "seed0-fold1.csv").write_text("site,value\n1,2\n")
    with pytest.raises(InputError, match=r"seed0-fold1.csv is not the CSV of a fold: columns are missing; remove it"):
        run_study(study)


def scores(study):
    """All that the CSVs hold but how long it took."""
    rows = [row for work in study.work(resume=True, keep_models=True) for row in read_rows(work.table)]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_csv_that_is_lost_is_made_again_from_what_is_trained(recipe, tmp_path):
    study = make_study(recipe, ("mdico",), tmp_path / "run", folds=3, fold=1)
    run_study(study)
    before = scores(study)
    assert [(row["method"], row["modality"], row["epochs"]) for row in before] == [
        (method, modality, 1) for method in ("mdico", "single-matched") for modality in ("optical", "sar")
    ]
    weights = study.folder / "seed0-fold1" / "mdico" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    (study.folder / "seed0-fold1.csv").unlink()
    run_study(study)
    assert scores(study) == before
    assert weights.stat().st_mtime_ns == written


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(recipe, tmp_path):
    one, two = (make_study(recipe, ("mdico",), tmp_path / name, folds=3) for name in ("one", "two"))
    run_study(one)
    run_study(two, jobs=2)
    assert scores(one) == scores(two)
    assert len(scores(one)) == 12
    assert not multiprocessing.active_children()
