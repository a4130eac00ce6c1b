"""Flooded fraction of 378 tiles (OMBRIA, development part): Sentinel-1 and Sentinel-2 before and after 38 floods.

A tile has 256 x 256 pixels; the images are stored as means of 4 x 4 pixels, so that a small CPU can train on them.
Values are the authors' 8 bits, 0..255.

    optical  Sentinel-2 B11, B08, B03 before, then after                                      6 x 64 x 64
    sar      Sentinel-1 VV before, then after, scaled by the authors to 0..255 PER TILE       2 x 64 x 64

Traps: because of that scaling the sar values of two tiles cannot be compared, only patterns within a tile; 0 in the
optical images is dark water as well as cut off, so it is not taken as missing.

Target: share of flooded pixels (0..1), from the mask. Groups: floods. `split` of index.csv (whole floods; the authors'
own split has neighbouring tiles on both sides) becomes the split, `fold5` the published folds.
"""

import csv
import zipfile
from pathlib import Path

import numpy as np

from edge.errors import InputError
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.paired import PairedSet, write_paired_set
from edge.train.raw_files import block_mean, decode_image, raw_file

TITLE = "OMBRIA flood mapping, flooded fraction per tile"
LICENCE = "the repository states none; imagery: Copernicus Sentinel; masks: Copernicus EMS"
CITATION = "Drakonakis et al. 2022, OmbriaNet, IEEE JSTARS 15, 2341-2356"
ADDRESSES: dict[str, str | None] = {}
BY_HAND = (
    "Give a folder that holds index.csv and events/event_XX.zip (made from https://github.com/geodrak/OMBRIA) with "
    "--from FOLDER"
)

SIZE, STEP = 256, 4  # pixels; a stored pixel is the mean of STEP x STEP
SIDES = {"train": 0, "val": 1, "test": 2}
LAYERS = {"optical": ("S2_before", "S2_after"), "sar": ("S1_before", "S1_after")}


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """Convert `index.csv` and `events/*.zip` in `raw`; rows are those of index.csv."""
    index = raw_file(raw, "index.csv", BY_HAND)
    try:
        with open(index, newline="") as file:
            tiles = list(csv.DictReader(file))
        events = np.array([int(tile["event"]) for tile in tiles])
        fold = np.array([int(tile["fold5"]) for tile in tiles])
        split = np.array([SIDES[tile["split"]] for tile in tiles])
        names = [tile["tile"] for tile in tiles]
    except (KeyError, ValueError) as error:
        raise InputError(f"{index} is not the expected table: {error}") from None
    modalities = _modalities()
    arrays = {name: np.empty((len(tiles), *m.shape), np.float32) for name, m in modalities.items()}
    flooded = np.empty(len(tiles), np.float32)
    for event in np.unique(events):
        path = raw_file(raw, f"events/event_{event:02d}.zip", BY_HAND)
        try:
            with zipfile.ZipFile(path) as archive:
                for row in np.flatnonzero(events == event):
                    for name, layers in LAYERS.items():
                        pair = np.concatenate([_read(archive, layer, names[row]) for layer in layers])
                        arrays[name][row] = block_mean(pair, STEP)
                    flooded[row] = (_read(archive, "mask", names[row]) > 0).mean()
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise InputError(f"{path} is not the expected archive: {error}") from None
    return write_paired_set(
        folder,
        name="ombria",
        modalities=modalities,
        arrays=arrays,
        target=flooded,
        task=Task("regression", "flooded fraction"),
        groups=events,
        fold=fold,
        split=split,
        source={"title": TITLE, "licence": LICENCE, "citation": CITATION},
    )


def _read(archive: zipfile.ZipFile, layer: str, tile: str) -> np.ndarray:
    """(band, 256, 256) uint8."""
    name = f"{layer}/{tile}.png"
    image = decode_image(archive.read(name), f"{archive.filename}:{name}")
    if image.shape[1:] != (SIZE, SIZE):
        raise InputError(f"{archive.filename}:{name} has shape {image.shape}, expected {SIZE} x {SIZE} pixels")
    return image


def _modalities() -> dict[str, Modality]:
    when = ("before", "after")
    optical = tuple(
        Band(f"{name}_{time}", "8 bit", common)
        for time in when
        for name, common in (("B11", "swir16"), ("B08", "nir"), ("B03", "green"))
    )
    sar = tuple(Band(f"VV_{time}", "8 bit, scaled per tile") for time in when)
    image, size = ("band", "y", "x"), SIZE // STEP
    return {
        "optical": Modality("optical", optical, image, (6, size, size), "Sentinel-2 MSI"),
        "sar": Modality("sar", sar, image, (2, size, size), "Sentinel-1 C-SAR"),
    }
