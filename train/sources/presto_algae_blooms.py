"""Severity of algal blooms, USA 2013-2021, inputs of the Presto paper: 1,122 samples, 12 months each.

Modalities:

    optical     Sentinel-2, 11 bands, reflectance x 10000         12 x 11
    sar         Sentinel-1, VV and VH, dB                         12 x 2
    weather     ERA5, air temperature in K, precipitation in m    12 x 2
    topography  SRTM, elevation in m, slope in degrees            2

NDVI is left out: in the source it is (B07 - B03) / (B07 + B03), and B08 and B04 give the right one. So is the Dynamic
World class, which is made from the optical sensor. Target: severity 1 .. 5, a regression because the numbers are
ordered. Groups: cells of half a degree; `fold5` becomes the published folds. The official test set (`is_test`) is not
used: a random forest with all modalities has no skill on it (R2 -0.02).
"""

from pathlib import Path

from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.paired import PairedSet, write_paired_set
from edge.train.raw_files import raw_file, read_npz

TITLE = "algal bloom severity, Presto version"
LICENCE = "MIT (nasaharvest/presto)"
CITATION = "Tseng et al. 2023, Presto, arXiv 2304.14065; labels: NASA and DrivenData, Tick Tick Bloom, 2023"
ADDRESSES: dict[str, str | None] = {}
BY_HAND = (
    "Give a folder that holds algae_blooms.npz (made from data/algae_blooms/npy of "
    "https://github.com/nasaharvest/presto) with --from FOLDER"
)

OPTICAL = (
    ("B02", "blue"),
    ("B03", "green"),
    ("B04", "red"),
    ("B05", "rededge071"),
    ("B06", "rededge075"),
    ("B07", "rededge078"),
    ("B08", "nir"),
    ("B8A", "nir08"),
    ("B09", "nir09"),
    ("B11", "swir16"),
    ("B12", "swir22"),
)


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """Convert `algae_blooms.npz` in `raw`."""
    path = raw_file(raw, "algae_blooms.npz", BY_HAND)
    source = {"title": TITLE, "licence": LICENCE, "citation": CITATION}
    return convert_presto(path, folder, "presto-algae-blooms", Task("regression", "bloom severity"), 12, source)


def convert_presto(path: Path, folder: Path, name: str, task: Task, months: int, source: dict[str, str]) -> PairedSet:
    """Write a regression set of the Presto repository, series of `months` months, as the paired set `name`."""
    shapes = {"S2": (months, 11), "S1": (months, 2), "ERA5": (months, 2), "SRTM": (2,)}
    table = read_npz(path, shapes | {"target": (), "group": (), "fold5": ()})
    return write_paired_set(
        folder,
        name=name,
        modalities=presto_modalities(months),
        arrays={"optical": table["S2"], "sar": table["S1"], "weather": table["ERA5"], "topography": table["SRTM"]},
        target=table["target"],
        task=task,
        groups=table["group"],
        fold=table["fold5"],
        source=source,
        default_modalities=("optical", "sar"),
    )


def presto_modalities(months: int) -> dict[str, Modality]:
    """Sentinel-2, Sentinel-1, ERA5 and SRTM as exported from Earth Engine for CropHarvest and Presto."""
    optical = tuple(Band(name, "reflectance x 10000", common) for name, common in OPTICAL)
    weather = (Band("temperature_2m", "K"), Band("total_precipitation", "m"))
    times = tuple(f"m{month + 1:02d}" for month in range(months))  # position in the series, not a calendar month
    series = ("time", "band")
    modalities = (
        Modality("optical", optical, series, (months, 11), "Sentinel-2 MSI, level 1C", times),
        Modality("sar", (Band("VV", "dB"), Band("VH", "dB")), series, (months, 2), "Sentinel-1 C-SAR", times),
        Modality("weather", weather, series, (months, 2), "ERA5", times),
        Modality("topography", (Band("elevation", "m"), Band("slope", "degree")), ("band",), (2,), "SRTM"),
    )
    return {modality.name: modality for modality in modalities}
