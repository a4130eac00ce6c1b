"""Small files with the structure of real ones, for the tests of the importers."""

import csv
from pathlib import Path

import numpy as np


def write_csv(path: Path, columns: dict[str, list]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_geotiff(path: Path, values: np.ndarray, bands: tuple[str, ...] = (), nodata: float | None = None) -> None:
    """`values` (band, y, x); a metre per pixel somewhere in UTM zone 32."""
    import rasterio
    from rasterio.transform import Affine  # from_origin warns with affine 3.1

    profile = {"driver": "GTiff", "count": values.shape[0], "height": values.shape[1], "width": values.shape[2]}
    place = {"crs": "EPSG:32632", "transform": Affine(1, 0, 500000, 0, -1, 5000000)}
    with rasterio.open(path, "w", dtype=values.dtype, nodata=nodata, **profile, **place) as raster:
        raster.write(values)
        for i, band in enumerate(bands):
            raster.set_band_description(i + 1, band)


def write_png(path: Path, values: np.ndarray) -> None:
    """`values` (3, y, x) uint8."""
    from PIL import Image

    Image.fromarray(np.moveaxis(values, 0, -1)).save(path)
