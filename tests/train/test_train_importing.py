import json

import numpy as np
import pytest
from make_samples import write_csv, write_geotiff, write_png

from edge.errors import InputError
from edge.tasks import Task
from edge.train.import_folders import import_folders
from edge.train.import_npz import import_npz
from edge.train.import_table import import_table
from edge.train.layout import Layout, read_layout

CROPS = {"kind": "multiclass", "name": "crop"}
COLUMNS = {
    "crop": ["rye", "oat", "rye", "oat"],
    "field": ["b", "b", "a", "c"],
    "fold": [0, 0, 1, 2],
    "B04(t-1)": [1, 2, 3, 4],
    "B08(t-1)": [5, 6, "", 8],
    "B04(t)": [9, 10, 11, -99],
    "B08(t)": [13, 14, 15, 16],
    "VV": [-1.5, -2.5, -3.5, ""],
}
MODALITIES = {
    "optical": {
        "sensor": "Sentinel-2",
        "unit": "reflectance",
        "times": ["t-1", "t"],
        "bands": ["B04", {"name": "B08", "common_name": "nir"}],
        "columns": "{band}({time})",
    },
    "sar": {"bands": [{"name": "VV", "unit": "dB"}]},
}
LAYOUT = {
    "name": "mine",
    "task": CROPS,
    "target": "crop",
    "groups": "field",
    "fold": "fold",
    "nodata": -99,
    "modalities": MODALITIES,
}


@pytest.fixture
def table(tmp_path):
    """Import COLUMNS, some of them changed, as LAYOUT, some of it changed."""

    def run(columns=None, **layout):
        write_csv(tmp_path / "fields.csv", {**COLUMNS, **(columns or {})})
        return import_table(tmp_path / "fields.csv", Layout(**{**LAYOUT, **layout}), tmp_path / "out")

    return run


def test_a_table_gives_series_in_the_order_of_the_layout_and_nan_for_missing_cells(table):
    data = table()
    nan = np.nan
    expected = [[[1, 5], [9, 13]], [[2, 6], [10, 14]], [[3, nan], [11, 15]], [[4, 8], [nan, 16]]]
    np.testing.assert_array_equal(data.arrays["optical"], expected)
    np.testing.assert_array_equal(data.arrays["sar"], [[-1.5], [-2.5], [-3.5], [nan]])
    np.testing.assert_array_equal(data.present("sar"), [True, True, True, False])


def test_a_table_gives_bands_units_classes_groups_and_folds(table):
    data = table()
    optical = data.modalities["optical"]
    assert [(band.name, band.unit, band.common_name) for band in optical.bands] == [
        ("B04", "reflectance", None),
        ("B08", "reflectance", "nir"),
    ]
    assert (optical.dims, optical.times, optical.sensor) == (("time", "band"), ("t-1", "t"), "Sentinel-2")
    assert data.modalities["sar"].bands[0].unit == "dB"
    assert data.task == Task("multiclass", "crop", ("oat", "rye"))
    np.testing.assert_array_equal(data.target, [1, 0, 1, 0])
    np.testing.assert_array_equal(data.groups, [1, 1, 0, 2])
    np.testing.assert_array_equal(data.fold, [0, 0, 1, 2])
    assert data.source == {"file": "fields.csv"}


def test_columns_may_be_listed(table):
    listed = [["B04(t-1)", "B08(t-1)"], ["B04(t)", "B08(t)"]]
    pattern = np.array(table().arrays["optical"])
    entry = {**MODALITIES["optical"], "columns": listed}
    np.testing.assert_array_equal(table(modalities={"optical": entry}).arrays["optical"], pattern)


def test_classes_keep_the_order_of_the_layout(table):
    np.testing.assert_array_equal(table(task={**CROPS, "classes": ["rye", "oat"]}).target, [0, 1, 0, 1])


def test_whole_numbers_are_class_indices_and_words_are_a_split(table):
    data = table(
        {"crop": [1, 0, 1, 0], "fold": ["train", "train", "validation", "test"]},
        task={**CROPS, "classes": ["oat", "rye"]},
        fold=None,
        split="fold",
    )
    np.testing.assert_array_equal(data.target, [1, 0, 1, 0])
    np.testing.assert_array_equal(data.split, [0, 0, 1, 2])


def test_without_groups_every_sample_is_its_own(table):
    np.testing.assert_array_equal(table(groups=None, fold=None).groups, range(4))


def test_regression_and_multilabel_targets_come_from_a_table(table):
    assert table(task={"kind": "regression", "unit": "dB"}, target="B04(t-1)").target.tolist() == [1, 2, 3, 4]
    data = table({"oak": [0, 1, 1, 0], "fir": [1, 1, 0, 0]}, task={"kind": "multilabel"}, target=["oak", "fir"])
    assert data.task.classes == ("oak", "fir")
    np.testing.assert_array_equal(data.target, [[0, 1], [1, 1], [1, 0], [0, 0]])


def test_parquet_gives_what_csv_gives(table, tmp_path):
    import pyarrow
    from pyarrow import parquet

    expected = table()
    columns = {name: [None if cell == "" else cell for cell in cells] for name, cells in COLUMNS.items()}
    parquet.write_table(pyarrow.table(columns), tmp_path / "fields.PARQUET")
    data = import_table(tmp_path / "fields.PARQUET", Layout(**LAYOUT), tmp_path / "other")
    for name in ("optical", "sar"):
        np.testing.assert_array_equal(data.arrays[name], expected.arrays[name])
    np.testing.assert_array_equal(data.target, expected.target)
    np.testing.assert_array_equal(data.groups, expected.groups)


DAYS = ["2019-06-30", "2019-07-01T10:20:31Z", "", "2018-12-31"]


def test_dates_come_from_a_csv_and_from_dates_and_times_in_parquet(table, tmp_path):
    import pyarrow
    from pyarrow import parquet

    expected = np.array(["2019-06-30", "2019-07-01", "NaT", "2018-12-31"], "datetime64[D]")
    np.testing.assert_array_equal(table({"day": DAYS}, date="day").date, expected)
    assert table({"day": DAYS}).date is None
    columns = {name: [None if cell == "" else cell for cell in cells] for name, cells in COLUMNS.items()}
    for kind in (pyarrow.date32(), pyarrow.timestamp("ns"), pyarrow.timestamp("us", "UTC"), pyarrow.string()):
        days = expected.astype(str).astype(object) if kind == pyarrow.string() else expected
        written = pyarrow.table({**columns, "day": pyarrow.array(days).cast(kind)})
        parquet.write_table(written, tmp_path / "fields.parquet")
        data = import_table(tmp_path / "fields.parquet", Layout(**LAYOUT, date="day"), tmp_path / "other")
        np.testing.assert_array_equal(data.date, expected)


@pytest.mark.parametrize(
    ("columns", "layout", "message"),
    [
        ({}, {"target": "corp"}, r"fields.csv has no column 'corp'; did you mean 'crop'\?"),
        (
            {"VV": [1, "n/a?", 3, 4]},
            {},
            r"column 'VV', data row 2: 'n/a\?' is not a number; leave a missing value empty",
        ),
        ({}, {"task": {**CROPS, "classes": ["oats", "rye"]}}, r"class 'oat' is not known; did you mean 'oats'\?"),
        ({}, {"task": {"kind": "guess"}}, r"task kind 'guess' is not known"),
        ({}, {"task": {"kind": "multilabel"}}, r"a multilabel task takes a list of columns"),
        ({}, {"modalities": {}}, r"the layout names no modality"),
        ({}, {"modalities": {"sar": {}}}, r"modality 'sar': the layout must name its bands"),
        ({}, {"modalities": {"sar": {"bands": ["VV"], "times": ["t"]}}}, r"has times, but columns '{band}' holds no"),
        ({}, {"modalities": {"sar": {"bands": ["VV"], "columns": "{date}"}}}, r"may hold {band} and {time} only"),
        ({}, {"modalities": {"sar": {"bands": ["VV"], "columns": ["VV", "VH"]}}}, r"one name per band"),
        ({}, {"date": "day"}, r"fields.csv has no column 'day'"),
        ({}, {"date": "fold"}, r"column 'fold', data row 1: '0' is not a date; write it as 2019-06-30"),
        ({"day": [*DAYS[:3], "31.12.2018"]}, {"date": "day"}, r"column 'day', data row 4: '31.12.2018' is not a date"),
        ({"day": [""] * 4}, {"date": "day"}, r"date: no day is known; leave the dates out"),
        ({"VV": [""] * 4}, {}, r"modality 'sar', band 'VV': every value is missing"),
        ({"VV": [-1.5] * 4}, {}, r"modality 'sar', band 'VV': every value is -1.5, a constant band"),
        (
            {"crop": ["rye", "", "rye", "oat"]},
            {},
            r"column 'crop', data row 2: the label is missing \(''\); fill it in or leave",
        ),
        ({"field": ["a", "b", "nan", "a"]}, {}, r"column 'field', data row 3: the label is missing"),
        ({"crop": ["rye", "oat", "NA", "oat"]}, {}, r"column 'crop', data row 3: the label is missing \('NA'\)"),
        ({"crop": [1, 2, -99, 2]}, {}, r"column 'crop', data row 3: the label is missing \('-99'\)"),
        ({"crop": [0, 1, 1, 0]}, {"task": {**CROPS, "classes": ["1", "2"]}}, r"class '0' is not known"),
        ({"fold": [1, 1, 2, 3]}, {}, r"column 'fold' holds 1 to 3; folds count from 0"),
        (
            {"part": ["train", "val", "test", "train"]},
            {"split": "part"},
            r"'val' is not one of train, validation, test",
        ),
        ({"y": [1, -99, 3, 4]}, {"task": {"kind": "regression"}, "target": "y"}, r"1 values are NaN .* sample 1"),
        ({"y": [1, 2, "", 4]}, {"task": {"kind": "regression"}, "target": "y"}, r"1 values are NaN .* sample 2"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(table, tmp_path, columns, layout, message):
    with pytest.raises(InputError, match=message):
        table(columns, **layout)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("fields.csv", "a,b\n1,2\n\n3\n", r"line 4: 1 cells, the header has 2"),
        ("fields.csv", "a,a\n1,2\n", r"the column 'a' stands there twice"),
        ("fields.csv", "a,b\n", r"has no rows"),
        ("fields.csv", "", r"has no rows"),
        ("fields.parquet", "a,b\n1,2\n", r"not a readable Parquet file"),
        ("fields.xls", "", r"must end in .csv or .parquet"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        import_table(tmp_path / name, Layout(**LAYOUT), tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": {}}, r"the key 'modality' is not known; did you mean 'modalities'\?"),
        ({"task": {}}, r"the key 'task.kind' is missing"),
        ({"task": {"kind": "binary", "class": []}}, r"did you mean 'classes'\?"),
        (
            {"modalities": {"sar": {"band": ["VV"]}}},
            r"modality 'sar': the key 'band' is not known; did you mean 'bands'",
        ),
        ({"modalities": {"sar": 3}}, r"modality 'sar' must be an object"),
        ({"target": 3}, r"target is 3; expected a name"),
        ({"groups": 3}, r"groups is 3; expected a name"),
        ({"date": 3}, r"date is 3; expected a name"),
        ({"nodata": "none"}, r"nodata is 'none'; expected a number"),
    ],
)
def test_a_layout_with_a_mistake_is_refused(tmp_path, change, message):
    (tmp_path / "layout.json").write_text(json.dumps({**LAYOUT, **change}))
    with pytest.raises(InputError, match=message):
        read_layout(tmp_path / "layout.json")


def test_a_layout_file_gives_what_its_keys_say(tmp_path):
    (tmp_path / "layout.json").write_text(json.dumps(LAYOUT))
    assert read_layout(tmp_path / "layout.json") == Layout(**LAYOUT)


PLOTS = Layout(name="plots", task={"kind": "regression", "unit": "m"}, target="height", groups="site", nodata=None)


@pytest.fixture
def folders(tmp_path):
    """Three labelled plots: GeoTIFF (plot c missing), PNG, .npy series, and a plot x without a label."""
    rng = np.random.default_rng(5)
    made = {"spectral": {}, "rgb": {}, "lidar": {}}
    for name in made:
        (tmp_path / "root" / name).mkdir(parents=True)
    for plot in "abcx":
        made["rgb"][plot] = rng.integers(0, 255, (3, 4, 5)).astype(np.uint8)
        write_png(tmp_path / "root" / "rgb" / f"{plot}.png", made["rgb"][plot])
        made["lidar"][plot] = rng.normal(size=(6, 2))
        np.save(tmp_path / "root" / "lidar" / f"{plot}.npy", made["lidar"][plot])
    for plot in "ab":
        made["spectral"][plot] = rng.integers(1, 900, (2, 3, 3)).astype(np.int16)
        made["spectral"][plot][1, 2, 0] = -9999
        write_geotiff(
            tmp_path / "root" / "spectral" / f"{plot}.tif", made["spectral"][plot], ("red", "nir"), nodata=-9999
        )
    write_csv(tmp_path / "labels.csv", {"name": ["c", "a", "b"], "height": [3, 1, 2], "site": [0, 0, 1]})
    return made


def run_folders(tmp_path, layout=PLOTS, **more):
    return import_folders(tmp_path / "root", tmp_path / "labels.csv", layout, tmp_path / "out", **more)


def test_folders_are_matched_by_name_and_nodata_becomes_nan(folders, tmp_path):
    data = run_folders(tmp_path)
    for row, plot in enumerate("cab"):
        np.testing.assert_array_equal(data.arrays["rgb"][row], folders["rgb"][plot])
        np.testing.assert_array_equal(data.arrays["lidar"][row], folders["lidar"][plot].astype(np.float32))
    for row, plot in ((1, "a"), (2, "b")):
        expected = np.where(folders["spectral"][plot] == -9999, np.nan, folders["spectral"][plot])
        np.testing.assert_array_equal(data.arrays["spectral"][row], expected)
    np.testing.assert_array_equal(data.present("spectral"), [False, True, True])
    assert data.target.tolist() == [3, 1, 2]
    assert data.groups.tolist() == [0, 0, 1]


def test_the_dates_of_folders_stand_beside_their_labels(folders, tmp_path):
    days = ["2019-06-30", "", "2018-12-31"]
    write_csv(tmp_path / "labels.csv", {"name": ["c", "a", "b"], "height": [3, 1, 2], "site": [0, 0, 1], "day": days})
    assert run_folders(tmp_path).date is None
    data = run_folders(tmp_path, Layout(**{**vars(PLOTS), "date": "day"}))
    assert [str(day) for day in data.date] == ["2019-06-30", "NaT", "2018-12-31"]


def test_folders_give_the_kind_and_the_bands_of_their_files(folders, tmp_path):
    data = run_folders(tmp_path)
    assert {name: modality.kind for name, modality in data.modalities.items()} == {
        "spectral": "image",
        "rgb": "image",
        "lidar": "series",
    }
    assert [band.name for band in data.modalities["spectral"].bands] == ["red", "nir"]
    assert [band.name for band in data.modalities["rgb"].bands] == ["band_0", "band_1", "band_2"]


def test_missing_and_extra_files_are_counted_and_told(folders, tmp_path):
    told, read = [], []
    run_folders(tmp_path, say=told.append, tick=lambda: read.append(1))
    assert told == [
        "lidar: 1 files have no label and are left out",
        "rgb: 1 files have no label and are left out",
        "spectral: 1 of 3 samples have no file and lack this modality",
    ]
    assert len(read) == 8


def test_hidden_files_and_folders_do_not_count(folders, tmp_path):
    (tmp_path / "root" / "rgb" / "._a.png").write_bytes(b"what macOS puts beside a file on a memory card")
    (tmp_path / "root" / ".ipynb_checkpoints").mkdir()
    told = []
    data = run_folders(tmp_path, say=told.append)
    assert sorted(data.modalities) == ["lidar", "rgb", "spectral"]
    assert "rgb: 1 files have no label and are left out" in told


def test_a_layout_names_folder_bands_and_units(folders, tmp_path):
    modalities = {"camera": {"folder": "rgb", "bands": ["red", "green", "blue"], "unit": "DN", "sensor": "drone"}}
    data = run_folders(tmp_path, Layout(**{**vars(PLOTS), "modalities": modalities}))
    assert [(band.name, band.unit) for band in data.modalities["camera"].bands] == [
        ("red", "DN"),
        ("green", "DN"),
        ("blue", "DN"),
    ]


def spoil_size(root):
    np.save(root / "lidar" / "b.npy", np.zeros((5, 2)))


def spoil_pickle(root):
    np.save(root / "lidar" / "b.npy", np.array([{}], dtype=object), allow_pickle=True)


def spoil_tif(root):
    (root / "spectral" / "b.tif").write_bytes(b"II*\x00 not an image")


def spoil_empty(root):
    (root / "thermal").mkdir()


def spoil_double(root):
    np.save(root / "rgb" / "a.npy", np.zeros((3, 4, 5)))


def spoil_names(root):
    for file in (root / "lidar").iterdir():
        file.rename(file.with_name("plot_" + file.name))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_size, r"b.npy has shape \[5, 2\], the first file of its folder \[6, 2\]"),
        (spoil_pickle, r"b.npy is not a readable .npy file"),
        (spoil_tif, r"b.tif is not a readable image"),
        (spoil_empty, r"thermal is empty: it holds no .tif"),
        (spoil_double, r"a.png and a.npy have one name; keep one"),
        (spoil_names, r"no file in .*lidar has a name of the labels: files are like 'plot_a', names 'c'"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(folders, tmp_path, spoil, message):
    spoil(tmp_path / "root")
    with pytest.raises(InputError, match=message):
        run_folders(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"plot": ["a"], "height": [1], "site": [0]}, r"labels.csv has no column 'name'"),
        ({"name": ["a", "a"], "height": [1, 2], "site": [0, 1]}, r"the name 'a' stands there twice"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(folders, tmp_path, labels, message):
    write_csv(tmp_path / "labels.csv", labels)
    with pytest.raises(InputError, match=message):
        run_folders(tmp_path)


def test_a_folder_name_that_leaves_the_root_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match="leaves its folder"):
        run_folders(tmp_path, Layout(**{**vars(PLOTS), "modalities": {"rgb": {"folder": "../../etc"}}}))


NPZ = Layout(name="arrays", task={"kind": "binary", "classes": ["no", "yes"]}, target="y", groups="place", nodata=-1)


@pytest.fixture
def npz(tmp_path):
    arrays = {
        "s2": np.arange(24).reshape(4, 2, 3) - 1,
        "dem": np.arange(4.0).reshape(4, 1),
        "y": np.array([0, 1, 1, 0]),
        "place": np.array(["p", "q", "q", "p"]),
    }
    np.savez(tmp_path / "all.npz", **arrays)
    return arrays


def test_an_npz_gives_every_array_that_is_no_label(npz, tmp_path):
    data = import_npz(tmp_path / "all.npz", NPZ, tmp_path / "out")
    assert list(data.modalities) == ["s2", "dem"]
    assert [band.name for band in data.modalities["s2"].bands] == ["band_0", "band_1", "band_2"]
    np.testing.assert_array_equal(data.arrays["s2"], np.where(npz["s2"] == -1, np.nan, npz["s2"]))
    np.testing.assert_array_equal(data.groups, [0, 1, 1, 0])
    np.testing.assert_array_equal(data.target, npz["y"])


def test_an_npz_layout_renames_arrays_and_names_bands(npz, tmp_path):
    entries = {"optical": {"array": "s2", "bands": ["B02", "B03", "B04"], "times": ["a", "b"]}}
    data = import_npz(tmp_path / "all.npz", Layout(**{**vars(NPZ), "modalities": entries}), tmp_path / "out")
    assert data.modalities["optical"].times == ("a", "b")
    assert [band.name for band in data.modalities["optical"].bands] == ["B02", "B03", "B04"]


@pytest.mark.parametrize("kind", ["datetime64[s]", "datetime64[D]", str])
def test_the_dates_of_an_npz_are_an_array_and_no_modality(npz, tmp_path, kind):
    days = np.array(["2019-06-30", "2019-07-01", "2018-12-31", "2019-07-01"], "datetime64[D]")
    np.savez(tmp_path / "all.npz", **npz, day=days.astype(kind))
    data = import_npz(tmp_path / "all.npz", Layout(**{**vars(NPZ), "date": "day"}), tmp_path / "out")
    assert list(data.modalities) == ["s2", "dem"]
    np.testing.assert_array_equal(data.date, days)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"target": "why"}, r"all.npz has no array 'why'"),
        ({"groups": None}, r"array 'place' is <U1 \(4,\), expected numbers"),
        ({"modalities": {"s2": {"bands": ["B02"]}}}, r"does not fit axes \['time', 'band'\] with 1 bands"),
    ],
)
def test_an_npz_that_cannot_be_used_is_refused(npz, tmp_path, layout, message):
    with pytest.raises(InputError, match=message):
        import_npz(tmp_path / "all.npz", Layout(**{**vars(NPZ), **layout}), tmp_path / "out")


def test_files_that_are_no_npz_are_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "pickle.npz", y=np.array([{}], dtype=object))
    for name, message in (
        ("one.npy", "a single array"),
        ("text.npz", "not a readable"),
        ("pickle.npz", "not a readable"),
    ):
        with pytest.raises(InputError, match=message):
            import_npz(tmp_path / name, NPZ, tmp_path / "out")


@pytest.mark.parametrize("number", ["1", "1,5"])
def test_a_table_with_other_separators_is_named(tmp_path, number):
    (tmp_path / "fields.csv").write_text(f"crop;field;VV\nrye;a;{number}\n")
    with pytest.raises(InputError, match="has ';' between its columns; write it with commas"):
        import_table(tmp_path / "fields.csv", Layout(**LAYOUT), tmp_path / "out")


def test_a_missing_label_of_any_type_is_named(tmp_path):
    rows = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    layout = Layout(name="mine", task={"kind": "multiclass"}, target="y", modalities={"sar": {}})
    np.savez(tmp_path / "a.npz", sar=rows, y=np.array([0.0, 1.0, np.nan, 1.0]))
    with pytest.raises(InputError, match="column 'y', data row 3: the label is missing"):
        import_npz(tmp_path / "a.npz", layout, tmp_path / "out")


def test_the_modality_remembers_columns_and_nodata(table):
    data = table()
    assert data.modalities["optical"].columns == ("B04(t-1)", "B08(t-1)", "B04(t)", "B08(t)")
    assert data.modalities["sar"].columns == ("VV",)
    assert {modality.nodata for modality in data.modalities.values()} == {-99.0}


def test_a_class_that_the_layout_names_may_be_called_na(table):
    data = table({"crop": ["NA", "oat", "NA", "oat"]}, task={**CROPS, "classes": ["NA", "oat"]})
    np.testing.assert_array_equal(data.target, [0, 1, 0, 1])


def two_tiles(folder, second, bands):
    """Two tiles of one sensor; the second one's bands have the names `bands`."""
    (folder / "raw" / "s2").mkdir(parents=True)
    image = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    write_geotiff(folder / "raw" / "s2" / "a.tif", image, ("B04", "B08"))
    write_geotiff(folder / "raw" / "s2" / "b.tif", second(image), bands)
    write_csv(folder / "labels.csv", {"name": ["a", "b"], "crop": ["rye", "oat"]})
    return image


@pytest.mark.parametrize("order", [("B04", "B08"), ("B08", "B04")])
def test_bands_are_matched_by_the_names_that_files_give(tmp_path, order):
    pytest.importorskip("rasterio")
    image = two_tiles(tmp_path, lambda image: image[::-1] + 100, ("B08", "B04"))
    modalities = {"s2": {"bands": list(order)}}
    layout = Layout(name="tiles", task={"kind": "multiclass"}, target="crop", modalities=modalities)
    data = import_folders(tmp_path / "raw", tmp_path / "labels.csv", layout, tmp_path / "out")
    wanted = np.stack([image, image + 100])
    np.testing.assert_array_equal(data.arrays["s2"], wanted if order[0] == "B04" else wanted[:, ::-1])


def test_a_file_with_other_bands_is_named(tmp_path):
    pytest.importorskip("rasterio")
    two_tiles(tmp_path, lambda image: image + 1, ("B04", "B11"))
    layout = Layout(name="tiles", task={"kind": "multiclass"}, target="crop", modalities={"s2": {}})
    with pytest.raises(InputError, match=r"b\.tif names its bands B04, B11; expected are B04, B08"):
        import_folders(tmp_path / "raw", tmp_path / "labels.csv", layout, tmp_path / "out")


def test_a_folder_of_somebody_else_is_never_replaced_and_other_files_survive(table, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "dataset.json").write_text('{"mine": 1}')
    (out / "raw.csv").write_text("1")
    with pytest.raises(InputError, match=r"holds a dataset\.json that is none of ours"):
        table()
    assert (out / "raw.csv").read_text() == "1"
    (out / "dataset.json").unlink()
    (out / "raw.csv").unlink()
    table()
    (out / "raw.csv").write_text("2")
    table(name="again")
    assert (out / "raw.csv").read_text() == "2"
    assert json.loads((out / "dataset.json").read_text())["name"] == "again"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fields.csv", "out"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modalities": {"sar": {"bands": 2}}}, r"modalities.sar.bands is 2; expected a list"),
        ({"modalities": {"sar": {"bands": "VV"}}}, r"modalities\.sar\.bands is 'VV'; expected a list"),
        ({"modalities": {"sar": {"bands": [1, 2]}}}, r"modality 'sar': band 1 must be a name, or have one"),
        ({"modalities": {"sar": {"bands": [{"unit": "dB"}]}}}, r"modality 'sar': band {'unit': 'dB'} must be a name"),
        ({"default_modalities": "sar"}, r"default_modalities is 'sar'; expected a list"),
        ({"task": {**CROPS, "classes": 5}}, r"task\.classes is 5; expected a list"),
        ({"source": "x"}, r"source is 'x'; expected an object"),
    ],
)
def test_a_layout_of_the_wrong_types_is_refused(tmp_path, change, message):
    (tmp_path / "layout.json").write_text(json.dumps({**LAYOUT, **change}))
    with pytest.raises(InputError, match=message):
        read_layout(tmp_path / "layout.json")
