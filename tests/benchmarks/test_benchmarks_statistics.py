import numpy as np
import pytest
from scipy import stats

from edge.benchmarks.statistics import (
    drift,
    early_stopping_estimate,
    histogram,
    late_allowed,
    percentile,
    percentile_interval,
    samples_needed,
    summarise,
)


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
    none = dict.fromkeys(("p50", "p90", "p95", "p99", "p99.9"))
    assert summarise([2.0, 4.0, 6.0]) == none | {"mean": 4.0, "n": 3, "cv": 0.5, "ci95": {}, "drift": None}
    assert summarise([]) == none | {"mean": None, "n": 0, "cv": None, "ci95": {}, "drift": None}
    summary = summarise(np.arange(1.0, 131.0))
    assert (summary["p50"], summary["p90"], summary["p95"], summary["p99"]) == (65.0, 117.0, 124.0, None)
    assert set(summary["ci95"]) == {"p50", "p90", "p95"}


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [1, 64, 131, 662, 1000, 200_000])
def test_intervals_of_percentiles_are_those_of_scipy(p: float, n: int) -> None:
    """scipy's quantile test has the same order statistics, or NaN where a rank lies outside of the samples."""
    samples = np.random.default_rng(n).gamma(4.0, size=n)
    expected = stats.quantile_test(samples, p=p).confidence_interval(0.95)
    found = percentile_interval(samples, p)
    if np.isfinite([expected.low, expected.high]).all():
        assert found == [expected.low, expected.high]
    else:
        assert found is None


def test_the_interval_holds_the_true_percentile_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(5), 0
    for _ in range(400):
        low, high = percentile_interval(random.exponential(size=300), 0.9)  # type: ignore[misc]
        held += low <= -np.log(0.1) <= high
    assert 0.93 <= held / 400 <= 0.99  # ranks are whole numbers, so it holds a little more often


@pytest.mark.parametrize(("queries", "p"), [(458, 0.99), (459, 0.99), (662, 0.99), (5000, 0.99), (300_000, 0.9)])
def test_as_many_late_queries_are_allowed_as_the_binomial_says(queries: int, p: float) -> None:
    allowed = late_allowed(queries, p)
    assert stats.binom.cdf(allowed + 1, queries, 1 - p) > 0.01
    assert allowed == -1 or stats.binom.cdf(allowed, queries, 1 - p) <= 0.01


def test_the_estimate_of_loadgen_discards_what_the_queries_allow() -> None:
    assert early_stopping_estimate(np.arange(63.0), 0.90) is None
    assert early_stopping_estimate(np.arange(64.0), 0.90) == 63.0  # one query is allowed: the largest is the bound
    assert late_allowed(5000, 0.99) == 33
    assert early_stopping_estimate(np.arange(5000.0)[::-1], 0.99) == 5000 - 33


def test_drift_compares_the_halves_in_their_order() -> None:
    assert drift(np.r_[np.full(50, 2.0), np.full(50, 3.0)]) == 1.5
    assert drift(np.ones(21)) is None


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
