import json

import pytest
from click.testing import CliRunner

from edge.cli import main
from edge.train.sources.simulated import simulate

RECIPE = {"model": {"width": 8, "hidden": 16, "embedding": 8}, "training": {"epochs": 2, "batch": 64}}


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
