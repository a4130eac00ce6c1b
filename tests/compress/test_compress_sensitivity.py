"""What INT8 does to each layer, measured on graphs, and what is proposed within a budget."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import log_loss

from edge.cli import main
from edge.compress import mixed, sensitivity
from edge.compress.mixed import analyse, compress_mixed, greedy, propose
from edge.compress.sensitivity import Samples, Student, change, quality, sample_losses, students_of
from edge.compress.sensitivity_table import table
from edge.errors import InputError
from edge.tasks import Task
from edge.train.splits import split_indices

CROPS = Task("multiclass", "crop", ("oat", "rye", "pea"))
YIELD = Task("regression", "yield", unit="t/ha")
LABELS = Task("multilabel", "use", ("meadow", "orchard"))


def layer(name: str, loss: float, latency: float, *, doubtful: bool = False) -> dict[str, Any]:
    """An entry of `sensitivity`; leaving it in float changes the loss by `loss`."""
    ends = [loss - 0.1, 0.1 if doubtful else loss / 2]
    left = {"loss": loss, "loss_ci95": ends, "metric": 0.0}
    return {"names": name.split("+"), "alone": left, "left": left, "latency": latency, "microseconds": latency - 1}


def samples(target: np.ndarray, sd: float = 1.0) -> Samples:
    return Samples(np.zeros((len(target), 1), np.float32), target, np.arange(len(target)), sd)


@pytest.fixture
def quick(monkeypatch) -> None:
    """The stop-watch says that each layer in float adds a tenth."""
    monkeypatch.setattr(
        sensitivity, "latencies", lambda _, left: [(1 + len(layers) / 10, 5.0 * len(layers)) for layers in left]
    )
    monkeypatch.setattr(mixed, "latencies", sensitivity.latencies)


@pytest.fixture
def student(two) -> Student:
    return next(each for each in students_of(two.data, two.trained, two.compressed) if each.modality == "optical")


def test_the_loss_of_classes_is_that_of_scikit_learn_with_balanced_classes() -> None:
    random = np.random.default_rng(0)
    target = random.choice(3, 60, p=[0.7, 0.2, 0.1])
    outputs = random.dirichlet([1, 1, 1], 60)
    losses, weights = sample_losses(CROPS, outputs, samples(target))
    expected = log_loss(target, outputs, sample_weight=1 / np.bincount(target)[target])
    assert np.sum(losses * weights) / np.sum(weights) == pytest.approx(expected)


def test_the_loss_of_a_regression_is_in_standard_deviations_and_that_of_labels_a_mean_over_them() -> None:
    losses, _ = sample_losses(YIELD, np.array([[3.0], [5.0]]), samples(np.array([1.0, 5.0]), sd=4.0))
    assert losses.tolist() == [0.25, 0.0]
    losses, _ = sample_losses(LABELS, np.array([[0.8, 0.4]]), samples(np.array([[1, 0]])))
    assert losses[0] == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)


def test_a_change_that_all_samples_share_is_beyond_doubt_and_one_of_a_single_sample_is_not() -> None:
    target = np.linspace(0, 1, 40)
    student = Student("sar", YIELD, None, {}, (), samples(target))  # type: ignore[arg-type]
    before = (target + 0.1)[:, None]
    found = change(student, before, before + 0.1)
    assert found["loss"] == pytest.approx(0.04 - 0.01)
    assert found["loss_ci95"] == pytest.approx([0.03, 0.03])
    assert found["metric"] == pytest.approx(-0.03 / np.var(target))  # r2
    after = before.copy()
    after[3] += 1
    low, high = change(student, before, after)["loss_ci95"]
    assert (low, high > 0) == (pytest.approx(0, abs=1e-12), True)


def test_only_validation_samples_are_looked_at(two, student: Student) -> None:
    split = split_indices(two.data, two.recipe.fold, two.recipe.folds)
    here = split.validation[two.data.present("optical")[split.validation]]
    np.testing.assert_array_equal(student.samples.x, two.data.arrays["optical"][here])
    np.testing.assert_array_equal(student.samples.target, two.data.target[here])


def test_layers_that_read_one_tensor_are_also_one_unit(student: Student) -> None:
    assert student.units[:-1] == [[name] for name in student.layers]
    assert set(student.units[-1]) == {"specific.conv1", "shared.conv1"}


@pytest.mark.usefixtures("quick")
def test_a_layer_whose_range_is_ruined_does_the_most_damage_and_float_takes_it_back(student: Student) -> None:
    ranges = dict(student.ranges)
    ranges["shared.dense"] = dataclasses.replace(ranges["shared.dense"], weight_limit=0.01)  # clips nearly all weights
    ruined = dataclasses.replace(student, ranges=ranges)
    found = sensitivity.sensitivity(ruined)
    worst = found["layers"][0]
    assert worst["names"] == ["shared.dense"]
    assert worst["alone"]["loss_ci95"][0] > 0
    assert worst["left"]["loss"] == pytest.approx(found["float"]["loss"] - found["int8"]["loss"], rel=0.2)
    assert found["int8"]["loss"] > found["float"]["loss"]
    proposal = propose(ruined, found, 1.1)
    assert proposal["layers"] == ["shared.dense"]
    assert proposal["latency"] == pytest.approx(1.1)
    assert proposal["loss"] == pytest.approx(worst["left"]["loss"])


def test_the_int8_graph_is_what_is_measured(two, student: Student, tmp_path) -> None:
    outputs = sensitivity.predictions(student.int8(), student, tmp_path)
    assert outputs.shape == (len(student.samples.x), 6)
    floats = sensitivity.predictions(student.tuned, student, tmp_path)
    assert 0 < np.abs(outputs - floats).max() < 0.1
    assert quality(student, outputs)["metric"] == pytest.approx(quality(student, floats)["metric"], abs=0.1)


def test_latencies_are_multiples_of_the_int8_graphs(student: Student) -> None:
    """Float convolutions of 16 channels beside integer ones: no bound on the figure but that it was measured."""
    ((ratio, added),) = sensitivity.latencies(student, [["specific.conv2"]])
    assert ratio > 0
    assert (ratio > 1) == (added > 0)


def test_the_most_damage_per_microsecond_comes_first_while_the_budget_lasts() -> None:
    layers = [layer("a", -1.0, 1.10), layer("b", -0.9, 1.03), layer("c", -0.3, 1.04), layer("d", -5.0, 1.5)]
    assert greedy(layers, 1.2) == [["b"], ["a"], ["c"]]
    assert greedy(layers, 1.1) == [["b"], ["c"]]  # a no longer fits
    assert greedy(layers, 1.0) == []


def test_what_cannot_be_told_from_noise_is_not_worth_a_microsecond_and_what_costs_none_comes_first() -> None:
    layers = [
        layer("a", -1.0, 1.01, doubtful=True),
        layer("b", 0.5, 1.01),
        layer("c", -0.1, 0.97),
        layer("d", -1, 1.01),
    ]
    assert greedy(layers, 1.5) == [["c"], ["d"]]


def test_a_layer_is_not_paid_twice() -> None:
    assert greedy([layer("a+b", -4.0, 1.02), layer("a", -1.0, 1.01)], 1.5) == [["a", "b"]]


def test_what_is_too_slow_together_goes_back_to_int8(student: Student, monkeypatch) -> None:
    asked: list[list[str]] = []

    def slower(_: Student, left: list[list[str]]) -> list[tuple[float, float]]:
        asked.extend(left)
        return [(1 + 0.2 * len(layers), 1.0) for layers in left]

    monkeypatch.setattr(mixed, "latencies", slower)
    layers = [layer(name, -1.0 - 0.1 * at, 1.05) for at, name in enumerate(student.layers[:3])]
    found = propose(student, {"layers": layers}, 1.25)
    assert [len(layers) for layers in asked] == [3, 2, 1]
    assert (found["layers"], found["latency"]) == ([student.layers[2]], pytest.approx(1.2))
    assert propose(student, {"layers": layers}, 1.1) == {
        "layers": [], "latency": 1.0, "loss": 0.0, "loss_ci95": None, "metric": 0.0,
    }  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_another_budget_proposes_anew_and_measures_no_layer_again(two, tmp_path, monkeypatch) -> None:
    file = tmp_path / "sensitivity.json"
    told: list[str] = []
    first = analyse(two.data, two.trained, two.compressed, file, 1.2, notify=told.append)
    assert json.loads(file.read_text()) == first
    assert len(told) == 2 * (7 + 1 + 1)  # layers, the two that share an input, latency; of two students
    monkeypatch.setattr(mixed, "sensitivity", None)
    assert analyse(two.data, two.trained, two.compressed, file, 1.2) == first
    second = analyse(two.data, two.trained, two.compressed, file, 2.0)
    assert (second["students"], second["proposal"]["budget"]) == (first["students"], 2.0)
    text = table(second)
    assert "specific.conv1 + shared.conv1" in text
    assert "optical: INT8" in text
    with pytest.raises(InputError, match=r"latency budget is 0\.9"):
        analyse(two.data, two.trained, two.compressed, file, 0.9)


def test_mixed_students_are_fine_tuned_with_the_proposal_in_float(two, tmp_path, monkeypatch) -> None:
    calls: list[tuple[tuple[str, ...], float | None, str]] = []

    def compressed(data, trained, recipe, folder, *, resume) -> str:
        calls.append((recipe.compression.exclude, recipe.compression.mixed, folder.name))
        return folder.name

    proposal = {"optical": {"layers": ["shared.dense"]}, "sar": {"layers": []}}
    monkeypatch.setattr(mixed, "compress", compressed)
    monkeypatch.setattr(mixed, "analyse", lambda *_, **__: {"proposal": {"students": proposal}})
    settings = dataclasses.replace(two.recipe.compression, exclude=("sar.*.conv1",), mixed=1.1)
    recipe = dataclasses.replace(two.recipe, compression=settings)
    assert compress_mixed(two.data, two.trained, recipe, tmp_path) == "mdico-mixed"
    assert calls == [
        (("sar.*.conv1",), None, "mdico"),
        (("sar.*.conv1", "optical.shared.dense"), None, "mdico-mixed"),
    ]
    proposal["optical"]["layers"] = []
    assert compress_mixed(two.data, two.trained, recipe, tmp_path) == "mdico"


@pytest.fixture(scope="module")
def run(two, tmp_path_factory):
    """`edge compress` on the run of `two`, which is trained and compressed already."""
    folder = tmp_path_factory.mktemp("run")
    recipe = two.recipe.to_json() | {"data": str(two.data.folder)}
    (folder / "recipe.json").write_text(json.dumps(recipe))

    def edge(*arguments: str):
        given = ["compress", "--recipe", folder / "recipe.json", "--out", folder / "run", *arguments]
        return CliRunner().invoke(main, [str(each) for each in given])

    return edge


@pytest.mark.usefixtures("quick")
def test_the_command_prints_the_table_or_one_document(run) -> None:
    result = run("--sensitivity", "--latency-budget", "1.3", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["schema"] == "edge.sensitivity/1"
    assert document["proposal"]["budget"] == 1.3
    assert {name for each in document["students"]["sar"]["layers"] for name in each["names"]} >= {"specific.conv1"}
    shown = run("--sensitivity", "--latency-budget", "1.3")
    assert shown.stdout.splitlines()[0].split()[:2] == ["student", "layer"]


def test_a_layer_that_is_none_is_refused_with_the_layers(run) -> None:
    result = run("--exclude", "shared.conv7")
    assert (result.exit_code, "names no INT8 layer; the layers are: optical.specific.conv1" in result.stderr) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mixed", "0.5"], "compression.mixed is 0.5"),
        (["--sensitivity", "--latency-budget", "0.5"], "0.5 is not in the range x>=1"),
    ],
)
def test_a_budget_below_the_int8_latency_is_refused(run, options: list[str], message: str) -> None:
    result = run(*options)
    assert (result.exit_code, message in result.stderr) == (2, True)
