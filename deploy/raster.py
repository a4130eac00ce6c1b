"""GeoTIFF, PNG and JPEG: values as the sensor gives them, with what a file says of scale and missing values."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import BackendMissing, InputError

RASTERS = (".tif", ".tiff", ".png", ".jpg", ".jpeg")


# By the first bytes of the file: left to itself GDAL opens a virtual raster (VRT), too, which reads any file anywhere.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DRIVERS = {**dict.fromkeys(_TIFF, "GTiff"), b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG"}
# Left to itself GDAL fills what is damaged in a JPEG with grey, and what is cut off of a PNG with what the memory held.
_STRICT = {"GDAL_ERROR_ON_LIBJPEG_WARNING": "YES", "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}


@contextlib.contextmanager
def open_image(image: Path | bytes, name: str) -> Iterator[Any]:
    """A GeoTIFF, PNG or JPEG, from a file or from its bytes, opened by rasterio; `name` is for the error message."""
    rasterio = raster_library()
    driver = _driver(image, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # PNG and JPEG have no coordinates
            if isinstance(image, Path):
                for mask in filter(Path.exists, (Path(f"{image}.msk"), Path(f"{image}.MSK"))):  # GDAL opens it, too
                    _driver(mask, str(mask))
                with rasterio.open(image, driver=driver) as raster:
                    yield raster
            else:
                with rasterio.MemoryFile(image) as file, file.open(driver=driver) as raster:
                    yield raster
    except rasterio.errors.RasterioError as error:
        raise InputError(f"{name} is not a readable image: {error.__cause__ or error}") from None


def raster_library() -> Any:
    """The module rasterio, told to refuse damaged images in every thread; or BackendMissing."""
    try:
        import rasterio
    except ImportError:
        raise BackendMissing("rasterio is not installed; pip install 'edge-colearn[raster]'") from None
    os.environ.update(_STRICT)  # rasterio.Env would reach this thread alone
    return rasterio


def _driver(image: Path | bytes, name: str) -> str:
    try:
        with io.BytesIO(image) if isinstance(image, bytes) else open(image, "rb") as file:
            start = file.read(4)
    except OSError as error:
        raise InputError(f"{name} is not a readable image: {error}") from None
    for first, driver in _DRIVERS.items():
        if start.startswith(first):
            return driver
    raise InputError(f"{name} is not a readable image: no GeoTIFF, PNG or JPEG by its first bytes")


def read_raster(file: Path, nodata: float | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values (band, y, x) of the whole image, see `read_values`, and the bands' names, see `band_names`."""
    with open_image(file, str(file)) as raster:
        return read_values(raster, nodata), band_names(raster)


def read_values(
    raster: Any, nodata: float | None, window: Any = None, bands: Sequence[int] | None = None
) -> np.ndarray:
    """Values (band, y, x) float32 of an open image, or of a `window` and of some `bands` of it; NaN = missing.

    Missing is what equals `nodata` or the file's own nodata value of that band, and what its mask or alpha band hides,
    which is none of the bands (they count from 0). Scale and offset that the file states (GDAL: value = stored x scale
    + offset) are applied. InputError: complex numbers.
    """
    all_bands = image_bands(raster)
    taken = all_bands if bands is None else [all_bands[band] for band in bands]
    stored = raster.read([band + 1 for band in taken], window=window)
    if stored.dtype.kind not in "iuf":
        raise InputError(f"{raster.name} holds {stored.dtype} values; give integers or floats, such as amplitude in dB")
    values = mark_missing(stored, nodata)
    # Each of these asks GDAL about every band.
    nodatas, scales, offsets, masks = raster.nodatavals, raster.scales, raster.offsets, raster.mask_flag_enums
    for place, band in enumerate(taken):
        own, scale, offset = nodatas[band], scales[band], offsets[band]
        if own is not None:
            values[place][stored[place] == own] = np.nan
        if {flag.name for flag in masks[band]} & {"per_dataset", "alpha"}:
            values[place][raster.read_masks(band + 1, window=window) == 0] = np.nan
        if (scale, offset) != (1.0, 0.0):
            values[place] = values[place] * scale + offset
    return values


def band_names(raster: Any) -> tuple[str, ...]:
    """The names of the bands of an open image, () if it does not name them all."""
    names = tuple(raster.descriptions[band] for band in image_bands(raster))
    return names if all(names) else ()


def image_bands(raster: Any) -> list[int]:
    """All but an alpha band, counted from 0."""
    return [band for band, colour in enumerate(raster.colorinterp) if colour.name != "alpha"]


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
