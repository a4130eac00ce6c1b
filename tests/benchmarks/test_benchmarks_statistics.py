import numpy as np
import pytest
from scipy import stats

from edge.benchmarks.statistics import histogram, percentile, samples_needed, summarise


@pytest.mark.parametrize(("p", "n"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662), (0.999, 6636)])
def test_the_samples_needed_are_those_that_loadgen_publishes(p: float, n: int) -> None:
    assert samples_needed(p) == n
    assert stats.binom.cdf(1, n, 1 - p) <= 0.01 < stats.binom.cdf(1, n - 1, 1 - p)


def test_percentiles_are_samples_of_nearest_rank() -> None:
    samples = np.arange(1, 101) / 1000  # 1 ms ... 100 ms
    assert percentile(samples[::-1], 0.5) == 0.050
    assert percentile(samples, 0.9) == 0.090
    assert percentile(np.arange(1.0, 12.0), 0.5) == 6.0


def test_a_percentile_with_too_few_samples_is_none() -> None:
    assert percentile(np.ones(10), 0.5) is None
    summary = summarise(np.linspace(1, 2, 661))
    assert summary["p99"] is None
    assert summary["p90"] is not None
    assert summarise(np.linspace(1, 2, 662))["p99"] is not None


def test_the_summary_of_hand_computed_samples() -> None:
    assert summarise([2.0, 4.0, 6.0]) == {"p50": None, "p90": None, "p99": None, "mean": 4.0, "n": 3, "cv": 0.5}
    assert summarise([]) == {"p50": None, "p90": None, "p99": None, "mean": None, "n": 0, "cv": None}


def test_the_histogram_counts_every_sample_and_a_stray_one_does_not_stretch_it() -> None:
    samples = np.r_[np.linspace(1e-3, 2e-3, 5000), 5.0]
    counted = histogram(samples, bins=20)
    assert counted is not None
    assert sum(counted["counts"]) == 5001
    assert len(counted["edges"]) == 21
    assert counted["edges"][0] == pytest.approx(1e-3)
    assert counted["edges"][-1] == pytest.approx(2.2e-3, rel=0.01)


def test_equal_samples_have_a_histogram_too() -> None:
    counted = histogram([0.001] * 30)
    assert counted is not None
    assert sum(counted["counts"]) == 30
    assert histogram([]) is None
