"""Narrower students that learn from the full ones: the distances, and that training uses them."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from edge.errors import InputError
from edge.recipe import Model, Recipe, Training, narrowed
from edge.tasks import Task
from edge.train.methods.full import FullStudents, relation_distance, student_outputs
from edge.train.methods.soft_targets import TEMPERATURE, distillation
from edge.train.model import CoLearner, Features
from edge.train.samples import load_samples
from edge.train.sources.simulated import simulate
from edge.train.training import split_of, train

CROPS = Task("multiclass", classes=("oat", "rye", "pea"))
RECIPE = Recipe(
    method="mdico", width=0.5, model=Model(width=32, hidden=32, embedding=32), training=Training(epochs=2, lr=3e-3)
)


def features(n: int, half: int, seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(*(torch.randn(n, width, generator=generator) for width in (3, half, half, half)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("set"), n=120, seed=3)


@pytest.fixture(scope="module")
def full(data, tmp_path_factory):
    return train(data, dataclasses.replace(RECIPE, width=1.0), tmp_path_factory.mktemp("full") / "mdico")


def test_the_relation_is_that_of_cosine_similarities() -> None:
    narrow, wide = features(7, 4, seed=1).shared, features(7, 16, seed=2).shared
    by_sklearn = np.square(cosine_similarity(narrow.numpy()) - cosine_similarity(wide.numpy())).mean()
    torch.testing.assert_close(relation_distance(narrow, wide), torch.tensor(by_sklearn))


def test_features_that_are_turned_or_stretched_have_the_same_relation() -> None:
    wide = features(9, 6).shared
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(4)))
    torch.testing.assert_close(relation_distance(3 * wide @ turn, wide), torch.tensor(0.0))
    assert relation_distance(wide[:, :2], wide) > 0.05


def test_each_student_is_held_to_its_own_modality_and_its_own_samples() -> None:
    said = {"optical": features(10, 8, seed=1), "sar": features(10, 8, seed=2)}
    index, rows = torch.tensor([7, 2, 5]), {"optical": torch.arange(3), "sar": torch.tensor([0, 2])}  # 2 has no SAR
    parts = {"optical": features(3, 4, seed=3), "sar": features(2, 4, seed=4)}
    found = FullStudents(CROPS, said)(parts, index, rows)
    seen = {"optical": torch.tensor([7, 2, 5]), "sar": torch.tensor([7, 5])}
    full = [distillation(CROPS, parts[m].prediction, said[m].prediction[seen[m]], TEMPERATURE) for m in parts]
    relation = [
        relation_distance(getattr(parts[m], key), getattr(said[m], key)[seen[m]])
        for m in parts
        for key in ("specific", "shared")
    ]
    torch.testing.assert_close(found["full"], torch.stack(full).mean())
    torch.testing.assert_close(found["relation"], torch.stack(relation).mean())


def test_the_outputs_are_those_of_all_samples_without_dropout(data, full) -> None:
    samples = load_samples(data, ("optical", "sar"), split_of(data, full.recipe))
    found = student_outputs(full.model.train(), samples)
    with torch.no_grad():
        expected = full.model.eval().students["sar"](samples.inputs["sar"])
    torch.testing.assert_close(found["sar"].prediction, expected.prediction)
    torch.testing.assert_close(found["sar"].shared, expected.shared)
    assert student_outputs(full.model, samples, with_features=False)["sar"].shared.shape == (len(data), 0)


def test_narrow_students_learn_from_the_full_ones_beside_their_objectives(data, full, tmp_path) -> None:
    narrow = train(data, narrowed(RECIPE), tmp_path / "narrow", full=full)
    losses = narrow.facts["history"][-1]["train"]
    assert set(losses) == {"main", "aux", "con", "mod", "full", "relation", "total"}
    assert losses["total"] == pytest.approx(sum(value for name, value in losses.items() if name != "total"), rel=1e-4)
    assert narrow.facts["history"][-1]["train"]["full"] < narrow.facts["history"][0]["train"]["full"]
    assert narrow.facts["full"] == full.facts["fingerprint"]
    assert isinstance(narrow.model, CoLearner)
    assert sum(p.numel() for p in narrow.model.parameters()) < 0.5 * sum(p.numel() for p in full.model.parameters())


def test_another_teacher_or_none_is_another_training(data, full, tmp_path) -> None:
    plain = train(data, narrowed(RECIPE), tmp_path / "narrow")
    assert plain.facts["full"] is None
    taught = train(data, narrowed(RECIPE), tmp_path / "narrow", full=full)
    assert taught.facts["fingerprint"] != plain.facts["fingerprint"]
    before = (tmp_path / "narrow" / "training.json").stat().st_mtime_ns
    train(data, narrowed(RECIPE), tmp_path / "narrow", full=full)
    assert before == (tmp_path / "narrow" / "training.json").stat().st_mtime_ns


def test_a_narrow_recipe_is_not_trained_without_its_full_students(data, tmp_path) -> None:
    with pytest.raises(InputError, match=r"width is 0\.5; narrower students are for"):
        train(data, RECIPE, tmp_path / "narrow")
