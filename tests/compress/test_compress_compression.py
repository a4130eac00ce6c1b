import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from edge.compress import compression
from edge.compress.compression import compress, load_compressed
from edge.compress.fine_tuning import COST, FineTuning, Movement, feature_distance
from edge.compress.fold import FoldedStudent
from edge.compress.placement import PLACEMENTS
from edge.compress.quantize import layer_quantizers, quantizers
from edge.errors import InputError
from edge.recipe import Compression, Recipe
from edge.tasks import Task
from edge.train.dates import season_counts
from edge.train.methods.soft_targets import distillation
from edge.train.model import Features
from edge.train.objectives import Loss
from edge.train.samples import Samples
from edge.train.training import learning, load_trained, to_units

SPECIFIC = {f"specific.{layer}" for layer in ("conv1", "conv2", "dense")}
SHARED = {"shared.conv1", "shared.conv2", "shared.dense", "to_shared.project"}


def again(recipe: Recipe, **settings) -> Recipe:
    return dataclasses.replace(recipe, compression=Compression(**settings))


@pytest.fixture
def batch(two):
    return two.samples.batch(torch.from_numpy(two.split.train[:64]))


@pytest.fixture
def model(two):
    """A fresh fake-quantized model, so that gradients do not stay in the shared one."""
    torch.manual_seed(0)
    train = torch.from_numpy(two.split.train)
    chosen = compression.calibration_samples(two.data, two.samples, train, two.recipe)
    batches = {name: list(torch.split(two.samples.inputs[name][index], 64)) for name, index in chosen.items()}
    return compression.QuantizedCoLearner(two.trained.model, batches)


@pytest.mark.parametrize(
    ("objective", "reached"),
    [("main", SPECIFIC | SHARED), ("aux", SPECIFIC | SHARED), ("con", SHARED), ("mod", SPECIFIC)],
)
def test_each_objective_alone_moves_weights_and_ranges_of_all_students(two, model, batch, objective, reached) -> None:
    objectives = learning(two.recipe, two.data.task, two.samples.target[two.split.train])
    objectives(model(batch.inputs), batch.target, batch.rows, model.heads)[objective].backward()
    for name, student in model.students.items():
        layers = layer_quantizers(student, batch.inputs[name][:1])
        moved = {layer for layer in layers if _moves(student.get_submodule(layer).weight)}
        assert moved == reached, name
        for layer in reached:
            assert _moves(layers[layer].weight.scale), (name, layer)
            assert _moves(layers[layer].activation.scale), (name, layer)


def test_distillation_moves_weights_and_ranges_too(two, model, batch) -> None:
    teacher = compression.student_outputs(two.trained.model, two.samples, with_features=False)["sar"].prediction
    features = model(batch.inputs)
    index = torch.from_numpy(two.split.train[:64])
    distillation(two.data.task, features["sar"].prediction, teacher[index[batch.rows["sar"]]]).backward()
    layers = layer_quantizers(model.students["sar"], batch.inputs["sar"][:1])
    assert all(_moves(model.students["sar"].get_submodule(layer).weight) for layer in layers)


@pytest.mark.parametrize(
    ("kind", "classes"), [("multiclass", ("a", "b", "c")), ("multilabel", ("a", "b", "c")), ("regression", ())]
)
def test_distillation_is_smallest_at_the_teacher(kind, classes) -> None:
    task = Task(kind, classes=classes)
    teacher = torch.randn(50, task.n_outputs)
    student = teacher.clone().requires_grad_()
    here = distillation(task, student, teacher)
    here.backward()
    assert student.grad.abs().max() < 1e-6
    assert distillation(task, teacher + 0.5 * torch.randn_like(teacher), teacher) > here


def test_the_distance_of_features_is_relative_and_0_at_the_float_student(two, model, batch) -> None:
    index = torch.from_numpy(two.split.train[:64])[batch.rows["sar"]]
    in_float = compression.student_outputs(two.trained.model, two.samples, with_features=True)["sar"]
    with torch.no_grad():
        same = two.trained.model.students["sar"](two.samples.inputs["sar"][index])
    assert feature_distance(same, in_float, index) < 1e-10
    nothing = dataclasses.replace(same, specific=0 * same.specific, shared=0 * same.shared)
    assert feature_distance(nothing, in_float, index) == pytest.approx(1)
    found = model(batch.inputs)["sar"]
    assert 0 < feature_distance(found, in_float, index) < 0.1


def test_only_the_objectives_that_were_asked_for_act(two, tmp_path) -> None:
    recipe = again(two.recipe, epochs=1, objectives=("main", "con"), distil=0.0, features=0.5)
    (record,) = compress(two.data, two.trained, recipe, tmp_path / "some").facts["history"]
    assert set(record["train"]) == {"main", "con", "features", "total"}
    parts = record["train"]
    assert parts["total"] == pytest.approx(parts["main"] + parts["con"] + 0.5 * parts["features"], rel=1e-4)


def test_each_epoch_says_how_far_the_ranges_moved(two) -> None:
    (record,) = two.compressed.facts["history"]
    for name in ("optical", "sar"):
        moved = record["ranges"][name]
        assert 0 < moved["mean"] < moved["largest"] < 0.5
        layer, _, which = moved["layer"].rpartition(".")
        assert layer in two.compressed.ranges[name]
        assert which in ("input", "weight")


def test_the_movement_of_ranges_is_relative_to_their_start(two, model, batch) -> None:
    movement = Movement(model.students, {name: x[:1] for name, x in batch.inputs.items()})
    assert all(moved["largest"] == 0 for moved in movement()["ranges"].values())
    with torch.no_grad():
        layer_quantizers(model.students["sar"], batch.inputs["sar"][:1])["shared.dense"].weight.scale.mul_(1.25)
    moved = movement()["ranges"]
    assert moved["optical"]["largest"] == 0
    assert moved["sar"]["layer"] == "shared.dense.weight"
    assert moved["sar"]["largest"] == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "cost", "trained", "epochs"),
    [
        ({}, {"optical": 0.9 * COST, "sar": -0.1}, 100, 0),
        ({}, {"optical": 0.9 * COST, "sar": 1.1 * COST}, 12, 1),
        ({}, {"optical": 0.9 * COST, "sar": 1.1 * COST}, 40, 5),
        ({"sparsity": "2:4"}, {"optical": 0.0}, 16, 2),
        ({"sparsity": "2:4"}, {"optical": 0.0}, 3, 1),
        ({"epochs": 7}, {"optical": 0.0}, 12, 7),
        ({"epochs": 0}, {"optical": 1.0}, 12, 0),
    ],
)
def test_students_are_fine_tuned_where_calibration_alone_costs_too_much(settings, cost, trained, epochs) -> None:
    tuning = FineTuning(None, None, Task("regression"), Compression(**settings), None, {})
    assert tuning.epochs(cost, trained) == epochs


def test_the_cost_of_calibration_is_the_relative_rise_of_the_validation_loss() -> None:
    """By hand: squared errors of FP32 are 1 and 4, of INT8 1 and 9; the third sample lacks the sensor."""

    class Rounded(torch.nn.Module):
        def forward(self, inputs):
            return {name: Features(x + torch.tensor([[0.0], [1.0]]), x, x, x) for name, x in inputs.items()}

    inputs = torch.tensor([[1.0], [2.0], [9.0], [9.0]])
    samples = Samples(
        {"sar": inputs},
        {"sar": torch.tensor([True, True, False, True])},
        torch.tensor([0.0, 0.0, 0.0, 5.0]),
        {},
        (0, 1),
    )
    tuning = FineTuning(Rounded(), samples, Task("regression"), Compression(), None, {"sar": Features(*[inputs] * 4)})
    assert tuning.cost(Loss(Task("regression")), torch.tensor([0, 1, 2])) == {"sar": pytest.approx(1.0)}


def test_heads_and_discriminators_carry_no_quantizer(two, live) -> None:
    assert all(name.startswith("students.") for name in quantizers(two.live))
    for part in (two.live.heads, two.live.unused):
        assert not any("nncf" in type(module).__module__ for module in part.modules())
    layers = layer_quantizers(live, two.samples.inputs["optical"][:1])
    assert not {name for name in layers if name.startswith(("head", "to_specific"))}
    assert (
        len({id(module) for module in quantizers(live).values()}) == 2 * len(layers) - 1
    )  # one is shared by two layers


def test_the_features_are_those_of_the_unfolded_model_but_for_rounding(two) -> None:
    for name, x in two.samples.inputs.items():
        with torch.no_grad():
            expected, found = two.trained.model.students[name](x), two.live({name: x})[name]
        for part in ("prediction", "specific", "unused", "shared"):
            wanted, got = getattr(expected, part), getattr(found, part)
            assert (got - wanted).std() < 0.1 * wanted.std(), (name, part)


def test_compression_leaves_the_trained_model_as_it_was(case) -> None:
    stored = load_trained(case.trained.folder).model.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in case.trained.model.state_dict().items())


def test_the_start_competes_when_fine_tuning_makes_it_worse(two, tmp_path) -> None:
    spoilt = compress(two.data, two.trained, again(two.recipe, epochs=1, lr=0.3), tmp_path / "spoilt")
    untouched = compress(two.data, two.trained, again(two.recipe, epochs=0), tmp_path / "untouched")
    assert spoilt.ranges == untouched.ranges
    for name, branch in two.trained.model.students.items():
        start = FoldedStudent(branch).state_dict()
        assert all(torch.equal(value, start[key]) for key, value in spoilt.students[name].state_dict().items())


def test_fine_tuning_moves_weights_and_ranges(two, tmp_path) -> None:
    untouched = compress(two.data, two.trained, again(two.recipe, epochs=0), tmp_path)
    tuned = two.compressed
    assert tuned.facts["history"][-1]["epoch"] == 1
    for name, student in tuned.students.items():
        start = untouched.students[name].state_dict()
        same = [key for key, value in student.state_dict().items() if torch.equal(value, start[key])]
        assert not same
        assert all(tuned.ranges[name][layer] != limits for layer, limits in untouched.ranges[name].items())


def test_an_interrupted_run_ends_with_the_same_numbers(two, tmp_path, monkeypatch) -> None:
    recipe = again(two.recipe, epochs=2, lr=1e-3)
    whole = compress(two.data, two.trained, recipe, tmp_path / "whole")
    from edge.train import loop

    save = loop.checkpoint.save_progress

    def interrupted(*given) -> None:
        save(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.checkpoint, "save_progress", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compress(two.data, two.trained, recipe, tmp_path / "parts")
    assert not (tmp_path / "parts" / compression.FACTS).exists()
    parts = compress(two.data, two.trained, recipe, tmp_path / "parts")
    assert [record["epoch"] for record in parts.facts["history"]] == [1, 2]
    assert parts.ranges == whole.ranges
    for name, student in parts.students.items():
        wanted = whole.students[name].state_dict()
        assert all(torch.equal(value, wanted[key]) for key, value in student.state_dict().items())


def test_what_is_there_is_loaded_and_not_made_again(two, monkeypatch) -> None:
    monkeypatch.setattr(compression, "fit", lambda *_, **__: pytest.fail("it was fine-tuned again"))
    loaded = compress(two.data, two.trained, two.recipe, two.compressed.folder)
    assert loaded.ranges == two.compressed.ranges


def test_another_recipe_is_compressed_anew(two, tmp_path) -> None:
    folder = shutil.copytree(two.compressed.folder, tmp_path / "copy")
    changed = compress(two.data, two.trained, again(two.recipe, epochs=0), folder)
    assert changed.facts["history"] == []


def test_the_references_are_the_live_predictions_on_the_test_samples(case) -> None:
    for name, x in case.samples.inputs.items():
        student, ranges = case.live.students[name], case.compressed.ranges[name]
        for target in PLACEMENTS:
            with torch.no_grad(), compression.as_on(student, x[:1], ranges, target):
                live = student(x[case.split.test])[0]
            expected = to_units(case.data.task, live, case.trained.target_scaling)
            torch.testing.assert_close(case.compressed.references[target][name], expected, rtol=1e-5, atol=1e-5)


def test_the_tensorrt_reference_leaves_narrow_layers_in_float(two) -> None:
    layers = two.compressed.ranges["sar"]  # 2 bands -> 16 channels; 32 -> 8 shared features
    left = compression.not_quantized(two.compressed.students["sar"], layers, "tensorrt")
    assert left == {"specific.conv1", "shared.conv1", "to_shared.project"}
    assert compression.not_quantized(two.compressed.students["sar"], layers, "cpu") == set()
    reference = two.compressed.references
    assert not torch.equal(reference["tensorrt"]["sar"], reference["cpu"]["sar"])


def test_calibration_sees_training_samples_only(two, tmp_path) -> None:
    poisoned = {name: np.array(array) for name, array in two.data.arrays.items()}
    for array in poisoned.values():
        array[np.concatenate([two.split.validation, two.split.test])] *= 1e6
    recipe = again(two.recipe, epochs=0)
    clean = compress(two.data, two.trained, recipe, tmp_path / "clean")
    found = compress(dataclasses.replace(two.data, arrays=poisoned), two.trained, recipe, tmp_path / "poisoned")
    assert found.ranges == clean.ranges


def test_calibration_takes_so_many_samples_that_have_the_modality(two) -> None:
    train = torch.from_numpy(two.split.train)
    few = compression.calibration_samples(two.data, two.samples, train, again(two.recipe, calibration=100))
    for name, index in few.items():
        assert len(index) == 100
        assert two.samples.present[name][index].all()
        assert torch.isin(index, train).all()
    everything = compression.calibration_samples(two.data, two.samples, train, again(two.recipe, calibration=10**6))
    assert len(everything["optical"]) == int(two.samples.present["optical"][train].sum())


def test_the_calibration_samples_are_described(two) -> None:
    about = two.compressed.facts["students"]["optical"]["calibration"]
    train = two.split.train[two.data.present("optical")[two.split.train]]
    assert about["samples"] == len(train) == sum(about["classes"])  # there are fewer than 512
    assert about["groups"] == len(np.unique(two.data.groups[train]))
    values = np.asarray(two.data.arrays["optical"][train])[:, :, 3]
    band = about["bands"][two.data.modalities["optical"].bands[3].name]
    assert band["min"] == np.nanmin(values)
    assert band["max"] == np.nanmax(values)
    assert band["mean"] == pytest.approx(np.nanmean(values, dtype=np.float64), rel=1e-6)
    assert band["missing"] == pytest.approx(np.isnan(values).mean(), abs=1e-4)


def test_a_set_with_dates_is_calibrated_with_samples_of_every_season(two, tmp_path) -> None:
    months = np.where(np.arange(len(two.data)) % 10, 7, np.arange(len(two.data)) // 10 % 12 + 1)  # a tenth is not July
    date = np.array([f"2019-{month:02d}-15" for month in months], "datetime64[D]")
    data, recipe = dataclasses.replace(two.data, date=date), again(two.recipe, epochs=0, calibration=60)
    about = compress(data, two.trained, recipe, tmp_path / "dated").facts["students"]["optical"]["calibration"]
    train = torch.from_numpy(two.split.train)
    chosen = compression.calibration_samples(data, two.samples, train, recipe)["optical"].numpy()
    assert about["seasons"] == season_counts(date[chosen])
    plain = compression.calibration_samples(two.data, two.samples, train, recipe)["optical"].numpy()
    assert about["seasons"]["JJA"] < season_counts(date[plain])["JJA"] - 10
    assert two.compressed.facts["students"]["optical"]["calibration"]["seasons"] is None


def test_a_model_of_one_modality_is_refused(two, tmp_path) -> None:
    alone = dataclasses.replace(two.trained, recipe=dataclasses.replace(two.recipe, method="single"))
    with pytest.raises(InputError, match="'single' has no co-learned students"):
        compress(two.data, alone, two.recipe, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_compression_of_another_model_is_refused(two, tmp_path) -> None:
    folder = shutil.copytree(two.compressed.folder, tmp_path / "copy")
    facts = json.loads((folder / compression.FACTS).read_text())
    (folder / compression.FACTS).write_text(json.dumps(facts | {"trained": "another"}))
    with pytest.raises(InputError, match="compress again with --force"):
        load_compressed(folder, two.trained)


def test_a_folder_that_holds_something_else_is_left_alone(two, tmp_path) -> None:
    (tmp_path / "letter.txt").write_text("dear all")
    with pytest.raises(InputError, match="holds something else"):
        compress(two.data, two.trained, two.recipe, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def _moves(parameter: torch.Tensor) -> bool:
    return parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
