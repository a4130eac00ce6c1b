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

    Missing is what equals `nodata` or the file's own nodata value of that band, and what its mask or alpha band hides,
    which is none of the bands. Scale and offset that the file states (GDAL: value = stored x scale + offset) are
    applied. InputError: no image, or complex numbers.
    """
    with open_image(file, str(file)) as raster:
        bands = [band for band, colour in enumerate(raster.colorinterp) if colour.name != "alpha"]
        stored = raster.read([band + 1 for band in bands])
        if stored.dtype.kind not in "iuf":
            raise InputError(f"{file} holds {stored.dtype} values; give integers or floats, such as amplitude in dB")
        values = mark_missing(stored, nodata).copy()
        for place, band in enumerate(bands):
            own, scale, offset = raster.nodatavals[band], raster.scales[band], raster.offsets[band]
            if own is not None:
                values[place][stored[place] == own] = np.nan
            if {flag.name for flag in raster.mask_flag_enums[band]} & {"per_dataset", "alpha"}:
                values[place][raster.read_masks(band + 1) == 0] = np.nan
            if (scale, offset) != (1.0, 0.0):
                values[place] = values[place] * scale + offset
        names = tuple(raster.descriptions[band] for band in bands)
    return values, names if all(names) else ()


def in_order(values: np.ndarray, names: tuple[str, ...], wanted: tuple[str, ...], file: Path) -> np.ndarray:
    """`values` (band, y, x) with the bands in the order `wanted`, where the file names them (`names` is not empty)."""
    if not names or names == wanted:
        return values
    if sorted(names) != sorted(wanted):
        raise InputError(f"{file} names its bands {', '.join(names)}; expected are {', '.join(wanted)}")
    return values[[names.index(name) for name in wanted]]


def mark_missing(values: np.ndarray, nodata: float | None) -> np.ndarray:
    """`values` as float32 with NaN where they equal `nodata`; the same array if there is nothing to change."""
    if nodata is None:
        return np.asarray(values, dtype=np.float32)
    result = values.astype(np.float32)
    result[values == nodata] = np.nan
    return result
