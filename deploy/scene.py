"""A scene: GeoTIFF whose every pixel, or every window of an image student's size, is a sample.

The map of a scene has a cell for `stride` x `stride` pixels; the sample of a cell lies around the cell's middle. What
a window would read beyond the edge of the scene is missing (NaN).

    vector   SCENE.tif with the bands of a sample
    series   SCENE.tif with the bands of all steps, as the columns of a table are called (edge.deploy.samples_csv), or
             FOLDER with one file for each step, in the order of their names (9 before 10)
    image    SCENE.tif with the bands of a sample

Bands are found by their names, and others may be there; where a file names none of them they are taken in order.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.deploy.raster import RASTERS, band_names, image_bands, open_image, read_values
from edge.deploy.samples_csv import csv_columns, some_columns
from edge.errors import InputError
from edge.files import files_ending
from edge.sensors import Modality

_VALUES = 2**24  # of a scene that are read at once, if its blocks are no larger: 64 MiB as float32


@dataclass(frozen=True)
class Tile:
    """Cells of the map: `rows` x `columns` from `row`, `column` on."""

    row: int
    column: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Scene:
    """Open files that lie on one grid of pixels, the bands to take from each (counted from 0), and cells on them."""

    files: tuple[Any, ...]
    bands: tuple[tuple[int, ...], ...]
    by_position: bool  # the files name no bands
    modality: Modality
    stride: int

    @property
    def window(self) -> tuple[int, ...]:
        """Pixels of a sample: height, width."""
        return self.modality.shape[1:] if self.modality.kind == "image" else (1, 1)

    @property
    def rows(self) -> int:
        """Of the map."""
        return -(-int(self.files[0].height) // self.stride)

    @property
    def columns(self) -> int:
        """Of the map."""
        return -(-int(self.files[0].width) // self.stride)

    def tiles(self) -> Iterator[Tile]:
        """The whole map in pieces, each as many of the file's blocks, one below the other, as are read at once."""
        height, width = self.files[0].block_shapes[0]
        height *= max(1, _VALUES // (height * width * sum(map(len, self.bands))))
        rows, columns = (max(1, size // self.stride) for size in (height, width))
        for row in range(0, self.rows, rows):
            for column in range(0, self.columns, columns):
                yield Tile(row, column, min(rows, self.rows - row), min(columns, self.columns - column))

    def read(self, tile: Tile) -> np.ndarray:
        """The pixels (band, y, x) that the samples of a tile need, the first sample's first pixel first."""
        stride, (height, width) = self.stride, self.window
        top, left = tile.row * stride + (stride - height) // 2, tile.column * stride + (stride - width) // 2
        bottom, right = top + (tile.rows - 1) * stride + height, left + (tile.columns - 1) * stride + width
        pixels = np.full((sum(map(len, self.bands)), bottom - top, right - left), np.nan, np.float32)
        rows = max(top, 0), min(bottom, self.files[0].height)
        columns = max(left, 0), min(right, self.files[0].width)
        if rows[0] < rows[1] and columns[0] < columns[1]:
            inside = pixels[:, rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]
            done = 0
            for file, bands in zip(self.files, self.bands, strict=True):
                inside[done : done + len(bands)] = self._read(file, bands, (rows, columns))
                done += len(bands)
        return pixels

    def _read(self, file: Any, bands: tuple[int, ...], window: Any) -> np.ndarray:
        from rasterio.errors import RasterioError

        try:
            return read_values(file, self.modality.nodata, window, bands)
        except RasterioError as error:
            raise InputError(f"{file.name} cannot be read: {error}") from None

    def samples(self, pixels: np.ndarray, tile: Tile, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Samples (k, *shape) that hold any value, and their cells, counted row by row; `pixels` as `read` gives them.

        k is at most `batch`.
        """
        windows = np.lib.stride_tricks.sliding_window_view(pixels, self.window, axis=(1, 2))
        windows = windows[:, :: self.stride, :: self.stride].transpose(1, 2, 0, 3, 4)  # (row, column, band, y, x)
        for start in range(0, tile.rows * tile.columns, batch):
            cells = np.arange(start, min(start + batch, tile.rows * tile.columns))
            values = windows[cells // tile.columns, cells % tile.columns].reshape(len(cells), *self.modality.shape)
            seen = ~np.isnan(values).reshape(len(cells), -1).all(axis=1)
            if seen.any():
                yield np.ascontiguousarray(values[seen]), cells[seen]


@contextlib.contextmanager
def open_scene(source: Path, modality: Modality, stride: int | None = None) -> Iterator[Scene]:
    """Open a scene for samples of `modality`.

    `stride`: pixels, by default the window's smaller side: 1 for vectors and series. InputError: no such files, bands
    that do not fit, files on different grids.
    """
    paths = _steps(source, modality) if source.is_dir() else [source]
    if source.suffix.lower() not in RASTERS and not source.is_dir():
        raise InputError(f"{source} is no scene; a map needs an image, or for a series a folder of them")
    with contextlib.ExitStack() as stack:
        files = tuple(stack.enter_context(open_image(path, str(path))) for path in paths)
        for path, file in zip(paths, files, strict=True):
            _check_grid(path, file, paths[0], files[0])
        wanted = _wanted(modality, len(files))
        found = [_by_name(path, file, wanted) for path, file in zip(paths, files, strict=True)]
        bands = tuple(one or tuple(range(len(wanted[0]))) for one in found)
        if stride is None:
            stride = min(modality.shape[1:]) if modality.kind == "image" else 1
        if stride < 1:
            raise InputError(f"stride is {stride}; it must be at least 1")
        yield Scene(files, bands, None in found, modality, stride)


def _steps(folder: Path, modality: Modality) -> list[Path]:
    """One file for each step."""
    paths = files_ending(folder, RASTERS)
    if modality.kind != "series":
        raise InputError(f"{folder} is a folder; a map of {modality.name!r} is made of one image at a time")
    if len(paths) != modality.shape[0]:
        raise InputError(f"{folder} holds {len(paths)} images; {modality.name!r} needs {modality.shape[0]}, one a step")
    return paths


def _wanted(modality: Modality, files: int) -> list[tuple[str, ...]]:
    """What the bands of one file may be called: as we do, or as the table that the training data came from."""
    bands = tuple(band.name for band in modality.bands)
    if modality.kind == "series" and files == 1:
        return [tuple(csv_columns(modality)), *([modality.columns] if modality.columns else [])]
    return [bands, *([modality.columns] if modality.kind == "vector" and modality.columns else [])]


def _by_name(path: Path, file: Any, wanted: Sequence[tuple[str, ...]]) -> tuple[int, ...] | None:
    """The wanted bands; None if the file has as many as are needed and calls none of them as one that is wanted."""
    names, count = band_names(file), len(wanted[0])
    for columns in wanted:
        if set(columns) <= set(names):
            return tuple(map(names.index, columns))
    if set(names) & {name for columns in wanted for name in columns}:
        missing = [name for name in wanted[0] if name not in names]
        raise InputError(f"{path} lacks {len(missing)} of the {count} bands that it needs: {some_columns(missing)}")
    bands = len(image_bands(file))
    if bands != count:
        raise InputError(f"{path} has {bands} bands; the bundle needs {count}: {some_columns(list(wanted[0]))}")
    return None


def _check_grid(path: Path, file: Any, first_path: Path, first: Any) -> None:
    here, there = (
        {"size": [one.height, one.width], "coordinate system": one.crs, "position": one.transform}
        for one in (file, first)
    )
    for what, value in here.items():
        same = value.almost_equals(there[what]) if what == "position" else value == there[what]
        if not same:
            raise InputError(
                f"{path} and {first_path} differ in {what}; steps must lie on one grid (gdalwarp brings them there)"
            )
