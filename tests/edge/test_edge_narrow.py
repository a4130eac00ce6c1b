"""Narrower students through the commands: `--width`, what is used again, and `edge compress --front`."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.cli import main
from edge.errors import InputError
from edge.front import Grid, Wish
from edge.recipe import Model, Recipe, narrowed
from edge.train.sources.simulated import simulate

RECIPE = {
    "method": "mdico",
    "model": {"width": 32, "hidden": 64, "embedding": 32},
    "training": {"epochs": 2, "lr": 0.003},
    "compression": {"epochs": 1},
}


@pytest.mark.parametrize(
    ("width", "model", "expected"),
    [
        (0.5, Model(), (64, 256, 64)),
        (0.25, Model(), (32, 128, 32)),
        (0.3, Model(), (32, 160, 32)),  # multiples of 16
        (0.01, Model(), (16, 16, 16)),
        (0.5, Model(width=64, hidden=16, embedding=8), (32, 16, 8)),  # what is small already stays
    ],
)
def test_a_share_of_the_channels_is_a_plain_recipe_of_a_smaller_model(width, model, expected) -> None:
    found = narrowed(Recipe(width=width, model=model))
    assert (found.model.width, found.model.hidden, found.model.embedding) == expected
    assert found.width == 1
    assert dataclasses.replace(found, model=model) == Recipe(model=model)


def test_the_full_student_is_no_narrower_one() -> None:
    assert narrowed(Recipe()) == Recipe()
    with pytest.raises(InputError, match=r"width 0\.5 of model\.width 16 is the full student"):
        narrowed(Recipe(width=0.5, model=Model(width=16, hidden=16, embedding=16)))


def test_pretrained_weights_are_the_full_ones() -> None:
    assert narrowed(Recipe(width=0.5, model=Model(weights="resnet18.safetensors"))).model.weights is None


@pytest.mark.parametrize("width", [0.0, -0.5, 1.5])
def test_a_width_is_a_share(width) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1"):
        Recipe(width=width).check()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    folder = tmp_path_factory.mktemp("narrow")
    simulate(folder / "set", n=150, seed=3)
    (folder / "recipe.json").write_text(json.dumps(RECIPE))

    def run(command: str, *arguments: object, out: Path | None = None) -> Result:
        options = ["--data", folder / "set", "--recipe", folder / "recipe.json", "--out", out or folder / "run"]
        return CliRunner().invoke(main, [command, *map(str, arguments), *map(str, options)])

    return run


@pytest.mark.slow
def test_half_the_width_is_trained_beside_the_full_students_and_once(edge) -> None:
    result = edge("compress", "--width", "0.5", "--sparsity", "2:4", "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["students"]["optical"]["sparse"]
    assert "layers in INT8, 5 of them with 2:4 sparsity" in result.stderr
    run = Path(result.stderr.split(" -> ")[-1].strip()).parents[2]
    full, narrow = (json.loads((run / p / "train/mdico/training.json").read_text()) for p in ("", "width-0.5"))
    assert (full["recipe"]["model"]["width"], narrow["recipe"]["model"]["width"]) == (32, 16)
    assert (full["full"], narrow["full"]) == (None, full["fingerprint"])
    assert facts["trained"] == narrow["fingerprint"]
    assert not (run / "compress").exists()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.json")}
    assert edge("compress", "--width", "0.5", "--sparsity", "2:4").exit_code == 0
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*.json")}
    assert edge("compress", "--width", "0.5").exit_code == 0  # another compression of the same students
    changed = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert {path.parent.name for path in changed} == {"mdico"}
    assert {path.name for path in changed} == {"compression.json"}
    forced = edge("compress", "--width", "0.5", "--force")
    assert forced.exit_code == 0
    again = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert run / "width-0.5/train/mdico/training.json" in again
    assert run / "train/mdico/training.json" not in again


def test_a_recipe_with_a_width_is_refused_where_students_are_not_narrowed(edge, tmp_path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE | {"width": 0.5}))
    result = CliRunner().invoke(
        main, ["train", "--recipe", str(tmp_path / "recipe.json"), "--out", str(tmp_path / "run")]
    )
    assert (result.exit_code, "narrower students are for" in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--width", "2"), "above 0 and at most 1"),
        (("--width", "0.5", "--front"), "--front measures several widths"),
        (("--sensitivity", "--front"), "--sensitivity looks at one width"),
        (("--sparsity", "1:4"), "'1:4' is not '2:4'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(edge, tmp_path, arguments, message) -> None:
    result = edge("compress", *arguments, out=tmp_path / "run")
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "run").exists()


def test_compress_front_is_edge_front_with_its_defaults(edge, tmp_path, monkeypatch) -> None:
    given = []

    def front(*arguments, **options):
        given.append((arguments, options))
        raise InputError("seen")

    monkeypatch.setattr("edge.front.front", front)
    edge("front", out=tmp_path)
    edge("compress", "--front", out=tmp_path)
    (first, second) = given
    assert first[0] == second[0]
    assert first[0][1:] == (None, Grid(), Wish(), tmp_path)
    assert Grid().widths == (1.0, 0.5, 0.25)
    assert Grid().precisions == ("fp32", "int8")
    assert first[1].keys() == second[1].keys()
