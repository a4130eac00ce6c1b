"""Crop or no crop, the whole world (CropHarvest): about 69,000 labelled points with 12 months each.

Modalities (the archive has filled missing months with the mean of the band over the other months):

    optical     Sentinel-2, 11 bands, reflectance x 10000, and NDVI      12 x 12
    sar         Sentinel-1, VV and VH, dB                                12 x 2
    weather     ERA5, air temperature in K, precipitation in m           12 x 2
    topography  SRTM, elevation in m, slope in degrees                   2

The 12 months end in the month of the label's `export_end_date`, so the first step is not January everywhere. That day
is the date of a sample; `collection_date` is not, because many label sets hold one day for all of their points.

Target: `is_crop`. Points of the archive's own test regions (`is_test`) are left out, as in the published benchmarks.
Groups: cells of half a degree, whatever label set a point comes from: two sets may label one field.

Raw files: `labels.geojson`, and `features.tar.gz` or the folder `features/arrays` out of it, one `{index}_{dataset}.h5`
per point with the data set `array`, (12, 18) in the order of `BANDS`. Points without such a file are left out.
`edge.train.sources.cropharvest_multi` reads the same files.
"""

import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import InputError
from edge.files import read_json
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.paired import PairedSet, write_paired_set
from edge.train.raw_files import decode_hdf5, raw_file
from edge.train.sources.presto_algae_blooms import presto_modalities

TITLE = "CropHarvest, crop or no crop"
LICENCE = "CC BY-SA 4.0; the label sets in it have licences of their own (datasets.md of nasaharvest/cropharvest)"
CITATION = "Tseng et al. 2021, CropHarvest, NeurIPS Datasets and Benchmarks; doi 10.5281/zenodo.7257688"
ADDRESSES: dict[str, str | None] = {  # Zenodo publishes MD5 only
    "https://zenodo.org/records/7257688/files/labels.geojson": "md5:bf7bae6812fc7213481aff6a2e34517d",
    "https://zenodo.org/records/7257688/files/features.tar.gz": "md5:cad4df655c75caac805a80435e46ee3e",
}
BY_HAND = "Get labels.geojson and features.tar.gz from https://zenodo.org/records/7257688"

MONTHS, CELL = 12, 0.5  # CELL in degrees
OPTICAL = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
BANDS = ("VV", "VH", *OPTICAL, "temperature_2m", "total_precipitation", "elevation", "slope", "NDVI")


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """Convert `labels.geojson` and the features in `raw`; rows are sorted by data set and index."""
    points = read_points(raw, lambda point: True)
    names, arrays = read_arrays(raw, points)
    target = np.array([bool(points[name]["is_crop"]) for name in names])
    task = Task("binary", "cropland", ("non_crop", "crop"))
    return write(folder, [points[name] for name in names], arrays, task, target, "cropharvest-binary", TITLE)


def read_points(raw: Path | None, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, dict[str, Any]]:
    """The properties of all points that are `wanted` and not for testing, by the name of their feature file."""
    path = raw_file(raw, "labels.geojson", BY_HAND)
    document = read_json(path)
    try:
        points = [feature["properties"] for feature in document["features"]]
        points = [point for point in points if not point["is_test"] and wanted(point)]
        points.sort(key=lambda point: (point["dataset"], int(point["index"])))
        return {f"{int(point['index'])}_{point['dataset']}.h5": point for point in points}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not the expected table: {type(error).__name__} {error}") from None


def read_arrays(raw: Path | None, points: dict[str, dict[str, Any]]) -> tuple[list[str], np.ndarray]:
    """The names in `points` that have features, in their order, and the features (n, 12, 18) float32."""
    found = {}
    for name, data in _feature_files(raw):
        if name in points:
            (values,) = decode_hdf5(data, ("array",), name)
            if values.shape != (MONTHS, len(BANDS)):
                raise InputError(f"{name}: `array` has shape {values.shape}, expected {(MONTHS, len(BANDS))}")
            found[name] = values.astype(np.float32)
    if not found:
        raise InputError(f"{raw}: none of the {len(points)} points in labels.geojson has features. {BY_HAND}")
    names = [name for name in points if name in found]
    return names, np.stack([found[name] for name in names])


def write(
    folder: Path,
    points: list[dict[str, Any]],
    arrays: np.ndarray,
    task: Task,
    target: np.ndarray,
    name: str,
    title: str,
) -> PairedSet:
    """Write the `points` with `arrays` (n, 12, 18) and `target` (n,) as the paired set `name`."""
    cells = [(np.floor(point["lat"] / CELL), np.floor(point["lon"] / CELL)) for point in points]
    columns = {band: i for i, band in enumerate(BANDS)}
    modalities = presto_modalities(MONTHS)
    optical = modalities["optical"]
    modalities["optical"] = Modality(
        "optical", (*optical.bands, Band("NDVI")), optical.dims, (MONTHS, 12), optical.sensor, optical.times
    )
    return write_paired_set(
        folder,
        name=name,
        modalities=modalities,
        arrays={
            "optical": arrays[..., [columns[band] for band in (*OPTICAL, "NDVI")]],
            "sar": arrays[..., [columns[band] for band in ("VV", "VH")]],
            "weather": arrays[..., [columns[band] for band in ("temperature_2m", "total_precipitation")]],
            "topography": arrays[:, 0, [columns[band] for band in ("elevation", "slope")]],  # the same in all months
        },
        target=target,
        task=task,
        groups=np.unique(np.array(cells), axis=0, return_inverse=True)[1].reshape(-1),
        date=np.array([point["export_end_date"] for point in points]),
        source={"title": title, "licence": LICENCE, "citation": CITATION},
        default_modalities=("optical", "sar"),
    )


def _feature_files(raw: Path | None) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every .h5 file in `features/arrays`, or in `features.tar.gz` where there is no such folder."""
    if raw is not None and (raw / "features" / "arrays").is_dir():
        for file in sorted((raw / "features" / "arrays").glob("*.h5")):
            yield file.name, file.read_bytes()
        return
    path = raw_file(raw, "features.tar.gz", BY_HAND)
    try:
        with tarfile.open(path, "r|gz") as archive:  # read once from front to back; nothing is unpacked to the disk
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                content = archive.extractfile(member) if name.endswith(".h5") else None
                if content is not None:
                    yield name, content.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise InputError(f"{path} is not a readable archive: {error}; download it again") from None
