import math
import sys

import numpy as np
import pytest
from scipy import stats

from edge.errors import BackendMissing
from edge.train.paired_test import paired_test

# Four folds, two seeds; the means of the folds are 0.02, 0.06, 0.01 and 0.03.
DIFFERENCES = {
    (0, 0): 0.01, (0, 1): 0.03, (1, 0): 0.08, (1, 1): 0.04, (2, 0): 0.00, (2, 1): 0.02, (3, 0): 0.03, (3, 1): 0.03,
}  # fmt: skip
MEANS = [0.02, 0.06, 0.01, 0.03]


def test_seeds_of_one_grouped_fold_are_one_observation():
    found = paired_test(DIFFERENCES, "grouped", test_share=1 / 3)
    assert (found["pairs"], found["n"], found["unit"]) == (8, 4, "fold")
    assert found["difference"] == pytest.approx(0.03)
    reference = stats.ttest_1samp(MEANS, 0)
    assert found["p_uncorrected"] == pytest.approx(reference.pvalue)
    assert found["p_wilcoxon"] == pytest.approx(stats.wilcoxon(MEANS).pvalue)


def test_the_corrected_test_by_hand():
    """s^2 of the means is 0.0014 / 3; t = 0.03 / sqrt((1/4 + 1/3) s^2) = 1.8183, 3 degrees of freedom."""
    found = paired_test(DIFFERENCES, "grouped", test_share=1 / 3)
    error = math.sqrt((1 / 4 + 1 / 3) * 0.0014 / 3)
    assert 0.03 / error == pytest.approx(1.8183, abs=1e-4)
    assert found["p"] == pytest.approx(0.1666, abs=1e-4)  # of a table of Student's t with 3 degrees of freedom
    assert found["ci95"] == pytest.approx([0.03 - 3.182446 * error, 0.03 + 3.182446 * error])
    assert found["p"] > found["p_uncorrected"]


def test_random_folds_of_every_seed_are_observations_of_their_own():
    found = paired_test(DIFFERENCES, "random", test_share=0.25)
    values = list(DIFFERENCES.values())
    assert (found["pairs"], found["n"], found["unit"]) == (8, 8, "fold x seed")
    assert found["p_uncorrected"] == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    t = np.mean(values) / math.sqrt((1 / 8 + 0.25) * np.var(values, ddof=1))
    assert found["p"] == pytest.approx(2 * stats.t.sf(t, 7))


def test_on_a_fixed_split_seeds_are_compared_without_a_correction():
    found = paired_test({(0, seed): value for seed, value in enumerate(MEANS)}, "fixed", test_share=0.5)
    assert (found["n"], found["unit"]) == (4, "seed")
    assert found["p"] == found["p_uncorrected"] == pytest.approx(stats.ttest_1samp(MEANS, 0).pvalue)


def test_the_sign_does_not_change_p_and_turns_the_interval():
    found = paired_test(DIFFERENCES, "grouped", 1 / 3)
    turned = paired_test({key: -value for key, value in DIFFERENCES.items()}, "grouped", 1 / 3)
    assert turned["p"] == pytest.approx(found["p"])
    assert turned["ci95"] == pytest.approx([-found["ci95"][1], -found["ci95"][0]])


def test_one_unit_says_nothing_of_spread():
    found = paired_test({(0, 0): 0.1, (0, 1): 0.2}, "grouped", 0.25)
    assert (found["n"], found["difference"]) == (1, pytest.approx(0.15))
    assert found["p"] is found["ci95"] is found["p_wilcoxon"] is None


def test_methods_that_never_differ_are_equal():
    found = paired_test(dict.fromkeys(DIFFERENCES, 0.0), "grouped", 0.25)
    assert (found["p"], found["p_uncorrected"], found["p_wilcoxon"], found["ci95"]) == (1, 1, 1, [0, 0])


def test_two_equal_methods_are_seldom_found_different_where_pooled_seeds_are_often():
    """Folds differ, seeds of a fold hardly: fold x seed as n finds differences that are not there."""
    rng, found, pooled = np.random.default_rng(0), [], []
    for _ in range(300):
        folds = rng.normal(size=10)
        differences = {(f, s): float(folds[f] + 0.3 * rng.normal()) for f in range(10) for s in range(5)}
        found.append(paired_test(differences, "grouped", 0.0)["p"] < 0.05)
        pooled.append(stats.ttest_1samp(list(differences.values()), 0).pvalue < 0.05)
    assert np.mean(found) == pytest.approx(0.05, abs=0.025)
    assert np.mean(pooled) > 0.25


def test_without_scipy_the_line_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(BackendMissing, match=r"scipy is not installed; pip install 'edge-colearn\[train\]'"):
        paired_test(DIFFERENCES, "grouped", 0.25)
