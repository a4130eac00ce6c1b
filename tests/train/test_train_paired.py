import json

import numpy as np
import pytest

from edge.errors import InputError
from edge.files import sha256
from edge.tasks import Task
from edge.train.paired import open_paired_set


def test_what_was_written_is_what_is_opened(write, pieces):
    data = open_paired_set(write(fold=np.arange(12) // 4).folder)
    assert len(data) == 12
    assert data.modalities == pieces["modalities"]
    assert data.task == pieces["task"]
    assert data.source == {"title": "made for a test"}
    assert data.default_modalities == ("optical", "soil")
    assert data.split is None
    np.testing.assert_array_equal(data.arrays["optical"], pieces["arrays"]["optical"].astype(np.float32))
    np.testing.assert_array_equal(data.target, pieces["target"])
    np.testing.assert_array_equal(data.groups, pieces["groups"])
    np.testing.assert_array_equal(data.fold, np.arange(12) // 4)


def test_dates_are_days_that_need_no_pickle_and_may_be_unknown(write):
    text = np.array(["2019-06-30", ""] * 6)
    data = open_paired_set(write(date=text).folder)
    assert data.date.dtype == np.dtype("datetime64[D]")
    assert [str(day) for day in data.date[:2]] == ["2019-06-30", "NaT"]
    stored = np.load(data.folder / "date.npy", allow_pickle=False)
    np.testing.assert_array_equal(stored, data.date)
    assert stored.view(np.int64)[0] == 18077  # days since 1970-01-01
    np.testing.assert_array_equal(write(date=data.date).date, data.date)


def test_a_set_without_dates_is_written_and_opened_as_before_there_were_any(write):
    data = write()
    document = json.loads((data.folder / "dataset.json").read_text())
    assert document["schema"] == "edge.paired/1"
    assert list(document["arrays"]) == ["optical", "soil", "target", "groups"]
    assert "date" not in (data.folder / "dataset.json").read_text()
    assert data.date is None


def test_arrays_are_read_only_memory_maps(write):
    array = write().arrays["optical"]
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_dataset_json_holds_the_checksum_of_every_file(write):
    data = write()
    entries = json.loads((data.folder / "dataset.json").read_text())["arrays"]
    assert {entry["file"] for entry in entries.values()} | {"dataset.json"} == {p.name for p in data.folder.iterdir()}
    for entry in entries.values():
        assert entry["sha256"] == sha256(data.folder / entry["file"])
    assert data.fingerprint == sha256(data.folder / "dataset.json")


def test_one_changed_value_changes_the_fingerprint(write, pieces):
    before = write().fingerprint
    pieces["arrays"]["soil"][5] += 1
    assert write().fingerprint != before


def test_a_sample_that_lacks_a_modality_is_absent_and_one_missing_value_is_not(write, pieces):
    pieces["arrays"]["optical"][4] = np.nan
    pieces["arrays"]["optical"][5, 0, 0] = np.nan
    data = write()
    np.testing.assert_array_equal(data.present("optical"), np.arange(12) != 4)
    assert data.present("soil").all()


def test_arrays_larger_than_a_block_are_written_whole(write, pieces, monkeypatch):
    monkeypatch.setattr("edge.train.paired._BLOCK", 7)  # one sample of 6 values per block
    pieces["arrays"]["optical"][9] = np.nan
    data = write()
    np.testing.assert_array_equal(data.arrays["optical"], pieces["arrays"]["optical"].astype(np.float32))
    np.testing.assert_array_equal(data.present("optical"), np.arange(12) != 9)


def spoil_length(pieces):
    pieces["arrays"]["soil"] = pieces["arrays"]["soil"][:-1]


def spoil_shape(pieces):
    pieces["arrays"]["soil"] = np.zeros((12, 2))


def spoil_missing_band(pieces):
    pieces["arrays"]["optical"][:, :, 1] = np.nan


def spoil_constant_band(pieces):
    pieces["arrays"]["optical"][:, :, 0] = 7
    pieces["arrays"]["optical"][3, 1, 0] = np.nan


def spoil_infinite(pieces):
    pieces["arrays"]["optical"][6, 1, 1] = np.inf


def spoil_too_large_for_float32(pieces):
    pieces["arrays"]["soil"][2, 0] = 1e300


def spoil_class(pieces):
    pieces["target"] = pieces["target"].copy()
    pieces["target"][8] = 3


def spoil_name(pieces):
    pieces["modalities"]["../evil"] = pieces["modalities"].pop("soil")
    pieces["arrays"]["../evil"] = pieces["arrays"].pop("soil")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_length, r'different lengths: \{"optical": 12, "soil": 11, "target": 12\}; give every modality one row'),
        (spoil_shape, r"modality 'soil': samples have shape \[2\], its description says \[1\]"),
        (spoil_missing_band, r"modality 'optical', band 'nir': every value is missing; leave the band out"),
        (spoil_constant_band, r"modality 'optical', band 'red': every value is 7, a constant band tells nothing"),
        (spoil_infinite, r"modality 'optical', band 'nir', sample 6 \(counted from 0\): inf is .* mark it as missing"),
        (
            spoil_too_large_for_float32,
            r"modality 'soil', band 'clay', sample 2 \(counted from 0\): .* too large for",
        ),
        (spoil_class, r"target 'crop': value 3 in sample 8 \(counted from 0\) is not a whole number from 0 to 2"),
        (spoil_name, r"modality name '../evil': use letters, digits"),
    ],
)
def test_unusable_data_is_refused_and_nothing_is_written(write, pieces, tmp_path, spoil, message):
    spoil(pieces)
    with pytest.raises(InputError, match=message):
        write()
    assert list(tmp_path.iterdir()) == []


REGRESSION = Task("regression", "yield", unit="t/ha")
LABELS = Task("multilabel", "trees", ("oak", "fir"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"target": np.where(np.arange(12) == 3, np.nan, 1.0), "task": REGRESSION},
            r"'yield': 1 values are NaN .* sample 3",
        ),
        ({"target": np.full(12, 4.0), "task": REGRESSION}, r"every value is 4; there is nothing to predict"),
        ({"target": np.ones(12, int)}, r"one class only, 'rye'"),
        ({"target": np.arange(12) % 2}, r"class 'pea' has no sample; leave it out"),
        ({"target": np.array(["oat"] * 12)}, r"give numbers"),
        ({"target": np.stack([np.arange(12) % 2, np.ones(12)], 1), "task": LABELS}, r"label 'fir' is set in 12 of 12"),
        ({"target": np.arange(12) % 2, "task": LABELS}, r"a multilabel task needs \(samples, 2\)"),
        ({"groups": np.arange(11)}, r"groups has shape \[11\], the target has 12"),
        ({"groups": np.arange(12) / 2}, r"groups must be whole numbers"),
        ({"fold": np.arange(12) % 2}, r"group 0 stands on several sides of the fold \(\[0, 1\]\)"),
        ({"split": np.arange(12) // 2}, r"split holds values from 0 to 5; use 0 train, 1 validation, 2 test"),
        (
            {"date": np.array(["2019-06-30"] * 11)},
            r"date has shape \[11\], the target has 12 .* one day each",
        ),
        ({"date": np.array(["2019-06-30"] * 11 + ["June"])}, r"'date', data row 12: 'June' is not a date"),
        ({"date": np.array(["NaT"] * 12, "datetime64[D]")}, r"date: no day is known; leave the dates out"),
        ({"default_modalities": ("radar",)}, r"default modality 'radar' is not known; known: optical, soil"),
    ],
)
def test_unusable_labels_are_refused(write, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        write(**changes)
    assert list(tmp_path.iterdir()) == []


def test_multilabel_and_regression_targets_keep_shape_and_type(write):
    labels = np.stack([np.arange(12) % 2, np.arange(12) % 3 == 0], axis=1)
    assert write(target=labels, task=LABELS).target.dtype == np.int64
    values = write(target=np.arange(12) / 4, task=REGRESSION).target
    assert values.dtype == np.float32
    assert values.shape == (12,)


def test_a_folder_with_something_else_is_left_alone(write, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        write()
    assert (tmp_path / "set" / "thesis.txt").read_text() == "mine"


def edit(folder, change):
    document = json.loads((folder / "dataset.json").read_text())
    change(document)
    (folder / "dataset.json").write_text(json.dumps(document))


def truncate(folder):
    file = folder / "optical.npy"
    file.write_bytes(file.read_bytes()[:-4])


def other_type(folder):
    np.save(folder / "soil.npy", np.zeros((6, 1)))  # float64: as many bytes as 12 float32


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, r"optical.npy has \d+ bytes, dataset.json says \d+: it is truncated or was changed"),
        (other_type, r"soil.npy holds float64 \(6, 1\), expected float32 \(12, 1\)"),
        (lambda folder: (folder / "groups.npy").unlink(), r"groups.npy is missing"),
        (lambda folder: (folder / "dataset.json").unlink(), r"it holds no dataset.json"),
        (lambda folder: (folder / "dataset.json").write_text("{"), r"dataset.json is not valid JSON"),
        (
            lambda folder: edit(folder, lambda d: d.update(schema="edge.paired/9")),
            r"schema 'edge.paired/9' is not known",
        ),
        (lambda folder: edit(folder, lambda d: d.pop("samples")), r"dataset.json is incomplete or wrong: .*samples"),
        (lambda folder: edit(folder, lambda d: d["arrays"]["soil"].update(file="../x.npy")), r"leaves its folder"),
        (
            lambda folder: (folder / "soil.npy").write_bytes(b"x" * (folder / "soil.npy").stat().st_size),
            r"not a readable",
        ),
    ],
)
def test_a_damaged_set_is_refused_with_the_name_of_the_file(write, spoil, message):
    folder = write().folder
    spoil(folder)
    with pytest.raises(InputError, match=message):
        open_paired_set(folder)


def test_a_pickled_array_is_never_loaded(write):
    folder = write().folder
    np.save(folder / "soil.npy", np.array([{"a": 1}] * 12, dtype=object), allow_pickle=True)
    size = (folder / "soil.npy").stat().st_size
    edit(folder, lambda d: d["arrays"]["soil"].update(bytes=size))
    with pytest.raises(InputError, match=r"soil.npy is not a readable"):
        open_paired_set(folder)
