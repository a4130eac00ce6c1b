"""Predictions for a scene as a map: a cloud-optimised GeoTIFF on the scene's coordinates.

A cell whose sample holds no value at all is missing.

    classes      bands `prediction` (number of the class; its name is the tag class_<number>) and `probability` of that
                 class, in percent (scale 0.01); uint8, missing 255 (uint16 and 65535 for 255 classes and more)
    multilabel   bands `probability_<class>`, in the same way
    regression   band `prediction`, float32 in the task's unit, missing NaN
"""

import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edge import __version__
from edge.deploy.raster import raster_library
from edge.deploy.samples import ahead, source_size
from edge.deploy.scene import Scene, Tile, open_scene
from edge.errors import InputError
from edge.sensors import Modality
from edge.tasks import Task

MAPS = (".tif", ".tiff")
_BLOCK = 512  # side of the map's blocks, as of cloud-optimised GeoTIFF in general


def write_map(
    path: Path,
    source: Path,
    modality: Modality,
    task: Task,
    run: Callable[[np.ndarray], np.ndarray],
    *,
    batch: int,
    stride: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Write the map of `source` (edge.deploy.scene) to `path` and say what was done.

    `run` predicts samples (k, *shape) to (k, n_outputs). Gives `samples`, predicted; `missing`, cells without any
    value; `rows`, `columns` and `stride` of the map; `bands_by_position`, whether the scene named no bands.
    `progress` gets the bytes of the source that a tile took. InputError: as `open_scene`, no value in all the scene, or
    no room for the map.
    """
    rasterio = raster_library()
    if path.parent.resolve() == source.resolve():
        raise InputError(f"the map would stand among the steps in {source}; write it to another folder")
    with open_scene(source, modality, stride) as scene, TemporaryDirectory(dir=path.parent, prefix=".map.") as folder:
        plain = Path(folder) / "plain.tif"
        try:
            tiles, predicted = _write_plain(
                plain, scene, task, run, batch, progress or (lambda _: None), source_size(source)
            )
            if predicted == 0:
                raise InputError(f"{source} holds no values: every pixel is missing")
            _write_cog(plain, path, task, tiles)
        except rasterio.errors.RasterioError as error:
            raise InputError(f"the map could not be written: {error}; is the disk full?") from None
        return {
            "samples": predicted,
            "missing": scene.rows * scene.columns - predicted,
            "rows": scene.rows,
            "columns": scene.columns,
            "stride": scene.stride,
            "bands_by_position": scene.by_position,
        }


def _write_plain(
    path: Path,
    scene: Scene,
    task: Task,
    run: Callable[[np.ndarray], np.ndarray],
    batch: int,
    progress: Callable[[int], None],
    size: int,
) -> tuple[dict[Tile, int], int]:
    """The map tile by tile; gives their checksums and the number of predicted cells. `size`: bytes of the source."""
    import rasterio

    tiles, predicted = {}, 0
    with rasterio.open(path, "w", **_profile(scene, task)) as file:
        _describe(file, task)
        for tile, pixels in ahead((tile, scene.read(tile)) for tile in scene.tiles()):
            values = np.full((file.count, tile.rows * tile.columns), file.nodata, file.dtypes[0])
            for samples, places in scene.samples(pixels, tile, batch):
                values[:, places] = _bands(run(samples), task)
                predicted += len(places)
            file.write(values.reshape(-1, tile.rows, tile.columns), window=_window(tile))
            tiles[tile] = zlib.crc32(values.tobytes())
            progress(size * tile.rows * tile.columns // (scene.rows * scene.columns))
    return tiles, predicted


def _write_cog(plain: Path, path: Path, task: Task, tiles: dict[Tile, int]) -> None:
    """With overviews: means of values, and of classes, which have none, every second one.

    Read back, because on a full disk GDAL loses blocks and says nothing.
    """
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
    from rasterio.shutil import copy

    resampling = "AVERAGE" if task.kind == "regression" else "NEAREST"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a map of a picture without coordinates has none
        try:
            copy(plain, path, driver="COG", COMPRESS="DEFLATE", BLOCKSIZE=_BLOCK, RESAMPLING=resampling)
        except (CPLE_BaseError, SystemError) as error:  # GDAL's own errors, and those that it has no words for
            raise RasterioIOError(str(error)) from None
        with rasterio.open(path) as file:
            for tile, checksum in tiles.items():
                if zlib.crc32(file.read(window=_window(tile)).tobytes()) != checksum:
                    raise RasterioIOError("blocks are missing in it")


def _window(tile: Tile) -> Any:
    from rasterio.windows import Window

    return Window(tile.column, tile.row, tile.columns, tile.rows)


def _profile(scene: Scene, task: Task) -> dict[str, Any]:
    crs, place, size = scene.files[0].crs, scene.files[0].transform, scene.stride
    if task.kind == "regression":
        kind: dict[str, Any] = {"dtype": "float32", "nodata": np.nan, "count": 1}
    else:
        number = np.uint8 if len(task.classes) < 255 else np.uint16
        count = len(task.classes) if task.kind == "multilabel" else 2
        kind = {"dtype": number, "nodata": np.iinfo(number).max, "count": count}
    return {
        "driver": "GTiff", "height": scene.rows, "width": scene.columns, "crs": crs,
        "transform": type(place)(place.a * size, place.b * size, place.c, place.d * size, place.e * size, place.f),
        "tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "compress": "deflate", "BIGTIFF": "IF_SAFER", **kind,
    }  # fmt: skip


def _describe(file: Any, task: Task) -> None:
    """Names, units and classes of the bands."""
    file.update_tags(TIFFTAG_SOFTWARE=f"edge-colearn {__version__}", task=task.name)
    if task.kind == "regression":
        file.descriptions, file.units = ["prediction"], [task.unit]
        return
    if task.kind == "multilabel":
        file.descriptions = [f"probability_{name}" for name in task.classes]
        file.scales = [0.01] * file.count
        return
    file.descriptions, file.scales = ["prediction", "probability"], [1.0, 0.01]
    file.update_tags(1, **{f"class_{number}": name for number, name in enumerate(task.classes)})


def _bands(outputs: np.ndarray, task: Task) -> np.ndarray:
    """The map's bands (count, k) from outputs (k, n_outputs)."""
    columns: np.ndarray = outputs.T
    if task.kind == "regression":
        return columns
    percent: np.ndarray = np.rint(100 * columns)
    return percent if task.kind == "multilabel" else np.stack([columns.argmax(axis=0), percent.max(axis=0)])
