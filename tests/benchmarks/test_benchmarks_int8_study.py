import numpy as np
import pytest

from edge.benchmarks import int8_study
from edge.benchmarks.int8_study import FP32, VARIANTS, Work, markdown, one_fold, read, summarise
from edge.benchmarks.sections import replace_section
from edge.recipe import Compression, Model, Recipe, Training
from edge.train.sources.simulated import simulate


def rows_of(variant, tests):
    shared = {"modality": "sar", "variant": variant, "seed": 0, "n_train": 60, "n_test": 20, "training_seconds": 10.0}
    measures = {"probe_specific": 1.0, "probe_shared": 0.5, "recall_1": None, "validation": 0.5}
    own = {"seconds": None if variant == FP32 else 2.0, "worst_damage": None if variant == FP32 else 0.1}
    return [shared | measures | own | {"fold": fold, "test": test} for fold, test in enumerate(tests)]


def test_the_summary_compares_with_fp32_in_the_same_folds() -> None:
    rows = rows_of(FP32, [0.5, 0.6, 0.7]) + rows_of("all four", [0.51, 0.62, 0.73])
    float_, int8 = summarise(rows, "grouped")
    assert float_["test"] == pytest.approx(0.6)
    test = int8["test_against_fp32"]
    assert test["difference"] == pytest.approx(0.02)
    # Nadeau & Bengio by hand: sd 0.01, 3 folds, 20 test samples for each 60
    assert test["ci95"][1] - 0.02 == pytest.approx(4.302653 * 0.01 * np.sqrt(1 / 3 + 1 / 3), rel=1e-5)
    assert int8["time_share"] == pytest.approx(0.2)
    lines = markdown([float_, int8], "r2").splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "+0.0200 [-0.0151, +0.0551]" in lines[3]


def test_a_section_is_replaced_in_place_or_added(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- int8 a -->\nold\n<!-- /int8 -->\n\nend\n")
    replace_section(page, "int8 a", r"new \1")
    replace_section(page, "int8 b", "other")
    assert page.read_text() == (
        "# Title\n\n<!-- int8 a -->\nnew \\1\n<!-- /int8 -->\n\nend\n\n<!-- int8 b -->\nother\n<!-- /int8 -->\n"
    )


def test_one_fold_gives_every_variant_for_every_modality(tmp_path, monkeypatch) -> None:
    some = {name: VARIANTS[name] for name in ("calibration alone", "all four, distilled with features")}
    monkeypatch.setattr(int8_study, "VARIANTS", some)
    simulate(tmp_path / "set", n=120, seed=0)
    small = Model(width=8, hidden=16, embedding=8)
    recipe = Recipe(
        data=str(tmp_path / "set"), model=small, training=Training(epochs=1), compression=Compression(epochs=1)
    )
    work = Work(recipe, tmp_path)
    rows = one_fold(work)
    assert [(row["variant"], row["modality"]) for row in rows] == [
        (variant, modality) for variant in (FP32, *some) for modality in ("optical", "sar")
    ]
    stored = read(work.table)
    assert [row["test"] for row in stored] == [row["test"] for row in rows]
    assert stored[0]["seconds"] is None
    assert stored[4]["seconds"] > 0
    assert stored[2]["worst_class"] is not None
    assert not work.table.with_suffix("").exists()
