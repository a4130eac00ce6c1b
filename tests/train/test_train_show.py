import json

import numpy as np
import pytest

from edge.errors import InputError
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.picture import draw
from edge.train.show import as_text, describe


def test_the_facts_are_those_of_the_data(write, pieces):
    pieces["arrays"]["optical"][4] = np.nan
    pieces["arrays"]["optical"][5, 0, 1] = np.nan
    data = write(fold=np.arange(12) // 4)
    facts = describe(data)
    assert facts["samples"] == 12
    assert facts["groups"] == 6
    assert facts["folds"] == [4, 4, 4]
    assert facts["split"] is None
    assert facts["target"] == {"oat": 4, "rye": 4, "pea": 4}
    optical = facts["modalities"]["optical"]
    assert (optical["kind"], optical["shape"], optical["absent"]) == ("series", [3, 2], 1)
    red, nir = optical["bands"]
    assert red["missing"] == pytest.approx(3 / 36)
    assert nir["missing"] == pytest.approx(4 / 36)
    values = data.arrays["optical"][..., 0]
    assert [red["min"], red["mean"], red["max"]] == pytest.approx(
        [np.nanmin(values), np.nanmean(values), np.nanmax(values)]
    )
    assert facts["modalities"]["soil"]["absent"] == 0
    json.dumps(facts, allow_nan=False)


def test_the_range_of_the_dates_and_the_counts_of_the_seasons_are_shown(write):
    days = ["2018-12-31", "2019-01-15", "2017-06-01", "NaT", *["2019-10-31"] * 8]
    facts = describe(write(date=np.array(days, "datetime64[D]")))
    assert facts["date"] == {
        "first": "2017-06-01",
        "last": "2019-10-31",
        "seasons": {"DJF": 2, "MAM": 0, "JJA": 1, "SON": 8, "unknown": 1},
    }
    assert "\ndates: 2017-06-01 .. 2019-10-31: DJF 2, JJA 1, SON 8, unknown 1\n" in as_text(facts)
    json.dumps(facts, allow_nan=False)


def test_without_dates_nothing_is_said_of_them(write):
    facts = describe(write())
    assert facts["date"] is None
    assert "dates:" not in as_text(facts)


def test_the_facts_do_not_depend_on_the_block_size(small_paired, monkeypatch):
    whole = describe(small_paired)
    monkeypatch.setattr("edge.train.paired._BLOCK", 1000)
    parts = describe(small_paired)
    for name in ("optical", "sar"):
        assert parts["modalities"][name]["absent"] == whole["modalities"][name]["absent"]
        for a, b in zip(parts["modalities"][name]["bands"], whole["modalities"][name]["bands"], strict=True):
            assert a == pytest.approx(b)


def test_a_regression_target_is_described_by_quantiles(small_paired_regression):
    target, facts = small_paired_regression.target, describe(small_paired_regression)["target"]
    assert facts["median"] == pytest.approx(np.median(target))
    assert facts["95 %"] == pytest.approx(np.quantile(target, 0.95))
    assert facts["sd"] == pytest.approx(target.std())


def test_multilabel_counts_and_a_split_are_shown(write):
    target = np.stack([np.arange(12) % 2, np.arange(12) % 3 == 0], axis=1)
    split = np.array([0] * 6 + [1] * 2 + [2] * 4)
    facts = describe(write(target=target, task=Task("multilabel", "trees", ("oak", "fir")), split=split))
    assert facts["target"] == {"oak": 6, "fir": 4}
    assert facts["split"] == {"train": 6, "validation": 2, "test": 4}
    assert "split: train 6, validation 2, test 4" in as_text(facts)


def test_the_text_names_modalities_bands_units_and_counts(small_paired):
    text = as_text(describe(small_paired))
    for part in (
        "180 samples",
        "optical (default): series, 12 time x 12 band",
        "VV",
        "dB",
        "3 samples lack it",
        f"maize {(small_paired.target == 2).sum()}",
    ):
        assert part in text, part


@pytest.mark.parametrize(("bands", "shown", "left_out"), [(40, 40, None), (41, 16, 25), (369, 16, 353)])
def test_of_very_many_bands_the_text_shows_both_ends(write, bands, shown, left_out):
    modality = Modality("spectrum", tuple(Band(f"h{i:03}") for i in range(bands)), ("band",), (bands,))
    text = as_text(
        describe(
            write(modalities={"spectrum": modality}, arrays={"spectrum": np.random.default_rng(0).random((12, bands))})
        )
    )
    assert sum(line.startswith("  h") for line in text.splitlines()) == shown
    assert "  h000 " in text
    assert f"  h{bands - 1:03} " in text
    assert (f"{left_out} more bands" in text) == (left_out is not None)


@pytest.mark.parametrize("fixture", ["small_paired", "small_paired_regression"])
def test_a_picture_of_series_is_drawn(request, tmp_path, fixture):
    draw(request.getfixturevalue(fixture), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("last", ["2019-10-31", "NaT"])
def test_the_dates_are_a_row_of_the_picture(write, last):
    data = write(date=np.array(["2018-12-31"] * 6 + [last] * 6))
    draw(data, data.folder.parent / "dated.svg")
    draw(write(), data.folder.parent / "plain.svg")
    dated, plain = ((data.folder.parent / name).read_text() for name in ("dated.svg", "plain.svg"))
    assert (dated.count('id="axes_'), plain.count('id="axes_')) == (18, 12)  # rows of six panels
    assert ("samples per month" in dated, "samples per month" in plain) == (True, False)
    assert dated.count('id="patch_') - plain.count('id="patch_') >= 12 + 30  # months and bins


def test_images_vectors_and_labels_are_drawn(write):
    rng = np.random.default_rng(0)
    bands = tuple(Band(name, common_name=name) for name in ("nir", "red", "green", "blue"))
    images = rng.normal(size=(12, 4, 6, 5))
    images[0] = np.nan
    modalities = {
        "rgb": Modality("rgb", bands, ("band", "y", "x"), (4, 6, 5)),
        "height": Modality("height", (Band("height", "m"),), ("band", "y", "x"), (1, 3, 3)),
        "soil": Modality("soil", (Band("clay", "%"),), ("band",), (1,)),
    }
    arrays = {"rgb": images, "height": rng.normal(size=(12, 1, 3, 3)), "soil": rng.normal(size=(12, 1))}
    target = np.stack([np.arange(12) % 2, np.arange(12) % 3 == 0], axis=1)
    data = write(modalities=modalities, arrays=arrays, target=target, task=Task("multilabel", classes=("oak", "fir")))
    draw(data, data.folder.parent / "picture.svg")
    drawn = (data.folder.parent / "picture.svg").read_text()
    assert drawn.count("<image") == 5 + 6  # the sample without the modality is left out


def test_a_picture_of_an_unknown_kind_is_refused(small_paired, tmp_path):
    with pytest.raises(InputError, match=r"picture.gif must end in .png, .svg, .pdf"):
        draw(small_paired, tmp_path / "picture.gif")


def test_sets_without_groups_and_samples_that_repeat_another_are_warned_of(write, pieces):
    given = pieces["arrays"]
    arrays = {name: array.copy() for name, array in given.items()}
    for array in arrays.values():
        array[3] = array[1]  # of another group
        array[5] = array[4]  # of the same group
    groups = np.arange(len(pieces["target"]))
    groups[5] = groups[4]
    facts = describe(write(arrays=arrays, groups=groups))
    assert facts["repeats"] == 1
    assert "warning: 1 samples equal another one in every value" in as_text(facts)
    assert "no groups are named" not in as_text(facts)
    facts = describe(write(arrays=given, groups=np.arange(len(groups))))
    assert facts["repeats"] == 0
    assert "warning: no groups are named" in as_text(facts)
