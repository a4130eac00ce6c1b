"""Training on a GPU. Where none is, torch's "meta" device stands for it: it computes shapes alone, and like a GPU it
refuses a tensor that was left on the CPU (matrix products do not; everything that meets in a loss does).
"""

import dataclasses

import pytest
import torch

from edge.errors import BackendMissing, InputError
from edge.recipe import Model, Recipe, Training
from edge.train.distributed import compute_device
from edge.train.methods import TRAINABLE_BY_NAME
from edge.train.methods.full import FullStudents, student_outputs
from edge.train.methods.method import Setting
from edge.train.objectives import Loss, class_weights
from edge.train.samples import load_samples
from edge.train.sources.simulated import simulate
from edge.train.training import split_of, train_network

SMALL = Recipe(
    model=Model(width=8, hidden=16, embedding=8, dropout=0.0), training=Training(epochs=2, batch=32), protocol="grouped"
)
META = torch.device("meta")


@pytest.fixture(params=["classification", "regression"])
def data(request, tmp_path):
    return simulate(tmp_path / "set", task=request.param, n=200, seed=1)


def setting_of(data, recipe, folder):
    split = split_of(data, recipe)
    samples = load_samples(data, tuple(data.modalities), split)
    loss = Loss(data.task, class_weights(data.task, samples.target[split.train]))
    return Setting(data, recipe, split, samples, loss, folder / recipe.method, resume=True)


def total_on(device, network, losses, index):
    """The total of a batch whose network is on `device`, differentiated."""
    network.to(device)
    parts = losses(index)
    assert {part.device for part in parts.values()} == {device}
    parts["total"].backward()
    assert {weight.grad.device for weight in network.parameters() if weight.grad is not None} == {device}


@pytest.mark.parametrize("method", TRAINABLE_BY_NAME)
def test_nothing_that_a_step_computes_with_stays_on_the_cpu(data, tmp_path, method):
    recipe = dataclasses.replace(SMALL, method=method)
    setting = setting_of(data, recipe, tmp_path)
    network = TRAINABLE_BY_NAME[method].build(list(data.modalities.values()), data.task, recipe)
    losses = TRAINABLE_BY_NAME[method].losses(network, setting)
    total_on(META, network, losses, torch.from_numpy(setting.split.train[:16]))


def test_neither_does_what_narrower_students_learn_from(data, tmp_path):
    setting = setting_of(data, SMALL, tmp_path)
    make = TRAINABLE_BY_NAME["mdico"]
    full, narrow = (make.build(list(data.modalities.values()), data.task, SMALL) for _ in range(2))
    teachers = FullStudents(data.task, student_outputs(full, setting.samples))
    losses = make.losses(narrow, dataclasses.replace(setting, full=teachers))
    total_on(META, narrow, losses, torch.from_numpy(setting.split.train[:16]))


def test_what_the_stand_in_is_for_is_noticed():
    with pytest.raises(RuntimeError, match="device"):
        torch.nn.functional.mse_loss(torch.zeros(2, device=META), torch.zeros(2))


def test_the_cpu_is_the_default():
    assert compute_device(Recipe().training.device) == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_way_out_is_named(data, tmp_path):
    recipe = dataclasses.replace(SMALL, training=dataclasses.replace(SMALL.training, device="cuda"))
    with pytest.raises(BackendMissing, match=r"training\.device is 'cuda', but torch .* finds no NVIDIA GPU; leave"):
        train_network(data, recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_device_names_the_known_ones():
    with pytest.raises(InputError, match=r"training\.device is 'tpu'; use one of cpu, cuda"):
        Recipe(training=Training(device="tpu")).check()


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["taught", "mdico", "concat", "discom-kd"])
def test_a_gpu_trains_to_the_losses_of_the_cpu(data, tmp_path, method):
    found = {}
    for device in ("cpu", "cuda"):
        training = dataclasses.replace(SMALL.training, device=device)
        recipe = dataclasses.replace(SMALL, method=method, training=training)
        fitted = train_network(data, recipe, tmp_path / device / method)
        assert {parameter.device.type for parameter in fitted.model.parameters()} == {"cpu"}
        found[device] = [record[part] for record in fitted.facts["history"] for part in ("train", "validation")]
    for here, there in zip(found["cpu"], found["cuda"], strict=True):
        assert there == pytest.approx(here, rel=0.01)
