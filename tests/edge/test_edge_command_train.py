import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from edge.cli import main
from edge.train.sources.simulated import simulate

RECIPE = {
    "method": "mdico",
    "model": {"width": 8, "hidden": 16, "embedding": 8},
    "training": {"epochs": 2, "batch": 64},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("train") / "set", n=180, seed=3).folder


@pytest.fixture
def edge(tmp_path, data):
    """Run `edge train` on the small set into RUN."""
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    fixed = ["train", "--data", str(data), "--recipe", str(tmp_path / "recipe.json"), "--out", str(tmp_path / "run")]
    return lambda *arguments: CliRunner().invoke(main, [*fixed, *map(str, arguments)])


def test_json_is_one_document_and_text_for_people_is_on_stderr(edge, tmp_path):
    result = edge("--json")
    assert result.exit_code == 0, result.output
    (run,) = json.loads(result.stdout)["runs"]
    assert run["folder"] == str(tmp_path / "run" / "train" / "mdico")
    assert len(run["history"]) == 2
    assert "mdico optical, validation: macro_recall" in result.stderr
    assert f"2 epochs, {run['seconds']:.0f} s -> {run['folder']}" in result.stderr


def test_the_single_methods_are_one_document_too(edge, tmp_path):
    result = edge("--json", "--method", "single", "--epochs", 1)
    assert result.exit_code == 0, result.output
    runs = json.loads(result.stdout)["runs"]
    assert [list(run["modalities"]) for run in runs] == [["optical"], ["sar"]]
    folders = [tmp_path / "run" / "train" / f"single-{name}" for name in ("optical", "sar")]
    assert [run["folder"] for run in runs] == list(map(str, folders))
    assert all((folder / "model.safetensors").exists() for folder in folders)


def test_without_json_stdout_is_empty(edge):
    assert edge("--epochs", 1).stdout == ""


def test_a_flag_wins_over_the_recipe_and_the_rest_of_the_recipe_stays(edge):
    (run,) = json.loads(edge("--json", "--epochs", 1, "--seed", 5, "--modalities", "sar, optical").stdout)["runs"]
    assert (run["recipe"]["training"]["epochs"], run["recipe"]["seed"]) == (1, 5)
    assert run["recipe"]["training"]["batch"] == 64
    assert run["recipe"]["model"]["width"] == 8
    assert list(run["modalities"]) == ["sar", "optical"]


def test_what_is_trained_is_used_again_unless_forced(edge, tmp_path):
    weights = tmp_path / "run" / "train" / "mdico" / "model.safetensors"
    found = []
    for flags in ([], [], ["--force"]):
        runs = json.loads(edge("--json", *flags).stdout)["runs"]
        found.append((runs[0]["validation"], weights.stat().st_mtime_ns))
    first, again, forced = found
    assert again == first
    assert forced[0] == first[0]
    assert forced[1] > first[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--modalities", "optical,lidar"], "modality 'lidar' is not in simulated; known: optical, sar"),
        (["--modalities", "optical"], "learns from at least two modalities together, got ['optical']"),
        (["--batch", 1], "training.batch is 1; batch normalisation needs at least 2"),
        (["--fold", 9], "fold 9 is out of range"),
        (["--data", "nowhere"], "data 'nowhere' is neither a folder nor a known source"),
        (["--recipe", "absent.json"], "the recipe absent.json is not a file"),
        (["--method", "mdco"], "Invalid value for '--method'"),
    ],
)
def test_bad_input_exits_2_with_one_line_and_writes_nothing(edge, tmp_path, flags, message):
    result = edge("--json", *flags)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", [".", "train/mdico"], ids=["run", "method"])
def test_a_folder_that_holds_something_else_is_refused(edge, tmp_path, place):
    folder = tmp_path / "run" / place
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    result = edge()
    assert result.exit_code == 2
    assert "holds something else" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_run_that_is_a_file_is_refused(edge, tmp_path):
    (tmp_path / "run").write_text("mine")
    result = edge()
    assert result.exit_code == 2
    assert "run is a file" in result.stderr
    assert (tmp_path / "run").read_text() == "mine"


def test_ctrl_c_ends_with_one_line_and_the_same_command_continues(edge, tmp_path, monkeypatch):
    from edge.train import loop

    epoch = loop._epoch

    def interrupted(*arguments, **settings):
        if settings["epoch"] == 2:
            raise KeyboardInterrupt
        return epoch(*arguments, **settings)

    monkeypatch.setattr(loop, "_epoch", interrupted)
    stopped = edge("--json")
    assert stopped.exit_code == 130
    assert stopped.stdout == ""
    assert stopped.stderr.strip().endswith("Stopped; what is done is kept, the same command without --force continues.")
    assert "Traceback" not in stopped.output
    assert (tmp_path / "run" / "train" / "mdico" / "state.safetensors").exists()
    trained = []
    monkeypatch.setattr(
        loop, "_epoch", lambda *a, **settings: trained.append(settings["epoch"]) or epoch(*a, **settings)
    )
    (run,) = json.loads(edge("--json").stdout)["runs"]
    assert trained == [2]
    assert [record["epoch"] for record in run["history"]] == [1, 2]


def test_several_methods_are_trained_one_after_the_other(edge):
    runs = json.loads(edge("--json", "--epochs", 1, "--method", "single-matched,mdico").stdout)["runs"]
    assert [run["recipe"]["method"] for run in runs] == ["single-matched", "single-matched", "mdico"]


def test_folds_and_seeds_print_a_table_with_a_paired_test(edge, tmp_path):
    result = edge("--folds", 3, "--fold", 1, "--seeds", 2, "--epochs", 1)
    assert result.exit_code == 0, result.output
    head, _, *lines, _, caption = result.stdout.strip().splitlines()
    assert head.split("  ")[0] == "method"
    assert "− single-matched" in head
    assert [line.split()[:3] for line in lines] == [
        [method, name, "2"] for method in ("mdico", "single-matched") for name in ("optical", "sar")
    ]
    assert caption.startswith(
        "simulated, grouped folds: no site, field or scene is in two of them; test mean ± sd over 1"
    )
    assert "seed 1, fold 1: mdico optical 0." in result.stderr
    assert "folds/grouped-3/summary.json" in result.stderr
    summary = json.loads(edge("--json", "--folds", 3, "--fold", 1, "--seeds", 2, "--epochs", 1).stdout)
    assert summary == json.loads((tmp_path / "run" / "folds" / "grouped-3" / "summary.json").read_text())


def test_a_failed_fold_ends_with_exit_code_2_after_the_others(edge, monkeypatch):
    from edge.errors import InputError
    from edge.train import methods

    run_fold = methods.run_fold

    def failing(data, recipe, folder, *, resume=True):
        if recipe.fold == 0:
            raise InputError("training diverged in epoch 1")
        return run_fold(data, recipe, folder, resume=resume)

    monkeypatch.setattr(methods, "run_fold", failing)
    result = edge("--json", "--folds", 3, "--method", "single-matched", "--epochs", 1)
    assert result.exit_code == 2
    summary = json.loads(result.stdout)
    assert [one["n"] for one in summary["results"]] == [2, 2]
    assert "single-matched, seed 0, fold 0 failed: training diverged in epoch 1" in result.stderr
    assert "Error: 1 trainings failed; the same command tries them again" in result.stderr


def test_the_published_protocol_warns_and_stands_in_the_facts(edge):
    result = edge("--json", "--protocol", "published", "--epochs", 1)
    assert result.stderr.startswith("warning: protocol 'published': the validation fold is the test fold")
    (run,) = json.loads(result.stdout)["runs"]
    assert run["recipe"]["protocol"] == "published"
    assert "validation fold = test fold: scores are too good" in run["protocol"]
    assert "warning" not in edge("--json", "--epochs", 1).stderr


def test_a_split_of_the_sets_own_is_used_and_said(tmp_path, data):
    from edge.train.paired import open_paired_set, write_paired_set

    whole = open_paired_set(data)
    own = write_paired_set(
        tmp_path / "own",
        name="own",
        modalities=whole.modalities,
        arrays=whole.arrays,
        target=whole.target,
        task=whole.task,
        groups=whole.groups,
        source=whole.source,
        split=np.unique(whole.groups, return_inverse=True)[1] % 3,
    )
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    command = [
        "train",
        "--data",
        str(own.folder),
        "--recipe",
        str(tmp_path / "recipe.json"),
        "--out",
        str(tmp_path / "r"),
    ]
    said = CliRunner().invoke(main, [*command, "--epochs", "1", "--method", "single"]).stderr
    assert "protocol: fixed, the set's own split, seed 0 (--protocol grouped makes folds)" in said
    said = CliRunner().invoke(main, [*command, "--epochs", "1", "--method", "single", "--protocol", "grouped"]).stderr
    assert "protocol:" not in said
    refused = CliRunner().invoke(main, [*command, "--folds", "5"])
    assert refused.exit_code == 2
    assert "own has a split of its own, used unless another protocol is named, and not 5 folds" in refused.stderr


def test_jobs_without_folds_are_refused(edge):
    result = edge("--jobs", 2)
    assert result.exit_code == 2
    assert "--jobs 2 is for --folds or --seeds" in result.stderr


def test_torchrun_and_folds_exclude_each_other(edge, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = edge("--folds", 3)
    assert result.exit_code == 2
    assert "torchrun divides one training" in result.stderr


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_and_gives_the_same_numbers(tmp_path, data):
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE | {"training": {"epochs": 12, "batch": 16}}))
    command = [sys.executable, "-m", "edge", "train", "--data", str(data), "--recipe", str(tmp_path / "recipe.json")]
    command += ["--folds", "3", "--seeds", "2", "--jobs", "2", "--out"]

    def finished(name):
        return {path: path.stat().st_mtime_ns for path in (tmp_path / name).glob("folds/grouped-3/*.csv")}

    def scores(name):
        summary = json.loads((tmp_path / name / "folds" / "grouped-3" / "summary.json").read_text())
        return [(one["method"], one["modality"], one["mean"], one["sd"]) for one in summary["results"]]

    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    killed = subprocess.Popen([*command, str(tmp_path / "run")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(finished("run")) < 3:
        assert killed.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    time.sleep(1)  # its processes notice
    complete = {path: when for path, when in finished("run").items() if len(path.read_text().splitlines()) == 5}
    assert complete
    assert len(complete) < 6
    subprocess.run([*command, str(tmp_path / "run")], check=True, capture_output=True)
    assert scores("run") == scores("whole")
    assert complete.items() <= finished("run").items()
