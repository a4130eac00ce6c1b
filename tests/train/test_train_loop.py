import math

import pytest
import torch
from torch import nn

from edge.errors import InputError
from edge.train import checkpoint, loop
from edge.train.loop import Schedule, evaluate, fit, lay_out
from edge.train.samples import batches

TRAIN, VALIDATION = torch.arange(8), torch.arange(8, 12)


class Scripted:
    """A model of one weight that falls by lr in every step, and the validation losses that the test wants."""

    def __init__(self, validation):
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.validation = list(validation)

    def losses(self, index):
        if self.model.training:
            return {"total": self.model.weight.sum()}
        return {"total": torch.tensor(self.validation.pop(0))}

    def fit(self, tmp_path, **schedule):
        settings = Schedule(**{"epochs": 10, "batch": 8, "lr": 0.5, **schedule})
        return run(self.model, self.losses, tmp_path / "state", settings)


class Noisy:
    """Data, and a model with dropout and batch normalisation: everything that a resumed run could get wrong."""

    def __init__(self, stop_at=None, spoil_at=None, seed=0):
        torch.manual_seed(seed)
        layers = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1)
        self.model = nn.Sequential(*layers)
        data = torch.Generator().manual_seed(1)
        self.x, self.y = torch.randn(12, 3, generator=data), torch.randn(12, generator=data)
        self.batches, self.stop_at, self.spoil_at = 0, stop_at, spoil_at

    def losses(self, index):
        self.batches += self.model.training
        if self.batches == self.stop_at:
            raise KeyboardInterrupt
        main = ((self.model(self.x[index])[:, 0] - self.y[index]) ** 2).mean()
        if self.batches == self.spoil_at:
            main = main * math.nan
        return {"main": main, "other": torch.ones(()), "total": main + 1}


def run(model, losses, state, schedule, *, seed=0, fingerprint="a", resume=True):
    parts = TRAIN, VALIDATION
    return fit(
        model, losses, parts, schedule, seed=seed, state=state, fingerprint=fingerprint, label="test", resume=resume
    )


def without_clocks(history):
    return [
        {key: value for key, value in record.items() if key not in ("seconds", "samples_per_s")} for record in history
    ]


def assert_same_weights(a, b):
    for (name, one), (other_name, other) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert name == other_name
        assert torch.equal(one, other), name


def test_training_stops_when_the_loss_has_not_improved_by_min_delta_for_patience_epochs(tmp_path):
    # 0.95 is lower than 1.0, but by less than 0.1; 0.80 improves; then three epochs pass without 0.70 or less.
    stub = Scripted([1.0, 0.95, 0.80, 0.79, 0.78, 0.75, 0.1])
    history = stub.fit(tmp_path, patience=3, min_delta=0.1)
    assert [record["validation"]["total"] for record in history] == pytest.approx([1.0, 0.95, 0.80, 0.79, 0.78, 0.75])


def test_small_steps_downwards_add_up_to_an_improvement(tmp_path):
    stub = Scripted([1.0, 0.94, 0.88, 0.82, 0.76, 0.9, 0.9])
    assert len(stub.fit(tmp_path, patience=2, min_delta=0.1)) == 7  # 0.88 and 0.76 count against 1.0 and 0.88


def test_without_patience_all_epochs_are_trained(tmp_path):
    assert len(Scripted([1.0] * 10).fit(tmp_path)) == 10


def test_the_best_weights_are_restored_even_if_they_won_by_less_than_min_delta(tmp_path):
    stub = Scripted([1.0, 0.95, 2.0, 3.0])
    stub.fit(tmp_path, epochs=4, patience=4, min_delta=0.1)
    assert stub.model.weight.item() == pytest.approx(-1.0)  # Adam's first steps are lr long: -0.5 an epoch
    assert not stub.model.training


def test_the_start_competes_if_asked_for(tmp_path):
    stub = Scripted([0.5, 1.0, 1.0])
    stub.fit(tmp_path, epochs=2, keep_start=True)
    assert stub.model.weight.item() == 0.0


def test_with_decay_the_last_weights_are_the_result_and_no_validation_loss_chooses(tmp_path):
    lowest_first = Scripted([1, 5, 9])
    lowest_first.fit(tmp_path, epochs=3, decay=True)
    # along a constant gradient a step of Adam is as long as the learning rate, which falls from 0.5 along a cosine
    expected = -sum(0.25 * (1 + math.cos(math.pi * epoch / 3)) for epoch in range(3))
    assert lowest_first.model.weight.item() == pytest.approx(expected, rel=1e-4)


def test_the_learning_rate_falls_as_torchs_cosine():
    weight = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=10)
    schedule = Schedule(epochs=10, batch=8, lr=0.3, decay=True)
    for epoch in range(10):
        assert schedule.rate(epoch) == pytest.approx(cosine.get_last_lr()[0])
        optimiser.step()
        cosine.step()


def test_records_hold_the_mean_over_samples_of_each_part(tmp_path):
    noisy = Noisy()
    (record,) = run(noisy.model, noisy.losses, tmp_path / "state", Schedule(1, 5, 1e-9))
    assert record["epoch"] == 1
    assert record["train"]["other"] == pytest.approx(1.0)
    assert record["train"]["total"] == pytest.approx(record["train"]["main"] + 1)
    with torch.no_grad():
        expected = ((noisy.model(noisy.x[8:])[:, 0] - noisy.y[8:]) ** 2).mean()
    assert record["validation"]["main"] == pytest.approx(float(expected), rel=1e-5)
    assert record["samples_per_s"] > 0


def test_evaluation_weighs_batches_by_their_size():
    stub = Scripted([1.0, 4.0])
    assert evaluate(stub.model, stub.losses, torch.arange(5), 3)["total"] == pytest.approx((3 * 1.0 + 2 * 4.0) / 5)


@pytest.mark.parametrize("decay", [False, True])
@pytest.mark.parametrize("stop_at", [1, 2, 5, 8], ids=["first batch", "first epoch", "epoch 3", "last batch"])
def test_an_interrupted_run_continues_to_the_same_bits(tmp_path, stop_at, decay):
    schedule = Schedule(4, 4, 0.05, decay=decay, patience=None if decay else 4)
    whole = Noisy()
    expected = run(whole.model, whole.losses, tmp_path / "whole", schedule)
    broken = Noisy(stop_at=stop_at)
    with pytest.raises(KeyboardInterrupt):
        run(broken.model, broken.losses, tmp_path / "state", schedule)
    resumed = Noisy()
    history = run(resumed.model, resumed.losses, tmp_path / "state", schedule)
    assert resumed.batches == 8 - 2 * ((stop_at - 1) // 2)  # epochs that were done are not done again
    assert without_clocks(history) == without_clocks(expected)
    assert_same_weights(resumed.model, whole.model)


class Images(Noisy):
    """Convolutions, whose weights and moments stand in another order of memory while they are trained."""

    def __init__(self, stop_at=None):
        super().__init__(stop_at)
        self.model = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.Flatten(), nn.Linear(16, 1)
        )
        self.x = torch.randn(12, 2, 5, 5, generator=torch.Generator().manual_seed(1))


def test_an_interrupted_run_of_images_continues_to_the_same_bits(tmp_path):
    torch.manual_seed(3)
    whole = Images()
    start = whole.model.state_dict()
    start = {name: value.clone() for name, value in start.items()}
    expected = run(whole.model, whole.losses, tmp_path / "whole", Schedule(4, 4, 0.01))
    stopped, resumed = Images(stop_at=6), Images()
    stopped.model.load_state_dict(start)
    with pytest.raises(KeyboardInterrupt):
        run(stopped.model, stopped.losses, tmp_path / "state", Schedule(4, 4, 0.01))
    found = run(resumed.model, resumed.losses, tmp_path / "state", Schedule(4, 4, 0.01))
    assert [one["train"] for one in found] == [one["train"] for one in expected]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
        assert value.is_contiguous()


@pytest.mark.parametrize("bands", [1, 3])
def test_images_are_trained_with_the_channels_last_to_the_same_losses(tmp_path, monkeypatch, bands):
    strides, found = [], []
    for rearrange in (lay_out, lambda model, order: None):
        monkeypatch.setattr(loop, "lay_out", rearrange)
        images = Images()
        torch.manual_seed(0)
        images.x = images.x[:, :1].repeat(1, bands, 1, 1)
        images.model[0] = nn.Conv2d(bands, 4, 3)
        hook = images.model[0].register_forward_hook(lambda module, inputs, output: strides.append(output.stride(1)))
        history = run(images.model, images.losses, tmp_path / str(len(found)), Schedule(2, 4, 0.01))
        hook.remove()
        found.append([one["train"]["main"] for one in history])
    assert strides[0] == 1  # channels last, also where one band leaves the order of the weights open
    assert strides[-1] == 9
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_patience_is_remembered_across_an_interruption(tmp_path):
    losses = [1.0, 0.94, 0.93, 0.92, 0.91]  # patience 3 ends after 0.92
    with pytest.raises(IndexError):
        Scripted(losses[:2]).fit(tmp_path, patience=3, min_delta=0.1)
    stub = Scripted(losses[2:])
    assert len(stub.fit(tmp_path, patience=3, min_delta=0.1)) == 4
    assert stub.model.weight.item() == pytest.approx(-2.0, rel=1e-3)


def test_a_finished_state_is_not_trained_further(tmp_path):
    first, again = Noisy(), Noisy(stop_at=1)
    for noisy in (first, again):
        run(noisy.model, noisy.losses, tmp_path / "state", Schedule(2, 4, 0.05))
    assert_same_weights(first.model, again.model)


@pytest.mark.parametrize("change", [{"fingerprint": "b"}, {"resume": False}], ids=["other fingerprint", "no resume"])
def test_a_state_that_does_not_fit_or_is_not_wanted_is_ignored(tmp_path, change):
    schedule, fresh = Schedule(2, 4, 0.05), Noisy()
    expected = run(fresh.model, fresh.losses, tmp_path / "fresh", schedule)
    other = Noisy(seed=9)
    run(other.model, other.losses, tmp_path / "state", schedule)
    again = Noisy()
    assert without_clocks(run(again.model, again.losses, tmp_path / "state", schedule, **change)) == without_clocks(
        expected
    )
    assert_same_weights(again.model, fresh.model)


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(tmp_path):
    histories = []
    for number, seed in enumerate([3, 3, 4]):
        noisy = Noisy()
        histories.append(run(noisy.model, noisy.losses, tmp_path / str(number), Schedule(2, 4, 0.05), seed=seed))
    assert without_clocks(histories[0]) == without_clocks(histories[1])
    assert without_clocks(histories[0]) != without_clocks(histories[2])


def test_a_diverging_loss_names_epoch_batch_and_loss_and_keeps_the_last_good_state(tmp_path):
    good = Noisy()
    history = run(good.model, good.losses, tmp_path / "good", Schedule(1, 4, 0.05))
    spoilt = Noisy(spoil_at=4)
    with pytest.raises(InputError, match=r"diverged in epoch 2, batch 2: main = nan, total = nan\. Lower training\.lr"):
        run(spoilt.model, spoilt.losses, tmp_path / "state", Schedule(3, 4, 0.05))
    tensors, facts = checkpoint.load(tmp_path / "state")
    assert without_clocks(facts["history"]) == without_clocks(history)
    for name, value in good.model.state_dict().items():
        assert torch.equal(tensors[f"model.{name}"], value)
    assert all(value.isfinite().all() for value in tensors.values())


def test_a_validation_loss_that_is_not_finite_stops_too(tmp_path):
    with pytest.raises(InputError, match="diverged in validation after epoch 2: total = inf"):
        Scripted([1.0, math.inf]).fit(tmp_path)
    assert len(checkpoint.load(tmp_path / "state")[1]["history"]) == 1


def test_batches_are_shuffled_by_the_generator_and_a_lone_sample_is_left_out():
    index = torch.arange(20, 29)
    assert [piece.tolist() for piece in batches(index, 4)] == [[20, 21, 22, 23], [24, 25, 26, 27]]
    shuffled = torch.cat(list(batches(index, 3, torch.Generator().manual_seed(0))))
    assert shuffled.tolist() != index.tolist()
    assert sorted(shuffled.tolist()) == index.tolist()
