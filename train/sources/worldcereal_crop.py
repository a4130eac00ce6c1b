"""Crop or no crop, Canada 2017 (WorldCereal's monthly extraction): 3,621 samples of 60 map cells, 18 months each.

Modalities, months 2017-01 .. 2018-06; a month without a clear observation is missing (NaN):

    optical     Sentinel-2, 9 bands, reflectance x 10000 as stored (clouds that were not masked are in it)     18 x 9
    sar         Sentinel-1, VV and VH, dB                                                                      18 x 2
    weather     AgERA5, mean air temperature in K and precipitation in mm (both stored x 100)                  18 x 2
    topography  elevation in m, slope as stored (its unit is not documented there)                             2

Target: whether the land cover is a temporary crop (`is_temporary_crop`). Groups: H3 cells of resolution 3, about 60 km
wide; `fold5` becomes the published folds. `edge.train.sources.worldcereal_types` has the same samples with crop types.
"""

from pathlib import Path

import numpy as np

from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.paired import PairedSet, write_paired_set
from edge.train.raw_files import raw_file, read_npz

TITLE = "WorldCereal monthly series with crop labels, Canada 2017"
LICENCE = "the repository of the extraction states none; labels: Open Government Licence - Canada"
CITATION = (
    "Van Tricht et al. 2023, WorldCereal, Earth Syst. Sci. Data 15, 5491-5515; labels: AAFC Annual Crop Inventory"
)
ADDRESSES: dict[str, str | None] = {}
BY_HAND = (
    "Give a folder that holds can_aafc_2017_monthly.npz (made from test_long_parquet_2017_CAN_AAFC-ACIGTD.parquet in "
    "the history of https://github.com/WorldCereal/presto-worldcereal) with --from FOLDER"
)

FILE = "can_aafc_2017_monthly.npz"
MONTHS = (*(f"2017-{month:02d}" for month in range(1, 13)), *(f"2018-{month:02d}" for month in range(1, 7)))
OPTICAL = (
    ("B02", "blue"),
    ("B03", "green"),
    ("B04", "red"),
    ("B05", "rededge071"),
    ("B06", "rededge075"),
    ("B07", "rededge078"),
    ("B08", "nir"),
    ("B11", "swir16"),
    ("B12", "swir22"),
)
STORED_PER_UNIT = 100  # AgERA5 values are stored as whole numbers: K x 100, mm x 100
_SHAPES = {"S2": (18, 9), "S1": (18, 2), "METEO": (18, 2), "DEM": (2,), "group_h3_l3": (), "fold5": ()}


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """Convert `can_aafc_2017_monthly.npz` in `raw`."""
    table = read(raw, {"is_temporary_crop": ()})
    task = Task("binary", "cropland", ("other land", "temporary crops"))
    return write(folder, table, task, table["is_temporary_crop"], "worldcereal-crop", TITLE)


def read(raw: Path | None, labels: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays that both WorldCereal sources use, and those named in `labels`."""
    return read_npz(raw_file(raw, FILE, BY_HAND), _SHAPES | labels)


def write(
    folder: Path, table: dict[str, np.ndarray], task: Task, target: np.ndarray, name: str, title: str
) -> PairedSet:
    """Write the samples of `table` (rows as in `target`) as the paired set `name`."""
    return write_paired_set(
        folder,
        name=name,
        modalities=modalities(len(MONTHS), MONTHS),
        arrays=arrays(table),
        target=target,
        task=task,
        groups=table["group_h3_l3"],
        fold=table["fold5"],
        source={"title": title, "licence": LICENCE, "citation": CITATION},
        default_modalities=("optical", "sar"),
    )


def arrays(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The modalities of an extraction, in the units of `modalities`."""
    weather = table["METEO"] / STORED_PER_UNIT
    return {"optical": table["S2"], "sar": table["S1"], "weather": weather, "topography": table["DEM"]}


def modalities(months: int, times: tuple[str, ...] = ()) -> dict[str, Modality]:
    """What stands in an extraction of so many months; `times` if they are the same for all samples."""
    optical = tuple(Band(name, "reflectance x 10000", common) for name, common in OPTICAL)
    sar = (Band("VV", "dB"), Band("VH", "dB"))
    weather = (Band("temperature_mean", "K"), Band("precipitation", "mm"))
    series = ("time", "band")
    found = (
        Modality("optical", optical, series, (months, 9), "Sentinel-2 MSI", times),
        Modality("sar", sar, series, (months, 2), "Sentinel-1 C-SAR", times),
        Modality("weather", weather, series, (months, 2), "AgERA5", times),
        Modality("topography", (Band("elevation", "m"), Band("slope")), ("band",), (2,), "elevation model"),
    )
    return {modality.name: modality for modality in found}
