"""Live fuel moisture content, western USA, 2015-2019 (Rao et al. 2020): 2,578 samples of 150 sites, 4 months each.

Modalities, months t-3, t-2, t-1, t:

    optical        Landsat-8, red, green, blue, swir, nir, nirv (reflectance x 10000), ndvi, ndwi     4 x 8
    sar            Sentinel-1, VV, VH and their difference, dB                                       4 x 3
    soil           silt, sand, clay, percent; -999 in the source is missing                          3
    topography     slope in degrees, elevation in m                                                  2
    canopy_height  m                                                                                 1
    land_cover     one-hot GlobCover 2009 codes that occur                                           12

Target: water per dry mass, percent. Groups: sites; `fold5` of lfmc.npz becomes the published folds. Date: the last day
of the month of the measurement, as the source gives it.

Raw files, the first that is there: `lfmc.npz`; `training_features.csv` or `.csv.gz` (one row per sample, columns such
as `vv(t-3)`); `feature_*.geojson` (the public original, one sample per file, the same names as properties). The pandas
pickle in kkraoj/lfmc_from_sar is not read: a pickle can run code. The original has 2,615 samples; where a site has
several on one date the first is kept, which leaves 2,578.
"""

import csv
import gzip
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import InputError
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.paired import PairedSet, write_paired_set

TITLE = "live fuel moisture content, western USA"
LICENCE = "CC BY-NC-ND 4.0"
CITATION = "Rao et al. 2020, SAR-enhanced mapping of live fuel moisture content, Remote Sens. Environ. 245, 111797"
ADDRESSES: dict[str, str | None] = {}
BY_HAND = (
    "Copy the public original (2,615 small GeoJSON files, https://source.coop/stanford/sar-moisture-conent) with "
    "`azcopy sync https://radiantearth.blob.core.windows.net/mlhub/su-sar-moisture-content FOLDER --recursive=true`, "
    "then run `edge data fetch lfmc --from FOLDER`; a folder with lfmc.npz or training_features.csv will do as well"
)

TIMES = ("t-3", "t-2", "t-1", "t")
OPTICAL = ("red", "green", "blue", "swir", "nir", "ndvi", "ndwi", "nirv")
SAR = ("vv", "vh", "vh_vv")
SOIL = ("silt", "sand", "clay")
SOIL_NODATA = -999


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """Convert the raw files in `raw` (see above); rows are sorted by site and date."""
    if raw is None:
        raise InputError(f"lfmc needs its raw files. {BY_HAND}")
    table = _from_npz(raw / "lfmc.npz") if (raw / "lfmc.npz").is_file() else _from_rows(_read_rows(raw))
    codes = np.unique(table["land_cover"])
    table["land_cover"] = table["land_cover"].reshape(-1, 1) == codes
    table["soil"] = np.where(table["soil"] == SOIL_NODATA, np.nan, table["soil"])
    modalities = _modalities(codes)
    return write_paired_set(
        folder,
        name="lfmc",
        modalities=modalities,
        arrays={name: table[name] for name in modalities},
        target=table["target"],
        task=Task("regression", "live fuel moisture", unit="%"),
        groups=table["groups"],
        fold=table.get("fold"),
        date=table.get("date"),
        source={"title": TITLE, "licence": LICENCE, "citation": CITATION},
        default_modalities=("optical", "sar"),
    )


def _modalities(codes: np.ndarray) -> dict[str, Modality]:
    indices = ("ndvi", "ndwi")
    optical = tuple(Band(name, "1" if name in indices else "reflectance x 10000") for name in OPTICAL)
    soil = tuple(Band(name, "%") for name in SOIL)
    cover = tuple(Band(f"globcover_{int(code)}") for code in codes)
    modalities = (
        Modality("optical", optical, ("time", "band"), (4, 8), "Landsat-8 OLI", TIMES),
        Modality("sar", tuple(Band(name, "dB") for name in SAR), ("time", "band"), (4, 3), "Sentinel-1 C-SAR", TIMES),
        Modality("soil", soil, ("band",), (3,), "soil map"),
        Modality("topography", (Band("slope", "degree"), Band("elevation", "m")), ("band",), (2,), "elevation model"),
        Modality("canopy_height", (Band("canopy_height", "m"),), ("band",), (1,), "canopy height map"),
        Modality("land_cover", cover, ("band",), (len(codes),), "GlobCover 2009"),
    )
    return {modality.name: modality for modality in modalities}


def _from_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as npz:
            return {
                "optical": npz["L8"],
                "sar": npz["S1"],
                "soil": npz["soil"],
                "topography": npz["DEM"],
                "canopy_height": npz["canopy_height"].reshape(-1, 1),
                "land_cover": npz["landcover_globcover"],
                "target": npz["lfmc"],
                "groups": npz["site"],
            } | {key: npz[name] for key, name in (("fold", "fold5"), ("date", "date")) if name in npz.files}
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{path} is not the expected file: {error}") from None


def _read_rows(raw: Path) -> list[dict[str, Any]]:
    for name in ("training_features.csv", "training_features.csv.gz"):
        if (raw / name).is_file():
            with gzip.open(raw / name, "rt") if name.endswith(".gz") else open(raw / name) as file:
                return list(csv.DictReader(file))
    files = sorted(raw.rglob("feature_*.geojson"))
    if not files:
        raise InputError(
            f"{raw} holds neither lfmc.npz nor training_features.csv(.gz) nor feature_*.geojson. {BY_HAND}"
        )
    return [json.loads(file.read_text())["properties"] for file in files]


def _from_rows(rows: Iterable[dict[str, Any]]) -> dict[str, np.ndarray]:
    try:
        first = {(row["site"], _day(row["date"])): row for row in reversed(list(rows))}  # the first of equals stays
        ordered = [first[key] for key in sorted(first)]
        sites = sorted({site for site, _ in first})
        return {
            "optical": _columns(ordered, [f"{band}({time})" for time in TIMES for band in OPTICAL]).reshape(-1, 4, 8),
            "sar": _columns(ordered, [f"{band}({time})" for time in TIMES for band in SAR]).reshape(-1, 4, 3),
            "soil": _columns(ordered, [f"{name}(t)" for name in SOIL]),
            "topography": _columns(ordered, ["slope(t)", "elevation(t)"]),
            "canopy_height": _columns(ordered, ["canopy_height(t)"]),
            "land_cover": _columns(ordered, ["forest_cover(t)"]),
            "target": _columns(ordered, ["percent(t)"])[:, 0],
            "groups": np.array([sites.index(row["site"]) for row in ordered]),
            "date": np.array([day for _, day in sorted(first)]),
        }
    except KeyError as error:
        raise InputError(f"the raw files of lfmc lack the column {error}") from None
    except ValueError as error:
        raise InputError(f"the raw files of lfmc hold a value that is no number or date: {error}") from None


def _columns(rows: list[dict[str, Any]], names: list[str]) -> np.ndarray:
    """(n, len(names)) float64; an empty cell is missing."""
    return np.array([[np.nan if row[name] in ("", None) else float(row[name]) for name in names] for row in rows])


def _day(text: str) -> str:
    """ISO date of `2015-06-30`, `2015-06-30T00:00:00` or `6/30/15`."""
    return datetime.strptime(text, "%m/%d/%y").date().isoformat() if "/" in text else text[:10]
