"""Crop or no crop, anywhere on Earth (two extractions of WorldCereal for tests): 1,000 samples of 12 months each.

Modalities as in `edge.train.sources.worldcereal_crop`, but the 12 months are those that end with the season, so the
first month is another one for each sample (of 2016-11 .. 2021-01); `date` is the first day.

Target: whether the land cover is a temporary crop (`is_temporary_crop`, a quarter of them). Groups: cells of 2 x 2
degrees, over both extractions, some of whose samples are neighbours; folds are made from them.
"""

from pathlib import Path

import numpy as np

from edge.tasks import Task
from edge.train.paired import PairedSet, write_paired_set
from edge.train.raw_files import raw_file, read_npz
from edge.train.sources.worldcereal_crop import arrays, modalities

TITLE = "WorldCereal monthly series with crop labels, worldwide 2016 to 2021"
LICENCE = "the repository of the extractions states none"
CITATION = "Van Tricht et al. 2023, WorldCereal, Earth Syst. Sci. Data 15, 5491-5515"
ADDRESSES: dict[str, str | None] = {}
BY_HAND = (
    "Give a folder that holds global_cropland.npz and global_croptype_upd.npz (made from worldcereal_testdf.parquet "
    "and worldcereal_testdf_upd.parquet of https://github.com/WorldCereal/presto-worldcereal) with --from FOLDER"
)

FILES = ("global_cropland.npz", "global_croptype_upd.npz")
MONTHS = 12
DEGREES = 2.0  # side of a group's cell: that of the groups which each file has for itself
_SHAPES: dict[str, tuple[int, ...]] = {
    "S2": (MONTHS, 9), "S1": (MONTHS, 2), "METEO": (MONTHS, 2), "DEM": (2,),
    "lat": (), "lon": (), "start_date": (), "is_temporary_crop": (),
}  # fmt: skip


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """Convert both files in `raw`, one after the other."""
    tables = [read_npz(raw_file(raw, name, BY_HAND), _SHAPES) for name in FILES]
    table = {name: np.concatenate([one[name] for one in tables]) for name in _SHAPES}
    return write_paired_set(
        folder,
        name="worldcereal-global",
        modalities=modalities(MONTHS),
        arrays=arrays(table),
        target=table["is_temporary_crop"],
        task=Task("binary", "cropland", ("other land", "temporary crops")),
        groups=cells(table["lat"], table["lon"]),
        date=table["start_date"],
        source={"title": TITLE, "licence": LICENCE, "citation": CITATION},
        default_modalities=("optical", "sar"),
    )


def cells(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Numbers (n,) of the cells of DEGREES x DEGREES in which the places (n,), in degrees, lie."""
    corners = np.floor(np.stack([latitude, longitude], axis=1) / DEGREES)
    return np.unique(corners, axis=0, return_inverse=True)[1].reshape(-1)
