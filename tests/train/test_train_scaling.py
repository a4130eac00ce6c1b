import numpy as np
import pytest

from edge.sensors import Band, Modality
from edge.train.samples import load_samples
from edge.train.scaling import fit_scaling, fit_target_scaling
from edge.train.splits import split_indices

SERIES = Modality("optical", (Band("red"), Band("nir")), ("time", "band"), (3, 2))
VECTOR = Modality("soil", (Band("clay"), Band("sand")), ("band",), (2,))
IMAGE = Modality("photo", (Band("red"), Band("nir")), ("band", "y", "x"), (2, 4, 5))


@pytest.mark.parametrize("modality", [SERIES, VECTOR, IMAGE], ids=lambda modality: modality.kind)
def test_each_band_gets_mean_zero_and_deviation_one(modality):
    rng = np.random.default_rng(0)
    axis = modality.band_axis + 1
    offset = np.array([1e4, -3.0]).reshape([2 if i == axis else 1 for i in range(1 + len(modality.shape))])
    values = (rng.normal(size=(50, *modality.shape)) * 7 + offset).astype(np.float32)
    scaled = fit_scaling(modality, values).apply(values)
    others = tuple(i for i in range(values.ndim) if i != axis)
    np.testing.assert_allclose(scaled.mean(axis=others), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(axis=others), 1, atol=1e-3)


def test_missing_values_do_not_count_and_become_the_mean():
    values = np.array([[1.0, 10.0], [3.0, np.nan], [np.nan, 30.0]], dtype=np.float32)
    scaling = fit_scaling(VECTOR, values)
    np.testing.assert_allclose(scaling.mean, [2, 20])
    np.testing.assert_allclose(scaling.std, [1, 10])
    np.testing.assert_allclose(scaling.apply(values), [[-1, -1], [1, 0], [0, 1]])


@pytest.mark.parametrize("constant", [0.0, 7.0, 0.1, 1e7])
def test_a_constant_band_is_only_centred(constant):
    values = np.full((9, 2), constant, dtype=np.float32)
    scaling = fit_scaling(VECTOR, values)
    np.testing.assert_array_equal(scaling.std, 1)
    np.testing.assert_allclose(scaling.apply(values + 2) - scaling.apply(values), 2)


def test_a_band_that_training_never_saw_keeps_its_values():
    scaling = fit_scaling(VECTOR, np.array([[1.0, np.nan], [3.0, np.nan]], dtype=np.float32))
    np.testing.assert_allclose(scaling.apply(np.array([[2.0, 5.0]], dtype=np.float32)), [[0, 5]])


def test_statistics_come_from_training_samples_only(small_paired):
    split = split_indices(small_paired)
    samples = load_samples(small_paired, ("optical", "sar"), split)
    for name, scaling in samples.scaling.items():
        train = small_paired.arrays[name][split.train].astype(np.float64)
        np.testing.assert_allclose(scaling.mean.ravel(), np.nanmean(train, axis=(0, 1)), rtol=1e-5)
        np.testing.assert_allclose(scaling.std.ravel(), np.nanstd(train, axis=(0, 1)), rtol=1e-5)
        everything = np.nanmean(small_paired.arrays[name].astype(np.float64), axis=(0, 1))
        assert not np.allclose(scaling.mean.ravel(), everything, rtol=1e-5)


def test_a_regression_target_is_standardised_by_its_training_samples(small_paired_regression):
    split = split_indices(small_paired_regression)
    samples = load_samples(small_paired_regression, ("optical",), split)
    train = small_paired_regression.target[split.train].astype(np.float64)
    assert samples.target_scaling == pytest.approx((train.mean(), train.std()))
    np.testing.assert_allclose(samples.target.numpy()[split.train].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(samples.target.numpy()[split.train].std(), 1, atol=1e-5)


def test_a_constant_target_has_deviation_one():
    assert fit_target_scaling(np.full(4, 3.0, dtype=np.float32)) == (3.0, 1.0)
