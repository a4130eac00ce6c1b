import time

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from edge.errors import InputError
from edge.metrics import bootstrap_interval, relative_drop, score
from edge.tasks import Task

REGRESSION = Task("regression", unit="%")
FIVE = Task("multiclass", classes=tuple("abcde"))
LABELS = Task("multilabel", classes=tuple("abcd"))


def classes(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.choice([0, 1, 3, 4], size=n, p=[0.5, 0.3, 0.15, 0.05])  # class 2 is absent, but predicted
    logits = rng.normal(size=(n, 5)) + 1.5 * np.eye(5)[target]
    return (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32), target


def values(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.normal(104, 40, n).astype(np.float32)
    return (target + rng.normal(0, 25, n)).astype(np.float32)[:, None], target


def test_class_scores_equal_scikit_learn() -> None:
    prediction, target = classes(400)
    chosen = prediction.argmax(1)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = reference.balanced_accuracy_score(target, chosen)
    assert score(FIVE, prediction, target) == pytest.approx(
        {
            "macro_recall": balanced,
            "accuracy": reference.accuracy_score(target, chosen),
            "f1_macro": reference.f1_score(target, chosen, labels=np.unique(target), average="macro"),
            "f1_weighted": reference.f1_score(target, chosen, average="weighted"),
        },
        abs=1e-12,
    )


def test_label_scores_equal_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    target = (rng.random((300, 4)) < [0.5, 0.2, 0.05, 0.3]).astype(np.int64)
    prediction = np.clip(0.4 * target + 0.7 * rng.random((300, 4)), 0, 1).astype(np.float32)
    expected = {
        f"f1_{average}": reference.f1_score(target, prediction >= 0.5, average=average)
        for average in ("macro", "micro", "weighted")
    }
    assert score(LABELS, prediction, target) == pytest.approx(expected, abs=1e-12)


def test_a_label_without_positives_is_left_out_of_the_macro_average() -> None:
    target = np.array([[1, 0, 0, 0], [1, 1, 0, 0]])
    prediction = np.array([[0.9, 0.1, 0.8, 0.0], [0.9, 0.2, 0.0, 0.0]], np.float32)
    assert score(LABELS, prediction, target)["f1_macro"] == pytest.approx((1 + 0) / 2)


def test_regression_scores_equal_scikit_learn() -> None:
    prediction, target = values(300)
    rmse = reference.root_mean_squared_error(target, prediction[:, 0])
    assert score(REGRESSION, prediction, target) == pytest.approx(
        {
            "r2": reference.r2_score(target, prediction[:, 0]),
            "rmse": rmse,
            "mae": reference.mean_absolute_error(target, prediction[:, 0]),
            "rrmse": rmse / target.mean(),
        },
        rel=1e-6,
    )


def test_r2_keeps_its_digits_far_from_zero() -> None:
    target = 1e6 + np.array([0.0, 1.0, 2.0, 3.0])
    prediction = (target + np.array([0.5, -0.5, 0.5, -0.5]))[:, None]
    assert score(REGRESSION, prediction, target)["r2"] == pytest.approx(1 - 1.0 / 5.0, abs=1e-9)


@pytest.mark.parametrize(("offset", "r2"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_constant_target_has_scikit_learns_r2(offset: float, r2: float) -> None:
    target = np.full(4, 7.3)
    assert score(REGRESSION, target[:, None] + offset, target)["r2"] == r2
    assert reference.r2_score(target, target + offset) == r2


def test_rrmse_is_left_out_where_the_mean_is_zero() -> None:
    assert "rrmse" not in score(REGRESSION, np.zeros((2, 1)), np.array([-1.0, 1.0]))


def test_a_perfect_and_a_constant_prediction_have_hand_computed_recalls() -> None:
    task = Task("binary", classes=("no", "yes"))
    target = np.array([0, 0, 0, 1])
    assert score(task, np.eye(2)[target], target)["macro_recall"] == 1
    always_no = np.tile([1.0, 0.0], (4, 1))
    scores = score(task, always_no, target)
    assert (scores["macro_recall"], scores["accuracy"]) == (0.5, 0.75)
    assert scores["f1_macro"] == pytest.approx((2 * 3 / 7 + 0) / 2)


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (np.zeros((3, 4)), np.zeros(3, int), "shape \\(3, 4\\)"),
        (np.zeros((3, 5)), np.zeros((3, 1), int), "target"),
        (np.zeros((3, 5)), np.array(["a", "b", "c"]), "array of numbers"),
        (np.zeros((3, 5)), np.array(3), "array of numbers"),
        (np.zeros((0, 5)), np.zeros(0, int), "empty"),
        (np.zeros((3, 5)), np.array([0, 1.5, 2]), "the target holds 1.5; classes are whole numbers"),
        (np.full((3, 5), np.nan), np.zeros(3, int), "15 values that are not finite"),
        (np.zeros((3, 5)), np.array([0, 5, 1]), "class 5"),
    ],
)
def test_arrays_that_do_not_fit_are_named(prediction: np.ndarray, target: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(FIVE, prediction, target)


@pytest.mark.parametrize("task", [FIVE, REGRESSION])
def test_the_interval_agrees_with_scipy(task: Task) -> None:
    prediction, target = classes(400) if task is FIVE else values(400)

    def measure(index: np.ndarray) -> float:
        return score(task, prediction[index], target[index])[task.metric]

    expected = stats.bootstrap(
        (np.arange(400),),
        measure,
        method="percentile",
        n_resamples=1500,
        vectorized=False,
        rng=np.random.default_rng(1),
    ).confidence_interval
    width = expected.high - expected.low
    assert bootstrap_interval(task, prediction, target, samples=4000) == pytest.approx(
        tuple(expected), abs=0.06 * width
    )


def test_the_interval_by_group_agrees_with_scipy_over_groups() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 10) * 7  # any integers
    target = rng.normal(100, 30, 400)
    prediction = (target + rng.normal(0, 25, 40)[groups // 7])[:, None]  # one error per site
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]

    def measure(chosen: np.ndarray) -> float:
        index = np.concatenate([members[int(group)] for group in chosen])
        return score(REGRESSION, prediction[index], target[index])["r2"]

    expected = stats.bootstrap(
        (np.arange(40),), measure, method="percentile", n_resamples=1500, vectorized=False, rng=1
    ).confidence_interval
    width = expected.high - expected.low
    low, high = bootstrap_interval(REGRESSION, prediction, target, groups, samples=4000)
    assert (low, high) == pytest.approx(tuple(expected), abs=0.08 * width)
    ungrouped = bootstrap_interval(REGRESSION, prediction, target)
    assert high - low > 1.5 * (ungrouped[1] - ungrouped[0])


def test_the_same_seed_gives_the_same_interval_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, target = values(50)
    whole = bootstrap_interval(REGRESSION, prediction, target, seed=4)
    monkeypatch.setattr("edge.metrics.BLOCK", 50 * 7)
    assert bootstrap_interval(REGRESSION, prediction, target, seed=4) == whole
    assert bootstrap_interval(REGRESSION, prediction, target, seed=5) != whole


def test_one_group_gives_no_interval() -> None:
    prediction, target = values(20)
    assert np.isnan(bootstrap_interval(REGRESSION, prediction, target, np.zeros(20))).all()


def test_groups_of_another_length_are_named() -> None:
    prediction, target = values(20)
    with pytest.raises(InputError, match="groups have shape"):
        bootstrap_interval(REGRESSION, prediction, target, np.zeros(19))


def test_a_thousand_resamples_of_five_thousand_samples_take_well_under_a_second() -> None:
    prediction, target = classes(5000)
    started = time.process_time()
    bootstrap_interval(FIVE, prediction, target)
    assert time.process_time() - started < 0.8


def test_the_drop_is_relative_to_the_metric_or_to_rmse() -> None:
    assert relative_drop(FIVE, {"macro_recall": 0.8}, {"macro_recall": 0.76}) == pytest.approx(0.05)
    assert relative_drop(REGRESSION, {"r2": 0.02, "rmse": 20.0}, {"r2": 0.01, "rmse": 20.5}) == pytest.approx(0.025)
    assert relative_drop(REGRESSION, {"rmse": 20.0}, {"rmse": 19.0}) == pytest.approx(-0.05)
    assert relative_drop(FIVE, {"macro_recall": 0.0}, {"macro_recall": 0.0}) == 0
    assert relative_drop(REGRESSION, {"rmse": 0.0}, {"rmse": 1.0}) == float("inf")
