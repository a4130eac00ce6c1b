import numpy as np
import pytest

from edge.compress.calibration import class_of, statistics, stratified
from edge.sensors import Band, Modality
from edge.tasks import Task

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
