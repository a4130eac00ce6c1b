"""GeoTIFF and PNG: values as the sensor gives them, with what the file itself says of scale and missing values."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import BackendMissing, InputError

RASTERS = (".tif", ".tiff", ".png")


@contextlib.contextmanager
def open_image(image: Path | bytes, name: str) -> Iterator[Any]:
    """A PNG or GeoTIFF, from a file or from its bytes, opened by rasterio; `name` is for the error message."""
    try:
        import rasterio
    except ImportError:
        raise BackendMissing("rasterio is not installed; pip install 'edge-colearn[raster]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # a PNG has no coordinates
            if isinstance(image, Path):
                with rasterio.open(image) as raster:
                    yield raster
            else:
                with rasterio.MemoryFile(image) as file, file.open() as raster:
                    yield raster
    except rasterio.errors.RasterioError as error:
        raise InputError(f"{name} is not a readable image: {error}") from None


def read_raster(file: Path, nodata: float | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values (band, y, x) float32, NaN = missing, and the bands' names, () if the file does not name them all.

    Missing is what equals `nodata`, or the file's own nodata value of that band. Scale and offset that the file states
    (GDAL: value = stored x scale + offset) are applied.
    """
    with open_image(file, str(file)) as raster:
        stored = raster.read()
        own, scales, offsets, names = raster.nodatavals, raster.scales, raster.offsets, tuple(raster.descriptions)
    values = mark_missing(stored, nodata)
    for band, (value, scale, offset) in enumerate(zip(own, scales, offsets, strict=True)):
        if value is not None:
            values[band][stored[band] == value] = np.nan
        if (scale, offset) != (1.0, 0.0):
            values[band] = values[band] * scale + offset
    return values, names if all(names) else ()


def mark_missing(values: np.ndarray, nodata: float | None) -> np.ndarray:
    """`values` as float32 with NaN where they equal `nodata`; the same array if there is nothing to change."""
    if nodata is None:
        return np.asarray(values, dtype=np.float32)
    result = values.astype(np.float32)
    result[values == nodata] = np.nan
    return result
