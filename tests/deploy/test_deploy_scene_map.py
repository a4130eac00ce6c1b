import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from full_disk import room_for
from tiny_bundles import OPTICAL, TASKS, reference, values

from edge.cli import main
from edge.deploy import scene
from edge.deploy.bundle import Bundle
from edge.deploy.predict import predict
from edge.deploy.samples_csv import csv_columns
from edge.deploy.scene_map import write_map
from edge.errors import InputError
from edge.sensors import Band, Modality
from edge.tasks import Task

rasterio = pytest.importorskip("rasterio")

COLUMNS = csv_columns(OPTICAL)
PLACE = rasterio.Affine(10, 0, 300_000, 0, -10, 5_000_000)  # pixels of 10 m
RGB = Modality("rgb", (Band("red"), Band("blue")), ("band", "y", "x"), (2, 3, 4))
VALUE = Task("regression", "height", (), "m")


def save(path: Path, array: np.ndarray, names: list[str] | None = None, **options: Any) -> Path:
    """`array` (band, y, x) as GeoTIFF."""
    options = {"transform": PLACE, "crs": "EPSG:32633", "nodata": np.nan, "dtype": array.dtype, **options}
    count, height, width = array.shape
    with rasterio.open(path, "w", driver="GTiff", count=count, height=height, width=width, **options) as file:
        file.write(array)
        if names:
            file.descriptions = names
    return path


def read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    with rasterio.open(path) as file:
        return file.read(), {"transform": file.transform, "tags": file.tags(1), **file.profile}


def pixels(rows: int = 7, columns: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """A scene (step x band, y, x), and its samples (y x x, step, band); the third pixel holds nothing."""
    samples = values(rows * columns)
    samples[2] = np.nan
    return samples.reshape(rows, columns, 6).transpose(2, 0, 1), samples


def expected_classes(samples: np.ndarray, rows: int = 7, columns: int = 5) -> np.ndarray:
    outputs = reference(TASKS["binary"], samples)
    bands = np.stack([outputs.argmax(axis=1), np.rint(100 * outputs.max(axis=1))])
    bands[:, np.isnan(samples).all(axis=(1, 2))] = 255
    return bands.reshape(2, rows, columns)


def test_every_pixel_of_a_scene_is_a_sample(tiny_bundle: Bundle, tmp_path: Path) -> None:
    array, samples = pixels()
    order = [3, 0, 5, 1, 4, 2]
    names = [COLUMNS[band] for band in order]
    source = save(tmp_path / "scene.tif", np.concatenate([array[order], array[:1]]), [*names, "slope"])
    done = predict(tiny_bundle, source, tmp_path / "map.tif", precision="fp32", batch=4)
    found, about = read(tmp_path / "map.tif")
    np.testing.assert_array_equal(found, expected_classes(samples))
    assert (about["transform"], about["crs"], about["nodata"], about["dtype"]) == (PLACE, "EPSG:32633", 255, "uint8")
    assert {key: about["tags"][key] for key in ("class_0", "class_1")} == {"class_0": "no crop", "class_1": "crop"}
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.descriptions, file.scales) == (("prediction", "probability"), (1.0, 0.01))
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert {key: done[key] for key in ("samples", "missing", "rows", "columns", "stride", "bands_by_position")} == {
        "samples": 34, "missing": 1, "rows": 7, "columns": 5, "stride": 1, "bands_by_position": False,
    }  # fmt: skip
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_holds_a_file_for_each_step(tiny_bundle: Bundle, tmp_path: Path, named: bool) -> None:
    array, samples = pixels()
    (tmp_path / "steps").mkdir()
    for step in range(3):
        part = array[2 * step : 2 * step + 2]
        given = (part[::-1], ["ndvi", "B04"]) if named else (part, None)
        save(tmp_path / "steps" / f"step-{step + 9}.tif", *given)
    done = predict(tiny_bundle, tmp_path / "steps", tmp_path / "map.tif", precision="fp32")
    np.testing.assert_array_equal(read(tmp_path / "map.tif")[0], expected_classes(samples))
    assert done["bands_by_position"] is not named


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_labels_and_values_have_their_bands(make_bundle: Callable[..., Bundle], tmp_path: Path, kind: str) -> None:
    array, samples = pixels()
    bundle, task = make_bundle("other", kind), TASKS[kind]
    predict(bundle, save(tmp_path / "scene.tif", array, COLUMNS), tmp_path / "map.tif", precision="fp32")
    found, about = read(tmp_path / "map.tif")
    outputs = reference(task, samples).T.reshape(-1, 7, 5)
    with rasterio.open(tmp_path / "map.tif") as file:
        names, units = file.descriptions, file.units
    if kind == "regression":
        outputs[:, 0, 2] = np.nan
        np.testing.assert_allclose(found, outputs, rtol=1e-4)
        assert (names, units, about["dtype"]) == (("prediction",), ("%",), "float32")
    else:
        outputs = np.rint(100 * outputs)
        outputs[:, 0, 2] = 255
        np.testing.assert_array_equal(found, outputs)
        assert names == ("probability_meadow", "probability_orchard", "probability_vineyard")


def total(samples: np.ndarray) -> np.ndarray:
    """A student that needs no graph: the first band's pixels weigh 1, 2, 3 ..., missing ones are 0."""
    filled = np.nan_to_num(samples[:, 0]).reshape(len(samples), -1)
    return (filled @ np.arange(1, filled.shape[1] + 1))[:, None]


@pytest.mark.parametrize("at_once", [1, 2**24])
@pytest.mark.parametrize("blocks", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
@pytest.mark.parametrize("stride", [None, 1, 2, 5, 18, 60])
def test_windows_lie_around_the_middle_of_their_cells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stride: int | None, blocks: dict[str, Any], at_once: int
) -> None:
    monkeypatch.setattr(scene, "_VALUES", at_once)
    array = np.random.default_rng(0).normal(size=(2, 37, 41)).astype(np.float32)
    array[:, 10:20, 10:20] = np.nan
    source = save(tmp_path / "scene.tif", array, ["red", "blue"], **blocks)
    done = write_map(tmp_path / "map.tif", source, RGB, VALUE, total, batch=10, stride=stride)
    found, about = read(tmp_path / "map.tif")
    step = stride or 3
    wide = np.pad(array, ((0, 0), (50, 50), (50, 50)), constant_values=np.nan)
    rows, columns = -(-37 // step), -(-41 // step)
    expected = np.full((rows, columns), np.nan)
    for row in range(rows):
        for column in range(columns):
            top, left = 50 + row * step + (step - 3) // 2, 50 + column * step + (step - 4) // 2
            window = wide[:, top : top + 3, left : left + 4]
            if not np.isnan(window).all():
                expected[row, column] = total(window[None])[0, 0]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)
    assert about["transform"] == rasterio.Affine(10 * step, 0, 300_000, 0, -10 * step, 5_000_000)
    assert (done["samples"], done["missing"]) == (np.isfinite(expected).sum(), np.isnan(expected).sum())


def test_a_cameras_photo_is_a_scene_without_coordinates(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    photo = np.linspace(0, 255, 3 * 32 * 48).reshape(32, 48, 3).astype(np.uint8)
    image.fromarray(photo).save(tmp_path / "DJI_0001.JPG", quality=95)
    camera = Modality("rgb", (Band("red"), Band("green"), Band("blue")), ("band", "y", "x"), (3, 16, 16))
    source = tmp_path / "DJI_0001.JPG"
    write_map(tmp_path / "map.tif", source, camera, VALUE, lambda s: s.mean(axis=(1, 2, 3))[:, None], batch=4)
    decoded = np.asarray(image.open(source), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        found, about = read(tmp_path / "map.tif")
    np.testing.assert_allclose(found[0], decoded.reshape(2, 16, 3, 16, 3).mean(axis=(1, 3, 4)), atol=0.5)
    assert about["crs"] is None


def test_scale_nodata_and_progress(tmp_path: Path) -> None:
    array = np.arange(2 * 6 * 8, dtype=np.int16).reshape(2, 6, 8)
    source = save(tmp_path / "scene.tif", array, ["red", "blue"], nodata=0)
    with rasterio.open(source, "r+") as file:
        file.scales, file.offsets = [0.5, 1], [-1, 0]
    steps: list[int] = []
    write_map(tmp_path / "map.tif", source, RGB, VALUE, total, batch=9, progress=steps.append)
    scaled = array[0] * 0.5 - 1
    scaled[0, 0] = 0  # missing
    corner = np.pad(scaled[None, None, :3, :3], ((0, 0), (0, 0), (0, 0), (1, 0)))  # 4 columns around 3
    np.testing.assert_allclose(read(tmp_path / "map.tif")[0][0, 0, 0], total(corner)[0, 0])
    assert 0.9 * source.stat().st_size < sum(steps) <= source.stat().st_size


def folder_of(tmp_path: Path, *arrays: np.ndarray, **options: Any) -> Path:
    (tmp_path / "steps").mkdir()
    for step, array in enumerate(arrays):
        save(tmp_path / "steps" / f"{step}.tif", array, **(options if step else {}))
    return tmp_path / "steps"


PART = np.ones((2, 4, 4), np.float32)
FAULTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "absent": (lambda t: t / "absent.tif", r"absent\.tif is not a readable image"),
    "table": (lambda t: t / "a.csv", r"a\.csv is no scene; a map needs an image"),
    "bands": (lambda t: save(t / "a.tif", PART), r"a\.tif has 2 bands; the bundle needs 6: B04_t0, ndvi_t0"),
    "names": (lambda t: save(t / "a.tif", PART, COLUMNS[:2]), r"lacks 4 of the 6 bands that it needs: B04_t1"),
    "steps": (lambda t: folder_of(t, PART), r"holds 1 images; 'optical' needs 3, one a step"),
    "size": (lambda t: folder_of(t, PART, PART[:, 1:], PART), r"differ in size"),
    "place": (
        lambda t: folder_of(t, PART, PART, PART, transform=rasterio.Affine(20, 0, 300_000, 0, -20, 5_000_000)),
        r"differ in position",
    ),
    "system": (lambda t: folder_of(t, PART, PART, PART, crs="EPSG:32634"), r"differ in coordinate system"),
    "empty": (lambda t: folder_of(t, *[PART * np.nan] * 3), r"holds no values: every pixel is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_scene_that_does_not_fit_is_named_and_nothing_is_written(
    tiny_bundle: Bundle, tmp_path: Path, fault: str
) -> None:
    make, message = FAULTS[fault]
    source = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message):
        predict(tiny_bundle, source, tmp_path / "map.tif", precision="fp32")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_scene_leaves_the_old_map(tiny_bundle: Bundle, tmp_path: Path) -> None:
    array, _ = pixels(64, 64)
    source = save(tmp_path / "scene.tif", array, COLUMNS, compress="deflate")
    data = source.read_bytes()
    source.write_bytes(data[:400] + bytes(len(data) - 800) + data[-400:])
    (tmp_path / "map.tif").write_text("old")
    with pytest.raises(InputError, match=r"scene\.tif"):
        predict(tiny_bundle, source, tmp_path / "map.tif", precision="fp32")
    assert (tmp_path / "map.tif").read_text() == "old"
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_breaks_no_map(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((2, 600, 600), np.float32)  # larger than a block: overviews
    source = save(tmp_path / "scene.tif", array, ["red", "blue"])
    camera = Modality("rgb", RGB.bands, ("band", "y", "x"), (2, 1, 1))

    def whole(path: Path) -> None:
        write_map(path, source, camera, VALUE, lambda samples: samples[:, 0, 0], batch=9999)

    whole(tmp_path / "map.tif")
    room = (tmp_path / "map.tif").stat().st_size
    for share in (0.001, 0.4, 0.9, 0.99):
        with (
            room_for(int(room * share)),
            pytest.raises(InputError, match=r"the map could not be written: .*; is the disk full"),
        ):
            whole(tmp_path / "new.tif")
    np.testing.assert_array_equal(read(tmp_path / "map.tif")[0], array[:1])


def test_other_faults_are_named(tiny_bundle: Bundle, tmp_path: Path) -> None:
    source = folder_of(tmp_path, PART, PART, PART)
    with pytest.raises(InputError, match="would stand among the steps"):
        predict(tiny_bundle, source, source / "map.tif")
    with pytest.raises(InputError, match="stride is 0; it must be at least 1"):
        predict(tiny_bundle, source, tmp_path / "map.tif", stride=0)
    with pytest.raises(InputError, match="a stride is for maps"):
        predict(tiny_bundle, source, tmp_path / "out.csv", stride=2)
    with pytest.raises(InputError, match="a map of 'rgb' is made of one image at a time"):
        write_map(tmp_path / "map.tif", source, RGB, VALUE, total, batch=1)


def test_the_command_makes_a_map(tiny_bundle: Bundle, tmp_path: Path) -> None:
    array, samples = pixels()
    source, out = save(tmp_path / "scene.tif", array), tmp_path / "map.tif"
    arguments = ["predict", str(tiny_bundle.folder), str(source), "-o", str(out), "--precision", "fp32"]
    result = CliRunner().invoke(main, [*arguments, "--stride", "2"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "taken in this order: B04, ndvi, step by step" in result.stderr
    assert "11 samples (1 more cells are missing), fp32 on onnxruntime" in result.stderr
    np.testing.assert_array_equal(read(out)[0], expected_classes(samples)[:, ::2, ::2])
    result = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["missing"] == 1
