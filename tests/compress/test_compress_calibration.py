import numpy as np
import pytest

from edge.compress.calibration import class_of, statistics, stratified
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.dates import season_counts, season_of

CROPS = Task("multiclass", classes=("wheat", "maize", "rape"))


def test_a_rare_class_and_a_small_group_are_there() -> None:
    target = np.array([0] * 900 + [1] * 95 + [2] * 5)
    groups = np.array([0] * 850 + [1] * 45 + [2] * 5 + [0] * 90 + [3] * 5 + [0] * 4 + [4])
    chosen = stratified(CROPS, target, groups, 60, seed=0)
    assert len(set(chosen)) == 60
    assert list(chosen) == sorted(chosen)
    assert np.bincount(target[chosen]).tolist() == [28, 27, 5]
    assert set(groups[chosen]) == {0, 1, 2, 3, 4}
    wheat = chosen[target[chosen] == 0]
    assert np.bincount(groups[wheat]).tolist() == [12, 11, 5]  # dealt in turn, until the third group has no more


def test_a_small_set_is_taken_whole_and_another_seed_draws_others() -> None:
    target, groups = np.arange(50) % 3, np.zeros(50, int)
    assert stratified(CROPS, target, groups, 50, seed=0).tolist() == list(range(50))
    draws = [stratified(CROPS, target, groups, 20, seed=seed).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_targets_of_a_regression_are_drawn_from_each_fifth() -> None:
    target = np.random.default_rng(0).lognormal(size=1000).astype(np.float32)
    chosen = stratified(Task("regression"), target, np.zeros(1000, int), 100, seed=0)
    fifths = np.searchsorted(np.quantile(target, [0.2, 0.4, 0.6, 0.8]), target[chosen])
    assert np.bincount(fifths).tolist() == [20] * 5


def test_each_set_of_labels_is_a_class() -> None:
    labels = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 0]])
    found = class_of(Task("multilabel", classes=("a", "b")), labels)
    assert found[0] == found[3]
    assert len(set(found)) == 4


def dated(groups: np.ndarray, months: np.ndarray) -> np.ndarray:
    """A day in each of `months` (1 .. 12), in another year for another group."""
    return np.array(
        [f"{2000 + group}-{month:02d}-15" for group, month in zip(groups, months, strict=True)], "datetime64[D]"
    )


def test_a_rare_season_is_there_in_every_class_and_no_group_is_lost() -> None:
    rng = np.random.default_rng(0)
    target, groups = rng.integers(3, size=2000), rng.integers(40, size=2000)
    months = rng.choice(np.arange(1, 13), p=np.array([3] * 5 + [40] * 3 + [5] * 4) / 155, size=2000)
    date = dated(groups, months)
    chosen = stratified(CROPS, target, groups, 240, seed=0, date=date)
    without = stratified(CROPS, target, groups, 240, seed=0)
    assert len(set(chosen)) == 240
    assert np.bincount(target[chosen]).tolist() == [80] * 3
    for number in range(3):  # each class has 20 samples or more of every season
        seasons = season_of(date[chosen[target[chosen] == number]])
        assert np.bincount(seasons).tolist() == [20] * 4
    assert np.bincount(season_of(date[without])).min() < 30
    assert set(groups[chosen]) == set(range(40))


def test_seasons_do_not_cost_groups() -> None:
    rng = np.random.default_rng(1)
    target, groups, months = rng.integers(3, size=1200), rng.integers(60, size=1200), rng.integers(1, 13, size=1200)
    date, found = dated(groups, months), []
    for seed in range(10):
        draws = (stratified(CROPS, target, groups, 60, seed=seed, date=given) for given in (date, None))
        found.append([len(np.unique(groups[chosen])) for chosen in draws])
    of_seasons, of_none = np.mean(found, axis=0)
    assert of_seasons >= of_none


def test_within_a_season_samples_are_dealt_from_another_group_each_time() -> None:
    groups = np.array([0] * 400 + [1] * 50 + [2] * 50)
    date = dated(groups, np.where(np.arange(500) % 2, 1, 7))
    chosen = stratified(CROPS, np.zeros(500, int), groups, 60, seed=0, date=date)
    strata = np.stack([season_of(date[chosen]), groups[chosen]], axis=1)
    assert np.unique(strata, axis=0, return_counts=True)[1].tolist() == [10] * 6


def test_samples_whose_day_is_not_known_are_a_season_of_their_own() -> None:
    date = dated(np.zeros(200, int), np.arange(200) % 12 + 1)
    date[:5] = np.datetime64("NaT")
    chosen = stratified(CROPS, np.zeros(200, int), np.zeros(200, int), 25, seed=0, date=date)
    assert season_counts(date[chosen]) == {"DJF": 5, "MAM": 5, "JJA": 5, "SON": 5, "unknown": 5}


@pytest.mark.parametrize("seed", range(3))
def test_without_dates_samples_are_dealt_from_classes_and_groups_alone(seed) -> None:
    """Dealt by hand: from every class and group in turn, then from every class in turn."""
    rng = np.random.default_rng(9)
    target, groups = rng.integers(3, size=300) ** 2 % 3, rng.integers(20, size=300) ** 2 % 17

    def dealt(order: list[int], *labels: np.ndarray) -> list[int]:
        seen: dict[tuple[int, ...], int] = {}
        turns = []
        for sample in order:
            stratum = tuple(int(label[sample]) for label in labels)
            turns.append(seen.get(stratum, 0))
            seen[stratum] = turns[-1] + 1
        return [sample for _, _, sample in sorted(zip(turns, range(len(order)), order, strict=True))]

    order = np.random.default_rng(seed).permutation(300).tolist()
    expected = sorted(dealt(dealt(order, target, groups), target)[:70])
    assert stratified(CROPS, target, groups, 70, seed=seed).tolist() == expected


def test_the_seasons_of_the_samples_are_counted_where_there_are_dates() -> None:
    modality, values = Modality("sar", (Band("VV"),), ("band",), (1,)), np.ones((4, 1))
    target, groups = np.array([0, 1, 2, 0]), np.zeros(4, int)
    date = dated(groups, np.array([12, 2, 3, 8]))
    counted = statistics(CROPS, modality, values, target, groups, date=date)["seasons"]
    assert counted == {"DJF": 2, "MAM": 1, "JJA": 1, "SON": 0, "unknown": 0}
    assert statistics(CROPS, modality, values, target, groups)["seasons"] is None


def test_statistics_are_those_of_a_hand_computed_case() -> None:
    modality = Modality("sar", (Band("VV"), Band("VH")), ("time", "band"), (2, 2))
    values = np.array([[[1, np.nan], [3, np.nan]], [[np.nan, np.nan], [8, np.nan]]], np.float32)
    found = statistics(Task("binary", classes=("no", "yes")), modality, values, np.array([1, 1]), np.array([4, 9]))
    assert found["samples"] == found["groups"] == 2
    assert found["classes"] == [0, 2]
    assert found["bands"]["VV"] == {"min": 1, "max": 8, "mean": 4, "missing": 0.25}
    assert found["bands"]["VH"] == {"min": None, "max": None, "mean": None, "missing": 1.0}
    image = Modality("rgb", (Band("R"),), ("band", "y", "x"), (1, 2, 2))
    assert statistics(CROPS, image, np.ones((3, 1, 2, 2)), np.array([0, 0, 1]), np.zeros(3))["bands"]["R"][
        "mean"
    ] == pytest.approx(1)


def test_limits_in_sensor_units_are_where_the_graphs_first_quantizer_saturates(two) -> None:
    """A value at the limit and one beyond it give the same output in ONNX Runtime, one inside another."""
    import onnxruntime as ort

    from edge.compress.calibration import input_limit, with_limits
    from edge.compress.graphs import fp32_graph, int8_graphs

    model = int8_graphs(two.trained, two.compressed, "optical")["int8.cpu"]
    modality, scaling = two.data.modalities["optical"], two.trained.scaling["optical"]
    about = two.compressed.facts["students"]["optical"]["calibration"]
    bands = with_limits(about, modality, scaling, input_limit(model))["bands"]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.broadcast_to(scaling.mean, (1, *modality.shape)).copy()
    for index, band in enumerate(modality.bands):
        reach = bands[band.name]["high"] - scaling.mean[0, index]
        outputs = []
        for factor in (0.9, 1.0, 1.5):
            changed = x.copy()
            changed[:, :, index] = scaling.mean[0, index] + factor * reach
            outputs.append(session.run(None, {"optical": changed})[0])
        assert np.array_equal(outputs[1], outputs[2])
        assert not np.array_equal(outputs[0], outputs[1])
    assert input_limit(fp32_graph(two.trained, "optical")) is None
    assert with_limits(about, modality, scaling, None) is about
