import csv
import dataclasses
import io
import json
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_bundles import OPTICAL, TASKS, reference, values

from edge.cli import main
from edge.deploy.bundle import Bundle
from edge.deploy.predict import predict
from edge.deploy.samples import read_samples, source_size
from edge.deploy.samples_csv import csv_columns
from edge.errors import InputError
from edge.sensors import Band, Modality

HEADER = ["B04_t0", "ndvi_t0", "B04_t1", "ndvi_t1", "B04_t2", "ndvi_t2"]


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def cells(array: np.ndarray) -> list[list[Any]]:
    return [["" if np.isnan(value) else repr(float(value)) for value in row.ravel()] for row in array]


def run(bundle: Bundle, source: Path, **options: Any) -> np.ndarray:
    out = source.with_name("out.npz")
    predict(bundle, source, out, precision="fp32", **options)
    return np.load(out)["prediction"]


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_every_kind_of_file_gives_the_same_predictions(tiny_bundle: Bundle, tmp_path: Path, batch: int) -> None:
    array = values(20)
    expected = reference(tiny_bundle.task, array)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", sar=np.ones(3), optical=array)
    np.savez_compressed(tmp_path / "b.npz", anything=array)
    write_csv(tmp_path / "a.csv", HEADER, cells(array))
    (tmp_path / "samples").mkdir()
    np.savez(tmp_path / "samples" / "c.npz", array[15:])
    for index in range(15):
        np.save(tmp_path / "samples" / f"a{index:02}.npy", array[index])
    for name in ("a.npy", "a.npz", "b.npz", "a.csv", "samples"):
        found = run(tiny_bundle, tmp_path / name, batch=batch)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_integers_are_sensor_values_too(tiny_bundle: Bundle, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 10000, size=(5, 3, 2))
    for dtype in (np.uint16, np.int32, ">f8", np.float64):
        np.savez(tmp_path / "a.npz", array.astype(dtype))
        np.testing.assert_allclose(run(tiny_bundle, tmp_path / "a.npz"), reference(tiny_bundle.task, array), atol=1e-5)


def test_a_table_keeps_its_other_columns_and_takes_any_order(tiny_bundle: Bundle, tmp_path: Path) -> None:
    array = values(5)
    names = ["field, 0", 'the "first", %s', "", "100 %", "two\nlines\r"]
    rows = [[name, *reversed(row)] for name, row in zip(names, cells(array), strict=True)]
    source = write_csv(tmp_path / "a.csv", ["id", *reversed(HEADER)], rows)
    predict(tiny_bundle, source, tmp_path / "out.csv", precision="fp32", batch=2)
    with open(tmp_path / "out.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == ["id", "prediction", "probability_no crop", "probability_crop"]
    assert [row["id"] for row in found] == names
    expected = reference(tiny_bundle.task, array)
    assert [row["prediction"] for row in found] == [
        tiny_bundle.task.classes[index] for index in expected.argmax(axis=1)
    ]
    np.testing.assert_allclose([float(row["probability_crop"]) for row in found], expected[:, 1], rtol=1e-4)


def test_a_regression_table_has_the_unit(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle, array = make_bundle(kind="regression"), values(3)
    np.save(tmp_path / "a.npy", array)
    predict(bundle, tmp_path / "a.npy", tmp_path / "out.csv", precision="fp32")
    header, *rows = csv.reader(io.StringIO((tmp_path / "out.csv").read_text()))
    assert header == ["prediction", "unit"]
    assert {row[1] for row in rows} == {"%"}
    found = [float(row[0]) for row in rows]
    np.testing.assert_allclose(found, reference(bundle.task, array)[:, 0], rtol=1e-4, atol=1e-4)


def test_several_labels_are_joined(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle, array = make_bundle(kind="multilabel"), values(30)
    np.save(tmp_path / "a.npy", array)
    predict(bundle, tmp_path / "a.npy", tmp_path / "out.csv", precision="fp32")
    with open(tmp_path / "out.csv", newline="") as file:
        found = [row["prediction"] for row in csv.DictReader(file)]
    names = TASKS["multilabel"].classes
    expected = [
        ";".join(name for name, value in zip(names, row, strict=True) if value >= 0.5)
        for row in reference(bundle.task, array)
    ]
    assert found == expected
    assert any(";" in labels for labels in found)


def test_a_folder_says_which_file_a_row_comes_from(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    np.save(tmp_path / "samples" / "one.npy", values(1)[0])
    np.save(tmp_path / "samples" / "two.npy", values(2))
    (tmp_path / "samples" / "two.npy").rename(tmp_path / "samples" / "two.NPY")  # as cameras write .TIF
    (tmp_path / "samples" / "readme.txt").write_text("not a sample")
    predict(tiny_bundle, tmp_path / "samples", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        assert out["file"].tolist() == ["one.npy", "two.NPY", "two.NPY"]
        assert out["classes"].tolist() == ["no crop", "crop"]
        assert out["prediction"].shape == (3, 2)


def test_int8_is_the_default_where_the_bundle_has_it(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values(3))
    done = predict(make_bundle("both"), tmp_path / "a.npy", tmp_path / "out.npz")
    assert (done["precision"], done["samples"]) == ("int8", 3)
    done = predict(make_bundle("float", keys=("fp32",)), tmp_path / "a.npy", tmp_path / "out.npz")
    assert done["precision"] == "fp32"


def test_progress_adds_up_to_the_source(tiny_bundle: Bundle, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", HEADER, cells(values(100)))
    np.save(tmp_path / "a.npy", values(100))
    for name in ("a.csv", "a.npy"):
        sizes: list[int] = []
        predict(tiny_bundle, tmp_path / name, tmp_path / "out.npz", batch=32, progress=sizes.append)
        assert len(sizes) == 4
        assert sum(sizes) == pytest.approx(source_size(tmp_path / name), abs=200)


def test_the_columns_of_each_kind_of_modality() -> None:
    bands = (Band("VV"), Band("VH"))
    assert csv_columns(OPTICAL) == HEADER
    assert csv_columns(Modality("static", bands, ("band",), (2,))) == ["VV", "VH"]
    with pytest.raises(InputError, match="a table cannot hold images"):
        csv_columns(Modality("patch", bands, ("band", "y", "x"), (2, 8, 8)))


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def saved(path: Path, *arrays: Any, **named: Any) -> Path:
    if path.suffix == ".npz":
        np.savez(path, *arrays, **named)
    else:
        np.save(path, arrays[0], allow_pickle=True)
    return path


def corrupted(path: Path) -> Path:
    saved(path, values(500))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    return path


BAD_SOURCES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "wrong bands": (lambda t: saved(t / "a.npy", values(4)[..., :1]), r"shape \[4, 3, 1\].*2 bands: B04, ndvi"),
    "wrong axes": (lambda t: saved(t / "a.npz", values(4).reshape(4, 6)), r"\[n, 3, 2\] \(n, time, band\)"),
    "text": (lambda t: saved(t / "a.npy", np.full((4, 3, 2), "x")), "holds <U1 values; 'optical' needs integers"),
    "complex": (lambda t: saved(t / "a.npz", values(4).astype(np.complex64)), "holds complex64 values"),
    "pickle": (lambda t: saved(t / "a.npy", np.array([{"a": 1}])), r"a\.npy is not a whole \.npy file"),
    "pickle inside": (lambda t: saved(t / "a.npz", np.array([{"a": 1}])), "holds object values"),
    "no samples": (lambda t: saved(t / "a.npy", values(4)[:0]), "holds no samples"),
    "empty file": (lambda t: cut(saved(t / "a.npy", values(4)), 0), r"a\.npy is not a whole \.npy file"),
    "truncated npy": (lambda t: cut(saved(t / "a.npy", values(400)), 0.5), r"a\.npy is not a whole \.npy file"),
    "truncated npz": (lambda t: cut(saved(t / "a.npz", values(400)), 0.5), r"a\.npz is not a whole \.npz file"),
    "changed npz": (lambda t: corrupted(t / "a.npz"), r"a\.npz is not a whole \.npz file: Bad CRC"),
    "no such array": (
        lambda t: saved(t / "a.npz", sar=values(2), dem=values(2)),
        r"\['sar', 'dem'\]; name one 'optical'",
    ),
    "fortran": (lambda t: saved(t / "a.npz", np.asfortranarray(values(4))), "Fortran order"),
    "no file": (lambda t: t / "none.npy", r"none\.npy does not exist"),
    "other ending": (lambda t: write_csv(t / "a.txt", HEADER, []), r"the ending '\.txt' is not known"),
    "empty folder": (
        lambda t: (t / "void").mkdir() or t / "void",
        r"holds no \.npy, \.npz, \.tif, \.png or \.jpg file",
    ),
    "empty table": (lambda t: cut(write_csv(t / "a.csv", HEADER, []), 0), r"a\.csv is empty"),
    "header alone": (lambda t: write_csv(t / "a.csv", HEADER, []), "holds no samples"),
    "missing column": (lambda t: write_csv(t / "a.csv", HEADER[1:], []), "lacks 1 of the 6 columns.*B04_t0"),
    "semicolons": (
        lambda t: write_csv(t / "a.csv", [";".join(HEADER)], []),
        "has ';' between its columns; write it with",
    ),
    "column twice": (lambda t: write_csv(t / "a.csv", [*HEADER, "B04_t0"], []), "column 'B04_t0' is there twice"),
    "short row": (lambda t: write_csv(t / "a.csv", HEADER, [[1] * 6, [1] * 5]), "line 3: 5 cells; the header has 6"),
    "not a number": (
        lambda t: write_csv(t / "a.csv", HEADER, [[1] * 6, [1, 1, "high", 1, 1, 1]]),
        "line 3: 'high' in the column 'B04_t1' is not a number",
    ),
    "clash": (lambda t: write_csv(t / "a.csv", [*HEADER, "prediction"], [[1] * 7]), "column 'prediction' already"),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_a_bad_source_is_named_and_writes_nothing(tiny_bundle: Bundle, tmp_path: Path, case: str, ending: str) -> None:
    make, message = BAD_SOURCES[case]
    source, results = make(tmp_path), tmp_path / "results"
    results.mkdir()
    with pytest.raises(InputError, match=message):
        predict(tiny_bundle, source, results / f"out.{ending}")
    assert list(results.iterdir()) == []


def test_samples_without_any_value_are_counted(tiny_bundle: Bundle, tmp_path: Path) -> None:
    samples = values(9)
    samples[:, 0, 0] = np.nan  # still a sample
    samples[[2, 7]] = np.nan
    np.save(tmp_path / "x.npy", samples)
    done = predict(tiny_bundle, tmp_path / "x.npy", tmp_path / "out.csv", precision="fp32", batch=4)
    assert (done["samples"], done["empty"]) == (9, 2)
    arguments = [str(tiny_bundle.folder), str(tmp_path / "x.npy"), "-o", str(tmp_path / "out.csv")]
    result = CliRunner().invoke(main, ["predict", *arguments, "--precision", "fp32"], catch_exceptions=False)
    assert "Warning: 2 samples hold no value at all" in result.stderr


def test_an_output_that_does_not_fit_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", HEADER, cells(values(3)))
    before = source.read_text()
    (tmp_path / "folder.csv").mkdir()
    for out, message in (
        ("out.txt", r"must end in \.csv, \.npz or"), ("a.csv", "is the input"), ("folder.csv", "is a folder"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            predict(tiny_bundle, source, tmp_path / out)
    assert source.read_text() == before
    with pytest.raises(InputError, match="batch is 0"):
        predict(tiny_bundle, source, tmp_path / "out.csv", batch=0)


def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", optical=np.zeros((5000, 3, 2), np.float32))
    parts = read_samples(tmp_path / "a.npz", OPTICAL, 256)
    assert len(next(parts).values) == 256
    assert [len(part.values) for part in parts] == [256] * 18 + [136]


def test_an_archive_with_a_huge_header_is_not_unpacked(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A header that promises a terabyte costs nothing: rows are read one batch at a time."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 3, 2)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("optical.npy", header.getvalue())
    begin = time.perf_counter()
    with pytest.raises(InputError, match="bytes are missing"):
        predict(tiny_bundle, tmp_path / "a.npz", tmp_path / "out.csv")
    assert time.perf_counter() - begin < 1


def read_table(path: Path, batch: int = 4) -> tuple[np.ndarray, list[str]]:
    parts = list(read_samples(path, OPTICAL, batch))
    return np.concatenate([part.values for part in parts]), [text for part in parts for text in part.extras["id"]]


@pytest.fixture(params=["pyarrow", "no pyarrow"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are read with pyarrow, or on a device that lacks it."""
    if request.param == "no pyarrow":
        monkeypatch.setitem(sys.modules, "pyarrow", None)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_plain_table_and_a_quoted_one_hold_the_same(tmp_path: Path, newline: str) -> None:
    array = values(11)
    array[0, 0, 0] = array[3, 2, 1] = array[9] = np.nan  # first cell, last cell, a whole row
    names = [f"field {index}" for index in range(11)]
    names[5] = ""
    rows = [[name, *row] for name, row in zip(names, cells(array), strict=True)]
    plain, quoted = tmp_path / "plain.csv", tmp_path / "quoted.csv"
    with open(plain, "w", newline="") as file:
        csv.writer(file, lineterminator=newline).writerows([["id", *HEADER], *rows])
    rows[6][0] = 'field "6",' + newline + "by the river"  # from here on cell by cell, and across the piece's end
    rows[7][0] = 'field "7",' + newline + "by the river"
    with open(quoted, "w", newline="") as file:
        csv.writer(file, lineterminator=newline).writerows([["id", *HEADER], *rows])
    for path, expected in ((plain, names), (quoted, [row[0] for row in rows])):
        found, texts = read_table(path)
        np.testing.assert_array_equal(found, array)
        assert texts == expected
    told = sum(part.size for part in read_samples(plain, OPTICAL, 4))
    assert told == pytest.approx(source_size(plain), rel=0.2)  # for a progress bar


@pytest.mark.usefixtures("either_way")
def test_a_table_like_the_one_of_the_import_is_read_with_its_names_and_missing_values(tmp_path: Path) -> None:
    names = tuple(f"{band}({time})" for time in ("t-2", "t-1", "t") for band in ("B04", "ndvi"))
    imported = dataclasses.replace(OPTICAL, columns=names, nodata=-9999.0)
    array = values(9)
    array[1] = array[3, 2, 0] = array[4, 0, 1] = np.nan
    rows = [[f"n{i}", *row] for i, row in enumerate(cells(array))]
    rows[3][5], rows[4][2], rows[1][1:] = "-9999", "NA", ["null"] * 6
    for header in (names, HEADER):
        source = write_csv(tmp_path / "a.csv", ["id", *header], rows)
        parts = list(read_samples(source, imported, 4))
        np.testing.assert_array_equal(np.concatenate([part.values for part in parts]), array)
        assert [text for part in parts for text in part.extras["id"]] == [f"n{i}" for i in range(9)]
    assert Modality.from_json("optical", json.loads(json.dumps(imported.to_json()))) == imported
    source = write_csv(tmp_path / "a.csv", ["id", *names[1:]], [row[:-1] for row in rows])
    with pytest.raises(InputError, match=r"lacks 1 of the 6 columns that the bundle needs: B04\(t-2\)"):
        list(read_samples(source, imported, 4))


def test_the_imports_nodata_value_is_missing_in_arrays_too(tmp_path: Path) -> None:
    imported = dataclasses.replace(OPTICAL, nodata=-9999.0)
    stored = np.random.default_rng(0).integers(0, 9, (5, 3, 2)).astype(np.int16)
    stored[2, 1, 0] = -9999
    np.save(tmp_path / "a.npy", stored)
    np.savez(tmp_path / "a.npz", stored)
    for name in ("a.npy", "a.npz"):
        found = np.concatenate([part.values for part in read_samples(tmp_path / name, imported, 2)])
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.where(stored == -9999, np.nan, stored))


def test_rasters_come_with_their_scale_and_missing_values(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    rgb = Modality("rgb", (Band("red"), Band("nir")), ("band", "y", "x"), (2, 3, 4))
    stored = np.random.default_rng(0).integers(1, 10000, (3, 2, 3, 4)).astype(np.int16)
    stored[1, 0, 0, 0] = -1
    (tmp_path / "tiles").mkdir()
    for i, image in enumerate(stored):
        with rasterio.open(
            tmp_path / "tiles" / f"{i}.tif", "w", driver="GTiff", count=2, height=3, width=4, dtype="int16", nodata=-1,
            crs="EPSG:32632", transform=rasterio.Affine(1, 0, 500000, 0, -1, 5000000),
        ) as raster:  # fmt: skip
            raster.write(image)
            raster.scales, raster.offsets = (1e-4, 1e-4), (0.0, -0.1)
    parts = list(read_samples(tmp_path / "tiles", rgb, 2))
    expected = np.where(stored == -1, np.nan, stored * 1e-4 + np.array([0, -0.1])[:, None, None])
    np.testing.assert_allclose(np.concatenate([part.values for part in parts]), expected, rtol=1e-5)
    assert [name for part in parts for name in part.extras["file"]] == ["0.tif", "1.tif", "2.tif"]
    (one,) = read_samples(tmp_path / "tiles" / "2.tif", rgb, 2)
    np.testing.assert_allclose(one.values[0], expected[2], rtol=1e-5)
    with pytest.raises(InputError, match=r"0\.tif has shape \[2, 3, 4\]; 'optical' needs.*end the output in \.tif"):
        list(read_samples(tmp_path / "tiles", OPTICAL, 2))


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_numbers_are_read_as_python_reads_them(tmp_path: Path, quoting: Any) -> None:
    texts = ["1e3", " 2.5 ", "-0", "nan", "NaN", "inf", "+7", ".5", "16777217", "3.4e38", "1e-46", "0.1", "1_000"]
    source = tmp_path / "a.csv"
    with open(source, "w", newline="") as file:
        csv.writer(file, quoting=quoting).writerows([HEADER, *([text] * 6 for text in texts)])
    found = np.concatenate([part.values for part in read_samples(source, OPTICAL, 5)])
    np.testing.assert_array_equal(found[:, 0, 0], np.array([float(text) for text in texts], np.float32))


def test_a_table_of_several_blocks_comes_in_whole_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = values(500)
    source = write_csv(tmp_path / "a.csv", ["id", *HEADER], [[f"n{i}", *row] for i, row in enumerate(cells(array))])
    monkeypatch.setattr("edge.deploy.samples_csv._BLOCK", 4096)
    monkeypatch.setattr("edge.deploy.samples_csv._cell_by_cell", None)  # pyarrow does it alone
    parts = list(read_samples(source, OPTICAL, 64))
    assert [len(part.values) for part in parts] == [64] * 7 + [52]
    np.testing.assert_array_equal(np.concatenate([part.values for part in parts]), array)
    assert [text for part in parts for text in part.extras["id"]] == [f"n{i}" for i in range(500)]


def test_what_pyarrow_does_not_read_is_read_from_there_cell_by_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = cells(values(500))
    rows[400][2] = "1_000"  # a number to Python alone
    source = write_csv(tmp_path / "a.csv", HEADER, rows)
    monkeypatch.setattr("edge.deploy.samples_csv._BLOCK", 4096)
    found = np.concatenate([part.values for part in read_samples(source, OPTICAL, 64)])
    expected = values(500)
    expected.reshape(500, -1)[400, 2] = 1000
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("last", "message"),
    [
        (b"1,1,1,x,1,1\n", r"line 7: 'x' in the column 'ndvi_t1' is not a number"),
        (b"1,1,1,1,1\n", r"line 7: 5 cells; the header has 6"),
        (b"\n", r"line 7: 0 cells; the header has 6"),
        (b"1,1,1,1,1,1,\n", r"line 7: 7 cells"),
        (b'1,1,1,1,1,"1\n', r"line 7|line 8"),
        (b"1,1,1,1,1,\xff\n", r"a\.csv, (line|after line) "),
    ],
)
def test_a_fault_far_down_a_table_is_named_by_its_line(
    tiny_bundle: Bundle, tmp_path: Path, last: bytes, message: str
) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(",".join(HEADER).encode() + b"\n" + 5 * b"1,2,3,4,5,6\n" + last + b"1,1,1,1,1,1\n")
    with pytest.raises(InputError, match=message):
        predict(tiny_bundle, source, tmp_path / "out.csv", precision="fp32", batch=2)
    assert not (tmp_path / "out.csv").exists()


def test_what_a_rasters_mask_or_alpha_hides_is_missing_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    image = np.arange(1, 37).reshape(3, 3, 4)
    place = {"driver": "GTiff", "height": 3, "width": 4, "crs": "EPSG:32632"}
    place["transform"] = rasterio.Affine(1, 0, 500000, 0, -1, 5000000)
    seen = np.ones((3, 4), bool)
    seen[1, 2] = False
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "mask.tif", "w", dtype="uint8", count=3, **place) as raster,
    ):
        raster.write(image.astype(np.uint8))
        raster.write_mask(seen)
    colours = {"photometric": "RGB", "alpha": "YES"}
    with rasterio.open(tmp_path / "alpha.tif", "w", dtype="uint8", count=4, **colours, **place) as raster:
        raster.write(np.concatenate([image, 255 * seen[None]]).astype(np.uint8))
    bands = (Band("red"), Band("green"), Band("nir"))
    rgb = Modality("rgb", bands, ("band", "y", "x"), (3, 3, 4))
    for name in ("mask.tif", "alpha.tif"):
        (found,) = read_samples(tmp_path / name, rgb, 1)
        np.testing.assert_array_equal(found.values[0], np.where(seen, image, np.nan), err_msg=name)
    with rasterio.open(tmp_path / "slc.tif", "w", dtype="complex64", count=3, **place) as raster:
        raster.write(image.astype(np.complex64))
    with pytest.raises(InputError, match=r"slc\.tif holds complex64 values; give integers or floats"):
        list(read_samples(tmp_path / "slc.tif", rgb, 1))
