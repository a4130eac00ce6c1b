import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from edge.benchmarks.method_table import caption, markdown, table
from edge.benchmarks.methods import main, publish
from edge.recipe import METHODS
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train import methods
from edge.train.paired import write_paired_set

TEST = {
    "pairs": 50, "n": 10, "unit": "fold", "difference": 0.0312, "ci95": [0.0012, 0.0612], "p": 0.0431,
    "p_uncorrected": 0.0002, "p_wilcoxon": 0.002,
}  # fmt: skip
NUMBERS = {"n": 50, "validation": {}, "epochs": 9.0, "seconds": 3.0, "parameters": 1000.0}
SUMMARY = {
    "schema": "edge.folds/1", "data": "lfmc", "task": {"kind": "regression", "unit": "%"},
    "metric": {"name": "r2", "higher_is_better": True}, "protocol": "grouped", "validation_is_test": False,
    "places_apart": True, "folds": 10,
    "tested_folds": list(range(10)), "seeds": [0, 1, 2, 3, 4], "reference": "single-matched",
    "test": "corrected resampled t test (Nadeau & Bengio 2003), two-sided", "failures": [],
    "results": [
        {"method": "mdico", "modality": "sar", "mean": {"r2": 0.1481, "rmse": 36.14}, "sd": {"r2": 0.15, "rmse": 3.456},
         "against_reference": TEST, **NUMBERS},
        {"method": "single-matched", "modality": "sar", "mean": {"r2": 0.117, "rmse": 37.0},
         "sd": {"r2": None, "rmse": None}, "against_reference": None, **NUMBERS},
    ],
}  # fmt: skip


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "benchmarks"
    (folder / "results").mkdir(parents=True)
    (folder / "RESULTS.md").write_text("# Results\n\nWhat was tried.\n")
    return folder


def test_the_table_has_a_line_for_each_method_and_modality():
    head, _, first, second = table(SUMMARY).splitlines()
    assert " ".join(head.split()) == "method modality n R² RMSE [%] − single-matched p p paired t"
    assert " ".join(first.split()) == "mdico sar 50 0.148 ± 0.150 36.14 ± 3.46 +0.031 [+0.001, +0.061] 0.043 < 0.001"
    assert " ".join(second.split()) == "single-matched sar 50 0.117 37.00"


def test_markdown_has_the_same_cells():
    head, rule, first, _ = markdown(SUMMARY).splitlines()
    assert head.startswith("| method | modality | n | R² | RMSE [%] |")
    assert rule.count("---:") == 6
    assert "| 0.148 ± 0.150 | 36.14 ± 3.46 | +0.031 [+0.001, +0.061] | 0.043 | < 0.001 |" in first


def test_the_caption_says_over_what_and_by_which_test():
    text = caption(SUMMARY)
    assert "test mean ± sd over 10 of 10 folds x 5 seeds" in text
    assert "corrected resampled t test (Nadeau & Bengio 2003), two-sided, n = 10 folds' means over seeds" in text
    assert "too good" not in text


def test_a_published_table_says_first_that_its_scores_are_too_good():
    text = caption(SUMMARY | {"protocol": "published"})
    assert text.startswith(
        "lfmc, PUBLISHED PROTOCOL: random folds, validation fold = test fold; every score is too good"
    )


def test_folds_of_a_set_without_groups_are_not_said_to_keep_places_apart():
    assert caption(SUMMARY).startswith("lfmc, grouped folds: no site, field or scene is in two of them;")
    assert caption(SUMMARY | {"places_apart": False}).startswith(
        "lfmc, grouped folds, but the set names no groups: one place may be on several sides;"
    )


def test_failures_are_counted_in_the_caption():
    failed = SUMMARY | {"failures": [{"method": "mdico", "seed": 0, "fold": 1, "error": "diverged"}]}
    assert caption(failed).endswith("1 trainings failed and are left out.")


def test_a_table_takes_its_place_at_the_end_and_keeps_it(results):
    page = results / "RESULTS.md"
    publish(results, SUMMARY, "python -m edge.benchmarks.methods --data lfmc")
    publish(results, SUMMARY | {"protocol": "random"}, "python -m edge.benchmarks.methods --data lfmc")
    before = page.read_text()
    assert before.startswith("# Results\n\nWhat was tried.\n\n<!-- methods lfmc grouped 10x5 -->\n    python -m edge.")
    page.write_text(before + "\nA remark at the end.\n")
    changed = SUMMARY | {"results": SUMMARY["results"][1:]}
    publish(results, changed, "another \\1 command")
    after = page.read_text()
    assert after.count("<!-- methods lfmc grouped 10x5 -->") == after.count("<!-- methods lfmc random 10x5 -->") == 1
    assert "    another \\1 command\n" in after
    assert after.count("| mdico | sar |") == 1  # of the random protocol
    assert after.endswith("<!-- /methods -->\n\nA remark at the end.\n")


def test_a_table_with_a_recipe_stands_beside_the_one_without(results):
    publish(results, SUMMARY, "python -m edge.benchmarks.methods --data lfmc")
    done = publish(results, SUMMARY, "python -m edge.benchmarks.methods --data lfmc --recipe a/bf16.toml", "bf16")
    assert done["csv"] == str(results / "results" / "methods-lfmc-grouped-10x5-bf16.csv")
    names = sorted(file.name for file in (results / "results").iterdir())
    assert names == ["methods-lfmc-grouped-10x5-bf16.csv", "methods-lfmc-grouped-10x5.csv"]
    page = (results / "RESULTS.md").read_text()
    assert page.count("<!-- methods lfmc grouped 10x5 -->") == 1
    assert page.count("<!-- methods lfmc grouped 10x5 bf16 -->") == 1


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {name: (Band("a"), Band("b")) for name in ("optical", "sar")}
    return write_paired_set(
        tmp_path / "fields",
        name="fields",
        modalities={name: Modality(name, bands, ("band",), (2,)) for name, bands in shapes.items()},
        arrays={name: rng.normal(size=(40, 2)) for name in shapes},
        target=rng.normal(size=40),
        task=Task("regression", unit="t/ha"),
        groups=np.arange(40) // 2,
        source={"title": "made for a test"},
    )


@pytest.fixture
def calls(monkeypatch):
    calls = []

    def run_fold(data, recipe, folder, *, resume=True):
        calls.append((recipe.method, recipe.protocol, recipe.seed, recipe.fold))
        (folder / recipe.method).mkdir(parents=True)
        scores = {"r2": 0.1 * recipe.fold + (0.01 * recipe.fold + 0.02 if recipe.method == "mdico" else 0), "rmse": 2.0}
        return [
            {"method": recipe.method, "modality": name, "protocol": recipe.protocol, "fold": recipe.fold,
             "seed": recipe.seed, "n_train": 24, "n_validation": 8, "n_test": 8, "metric": "r2", "validation": scores,
             "test": scores, "epochs": 1, "seconds": 1.0, "parameters": 10}
            for name in ("optical", "sar")
        ]  # fmt: skip

    monkeypatch.setattr(methods, "run_fold", run_fold)
    return calls


def test_all_methods_and_protocols_are_run_once_and_written(data, results, calls, tmp_path):
    command = ["--data", str(data.folder), "--folds", "3", "--seeds", "2"]
    fixed = ["--out", str(tmp_path / "runs"), "--results", str(results)]
    first = CliRunner().invoke(main, [*command, *fixed])
    assert first.exit_code == 0, first.output
    assert sorted(calls) == sorted(
        (method, protocol, seed, fold)
        for method in METHODS for protocol in ("grouped", "random") for seed in (0, 1) for fold in range(3)
    )  # fmt: skip
    done = json.loads(first.stdout.strip().splitlines()[-1])["tables"]
    assert [(one["protocol"], one["scores"], one["failures"]) for one in done] == [
        (protocol, 2 * 6 * len(METHODS), 0) for protocol in ("grouped", "random")
    ]
    with open(results / "results" / "methods-fields-grouped-3x2.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["modality"], row["n"]) for row in rows] == [
        (method, modality, "6") for method in METHODS for modality in ("optical", "sar")
    ]
    mdico = next(row for row in rows if row["method"] == "mdico")
    assert float(mdico["vs_single-matched_difference"]) == pytest.approx(0.03)
    page = (results / "RESULTS.md").read_text()
    line = f"python -m edge.benchmarks.methods --data {data.folder} --protocol grouped --folds 3 --seeds 2"
    assert f"<!-- methods fields grouped 3x2 -->\n    {line}\n" in page
    del calls[:]
    again = CliRunner().invoke(main, [*command, *fixed])
    assert again.stdout == first.stdout
    assert calls == []
    assert (results / "RESULTS.md").read_text() == page


def test_the_recipe_is_in_the_name_of_the_table_and_in_its_command(data, results, calls, tmp_path):
    recipe = tmp_path / "short.toml"
    recipe.write_text("[training]\nepochs = 3\n")
    arguments = ["--data", str(data.folder), "--protocol", "random", "--method", "mdico", "--folds", "3"]
    places = ["--recipe", str(recipe), "--out", str(tmp_path / "runs"), "--results", str(results)]
    result = CliRunner().invoke(main, [*arguments, "--seeds", "1", *places])
    assert result.exit_code == 0, result.output
    page = (results / "RESULTS.md").read_text()
    assert "<!-- methods fields random 3x1 short -->\n    python -m edge.benchmarks.methods --data " in page
    assert f" --seeds 1 --recipe {recipe}\n" in page
    assert (results / "results" / "methods-fields-random-3x1-short.csv").is_file()


def test_no_models_are_kept(data, results, calls, tmp_path):
    arguments = ["--data", str(data.folder), "--protocol", "grouped", "--method", "mdico", "--folds", "3"]
    CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "runs"), "--results", str(results)])
    assert {method for method, *_ in calls} == {"mdico", "single-matched"}
    assert not [path for path in (tmp_path / "runs" / "fields" / "folds" / "grouped-3").iterdir() if path.is_dir()]


def test_a_wrong_place_is_refused_before_anything_is_trained(data, calls, tmp_path):
    result = CliRunner().invoke(main, ["--data", str(data.folder), "--results", str(tmp_path)])
    assert result.exit_code == 2
    assert "RESULTS.md is missing; run this in the repository" in result.stderr
    assert calls == []


def test_one_wrong_set_is_refused_before_another_is_trained(data, results, calls):
    result = CliRunner().invoke(main, ["--data", f"{data.folder},nowhere", "--results", str(results)])
    assert result.exit_code == 2
    assert "'nowhere' is neither a folder nor a known source" in result.stderr
    assert calls == []
