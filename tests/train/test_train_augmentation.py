"""Images are turned and mirrored in training alone, against numpy's rot90 and flip."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edge.recipe import Recipe, Training
from edge.train.augmentation import turned
from edge.train.methods.method import Setting
from edge.train.samples import Batch

N = 400
INDEX = torch.arange(N).flip(0) + 7


def batch(**inputs: torch.Tensor) -> Batch:
    rows = {name: torch.arange(N) if len(x) == N else torch.arange(1, N, 2) for name, x in inputs.items()}
    return Batch(inputs, rows, torch.zeros(N))


def pictures(shape: tuple[int, ...], n: int = N) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32))


def ways(x: np.ndarray) -> list[np.ndarray]:
    """(B, H, W) in the eight ways, four of which need a square."""
    upright = [x, x[:, ::-1], x[:, :, ::-1], x[:, ::-1, ::-1]]
    if x.shape[1] != x.shape[2]:
        return upright
    return (
        upright + [np.rot90(x, k, axes=(1, 2)) for k in (1, 3)] + [np.rot90(x[:, ::-1], k, axes=(1, 2)) for k in (1, 3)]
    )


def way_of(shown: torch.Tensor, original: torch.Tensor) -> int:
    found = [k for k, way in enumerate(ways(original.numpy())) if np.array_equal(shown.numpy(), way)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(("shape", "count"), [((3, 6, 6), 8), ((2, 5, 7), 4)])
def test_each_sample_is_shown_in_one_of_the_ways_and_all_occur_alike(shape, count):
    x = pictures(shape)
    shown = turned(batch(rgb=x), INDEX, seed=0)["rgb"]
    counts = np.bincount([way_of(a, b) for a, b in zip(shown, x, strict=True)], minlength=count)
    assert len(counts) == count
    assert counts.min() > 0.6 * N / count


def test_all_images_of_a_sample_are_shown_the_same_way_also_where_some_lack_one():
    x, half = pictures((3, 4, 4)), pictures((1, 9, 9), N // 2)
    both = batch(rgb=x, lidar=half)
    shown = turned(both, INDEX, seed=0)
    rgb = [way_of(a, b) for a, b in zip(shown["rgb"], x, strict=True)]
    lidar = [way_of(a, b) for a, b in zip(shown["lidar"], half, strict=True)]
    assert lidar == [rgb[row] for row in both.rows["lidar"]]


def test_series_and_vectors_stay_as_they_are():
    inputs = {"optical": pictures((4, 8)), "soil": pictures((3,)), "rgb": pictures((3, 4, 4))}
    shown = turned(batch(**inputs), INDEX, seed=0)
    assert shown["optical"] is inputs["optical"]
    assert shown["soil"] is inputs["soil"]
    assert list(shown) == list(inputs)


def test_the_same_batch_is_shown_the_same_way_another_batch_or_seed_otherwise():
    data = batch(rgb=pictures((3, 4, 4)))
    first = turned(data, INDEX, seed=0)["rgb"]
    torch.rand(5)  # what else is drawn, such as dropout, does not count
    assert torch.equal(turned(data, INDEX, seed=0)["rgb"], first)
    assert not torch.equal(turned(data, INDEX, seed=1)["rgb"], first)
    assert not torch.equal(turned(data, INDEX.flip(0), seed=0)["rgb"], first)


@pytest.mark.parametrize(
    ("training", "augment", "expected"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_images_are_turned_in_training_alone_and_where_the_recipe_wants_it(training, augment, expected):
    x = pictures((3, 4, 4))
    samples = SimpleNamespace(batch=lambda index: batch(rgb=x))
    recipe = Recipe(training=dataclasses.replace(Training(), augment=augment))
    setting = Setting(None, recipe, None, samples, None, None, False)
    shown = setting.batch(torch.nn.Linear(1, 1).train(training), INDEX).inputs["rgb"]
    assert torch.equal(shown, x) != expected
