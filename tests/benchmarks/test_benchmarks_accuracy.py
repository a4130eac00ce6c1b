import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, recall_score

from edge.benchmarks.accuracy import ENOUGH, accuracy, per_class, worst_class
from edge.metrics import bootstrap_interval
from edge.tasks import Task

CROP = Task("multiclass", name="crop", classes=("wheat", "maize", "rape", "none"))
LABELS = Task("multilabel", name="trees", classes=("oak", "beech", "pine"))
MOISTURE = Task("regression", name="lfmc", unit="%")


def crops(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets that never hold the class `none`."""
    random = np.random.default_rng(0)
    target = random.integers(0, 3, n)
    return np.eye(4)[np.where(random.random(n) < 0.7, target, random.integers(0, 4, n))], target


def test_recall_of_each_class_is_that_of_scikit_learn() -> None:
    prediction, target = crops()
    found = per_class(CROP, prediction, target)
    expected = recall_score(target, prediction.argmax(1), labels=[0, 1, 2], average=None)
    assert [part["value"] for part in found[:3]] == pytest.approx(expected)
    assert [part["n"] for part in found] == [*np.bincount(target), 0]
    assert (found[3]["value"], found[3]["ci95"]) == (None, None)
    whole = accuracy(CROP, prediction, target)
    assert whole["metric"] == pytest.approx(np.mean(expected))
    assert whole["metric_ci95"] == list(bootstrap_interval(CROP, prediction, target))


def test_f1_of_each_label_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    target = random.integers(0, 2, (200, 3)) * [1, 1, 0]
    prediction = random.random((200, 3))
    found = per_class(LABELS, prediction, target)
    expected = f1_score(target[:, :2], prediction[:, :2] >= 0.5, average=None)
    assert [part["value"] for part in found] == [pytest.approx(expected[0]), pytest.approx(expected[1]), None]


def test_each_tenth_of_a_target_has_its_own_error() -> None:
    target = np.arange(100.0)
    prediction = target + np.repeat(np.arange(10.0), 10)  # tenth i is off by i
    found = per_class(MOISTURE, prediction[:, None], target)
    assert [part["n"] for part in found] == [10] * 10
    assert [part["value"] for part in found] == pytest.approx(list(range(10)))
    assert found[0]["name"] == "0 to 9.9 %"
    constant = per_class(MOISTURE, np.ones((5, 1)), np.zeros(5))
    assert [(part["n"], part["value"]) for part in constant] == [(5, 1.0)]


def test_the_interval_of_a_class_agrees_with_scipy() -> None:
    prediction, target = crops(400)
    wheat = target == 0
    hits = (prediction.argmax(1) == 0) & wheat

    def recall(hit: np.ndarray, there: np.ndarray, axis: int) -> np.ndarray:
        return hit.sum(axis) / there.sum(axis)

    expected = stats.bootstrap(
        (hits.astype(float), wheat.astype(float)), recall, paired=True, vectorized=True, n_resamples=4000,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    found = per_class(CROP, prediction, target)[0]["ci95"]
    assert found == pytest.approx([expected.low, expected.high], abs=0.015)


def test_groups_are_drawn_whole() -> None:
    """All samples of a group are right, or all wrong: the interval over groups is the wider one."""
    groups = np.repeat(np.arange(20), 20)
    target = np.zeros(400, int)
    prediction = np.eye(4)[np.where(groups < 14, 0, 1)]
    alone, grouped = (per_class(CROP, prediction, target, g)[0]["ci95"] for g in (None, groups))
    assert grouped[1] - grouped[0] > 3 * (alone[1] - alone[0])
    assert per_class(CROP, prediction, target, np.zeros(400))[0]["ci95"] is None


def test_the_worst_class_is_the_one_that_loses_most_recall_among_those_with_enough_samples() -> None:
    target = np.repeat([0, 1, 2], [100, ENOUGH, ENOUGH - 1])
    before = np.eye(4)[target]
    after = before.copy()
    after[:10] = np.eye(4)[3]  # wheat: 10 of 100
    after[100:103] = np.eye(4)[3]  # maize: 3 of 50
    after[150:] = np.eye(4)[3]  # rape: all, but they are too few to judge by
    assert worst_class(CROP, before, after, target) == {
        "name": "wheat", "measure": "recall", "n": 100, "before": 1.0, "after": pytest.approx(0.9),
        "drop": pytest.approx(0.1), "ci95": pytest.approx([0.05, 0.16], abs=0.02), "enough": True,
        "left_out": ["rape", "none"],
    }  # fmt: skip
    together = np.repeat([0, 1, 2], [100, 50, 49]) * 1000 + np.arange(199) // 10  # all that flip are of one site
    assert worst_class(CROP, before, after, target, together)["ci95"][0] == 0
    few = worst_class(CROP, before[140:], after[140:], target[140:])
    assert (few["name"], few["enough"], few["drop"]) == ("rape", False, 1.0)


def test_the_worst_label_is_judged_by_f1_and_the_worst_tenth_by_the_rise_of_its_rmse() -> None:
    random = np.random.default_rng(2)
    target = random.integers(0, 2, (200, 3))
    before = np.where(target, 0.9, 0.1)
    after = before.copy()
    after[:40, 1] = 1 - after[:40, 1]
    found = worst_class(LABELS, before, after, target)
    assert (found["name"], found["measure"]) == ("beech", "f1")
    assert found["after"] == pytest.approx(f1_score(target[:, 1], after[:, 1] >= 0.5))
    moisture = np.linspace(0, 100, 1000)
    before = moisture[:, None] + np.where(np.arange(1000) % 2, 1.0, -1.0)[:, None]
    after = before.copy()
    after[900:] += np.sign(before[900:] - moisture[900:, None]) * 0.5
    found = worst_class(MOISTURE, before, after, moisture)
    assert (found["name"], found["n"], found["drop"]) == ("90 to 100 %", 100, pytest.approx(0.5))


def test_without_any_change_nothing_drops() -> None:
    prediction, target = crops()
    assert worst_class(CROP, prediction, prediction, target)["drop"] == 0
