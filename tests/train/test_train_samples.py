import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from edge.errors import InputError
from edge.recipe import Model, Recipe, Training
from edge.train import samples as module
from edge.train.samples import Streamed, batches, load_samples, usable
from edge.train.scaling import fit_scaling
from edge.train.splits import split_indices
from edge.train.training import train

NAMES = ("optical", "sar")


@pytest.fixture
def both(small_paired, monkeypatch):
    """The same set in memory and streamed."""
    split = split_indices(small_paired)
    kept = load_samples(small_paired, NAMES, split)
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    return kept, load_samples(small_paired, NAMES, split), split


def test_a_set_is_kept_in_memory_up_to_the_bound_and_streamed_beyond(small_paired, monkeypatch):
    split, size = split_indices(small_paired), sum(small_paired.arrays[name].nbytes for name in NAMES)
    for bound, kind in ((size, torch.Tensor), (size - 1, Streamed)):
        monkeypatch.setattr(module, "IN_MEMORY", bound)
        assert all(isinstance(values, kind) for values in load_samples(small_paired, NAMES, split).inputs.values())


def test_streamed_batches_are_those_in_memory_to_the_last_bit(both):
    kept, streamed, split = both
    for index in batches(torch.from_numpy(split.train), 32, torch.Generator().manual_seed(1)):
        expected, found = kept.batch(index), streamed.batch(index)
        assert torch.equal(found.target, expected.target)
        for name in NAMES:
            assert torch.equal(found.inputs[name], expected.inputs[name])
            assert torch.equal(found.rows[name], expected.rows[name])
            assert not found.inputs[name].isnan().any()


@pytest.mark.parametrize("part", ["all", "test"])
def test_pieces_are_the_samples_in_order(both, part):
    index = None if part == "all" else torch.from_numpy(both[2].test)
    for samples in both[:2]:
        pieces = list(samples.pieces("optical", index, size=50))
        assert [len(piece) for piece in pieces[:-1]] == [50] * (len(pieces) - 1)
        values = both[0].inputs["optical"]
        assert torch.equal(torch.cat(pieces), values if index is None else values[index])


def test_training_from_disk_gives_the_weights_of_training_in_memory(small_paired, tmp_path, monkeypatch):
    recipe = Recipe(model=Model(width=8, hidden=16, embedding=8), training=Training(epochs=2, batch=32))
    kept = train(small_paired, recipe, tmp_path / "kept")
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    streamed = train(small_paired, recipe, tmp_path / "streamed")
    for name, value in kept.model.state_dict().items():
        assert torch.equal(streamed.model.state_dict()[name], value)
    assert streamed.facts["validation"] == kept.facts["validation"]


def test_statistics_joined_from_blocks_are_those_of_all_values_at_once(monkeypatch):
    from edge.sensors import Band, Modality
    from edge.train import paired

    modality = Modality("optical", (Band("a"), Band("b"), Band("c")), ("time", "band"), (4, 3))
    rng = np.random.default_rng(0)
    values = (1e6 + rng.normal(size=(100, 4, 3)) * [1, 5, 1]).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:40, :, 2] = np.nan  # a band that the first blocks lack
    index = np.arange(100)[::3]
    monkeypatch.setattr(paired, "_BLOCK", 60)  # 5 samples
    scaling = fit_scaling(modality, values, index)
    exact = values[index].astype(np.float64)
    np.testing.assert_allclose(scaling.mean.ravel(), np.nanmean(exact, axis=(0, 1)), rtol=1e-7)
    np.testing.assert_allclose(scaling.std.ravel(), np.nanstd(exact, axis=(0, 1)), rtol=1e-6)


def test_a_modality_that_too_few_samples_have_is_named(both):
    kept, _, split = both
    kept.present["sar"][torch.from_numpy(split.validation)[1:]] = False
    with pytest.raises(InputError, match=r"modality 'sar': . of 36 samples of the validation part have it"):
        usable(kept, split)


def test_a_shuffled_epoch_holds_every_sample_once_and_leaves_out_a_lone_last_one():
    pieces = list(batches(torch.arange(10, 31), 5, torch.Generator().manual_seed(0)))
    assert [len(piece) for piece in pieces] == [5, 5, 5, 5]
    assert len(torch.cat(pieces).unique()) == 20


@pytest.mark.slow
def test_a_set_of_four_gigabytes_trains_within_one_gigabyte_of_memory(tmp_path):
    """Sparse files: no disk is used, but every page is mapped, which is what would count as resident memory."""
    run = subprocess.run(
        [sys.executable, "-m", "edge.benchmarks.streaming", "--gigabytes", "4", "--folder", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    facts = json.loads(run.stdout.splitlines()[-1])
    assert facts["bytes"] > 3.9e9
    assert facts["peak_rss_mb"] < 1024
    assert facts["samples_per_s"] > 0
