"""Tree genera in Lower Saxony, Germany (TreeSatAI Time Series): 50,381 patches of 60 x 60 m, multi-label.

Modalities:

    optical  Sentinel-2 level 2A, a year: 10 bands, reflectance x 10000, snow and cloud probability     146 x 12
    aerial   camera, 0.4 m (means of 2 x 2 original pixels): near infrared, green, blue, red, 0..255    4 x 152 x 152

The original series has 6 x 6 pixels of 10 m. Here a step is the mean over the patch, because a modality is a vector, a
series or an image, and not a series of images. Clouds are left in, their probability is a band. Pixels whose 10 bands
are all 0 hold no data; a step without data is missing. Patches were seen 146 times or less: the steps stand at the end,
in the order of the file, and what comes before is missing. The year of the series is 2017 for older aerial images.

Target: the 15 genera (one is "Cleared") that cover more than 7 % of a patch; patches where none does are left out. The
published split files become the split. They were not made by place, so neighbouring patches are on several sides, and
no grouping can be kept with them: every patch is a group of its own.

Raw files, each as the folder or the zip file of that name: `aerial` (*.tif), `sentinel-ts` (<patch>_<year>.h5 with the
data sets `sen-2-data`, T x 10 x 6 x 6, and `sen-2-masks`, T x 2 x 6 x 6), `labels` (the file LABELS: name of the image
to pairs of genus and share), `split` (train_, val_ and test_filenames.lst). Zip files are read as they are. The paired
set takes 19 GB.
"""

import json
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import InputError
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.paired import PairedSet, write_paired_set
from edge.train.raw_files import block_mean, decode_hdf5, decode_image

TITLE = "TreeSatAI Time Series"
LICENCE = "CC BY 4.0"
CITATION = (
    "Astruc et al. 2024, OmniSat, ECCV, arXiv 2404.08351; Ahlswede et al. 2023, TreeSatAI Benchmark Archive, Earth "
    "Syst. Sci. Data 15, 681-695"
)
_ADDRESS = "https://huggingface.co/datasets/IGNF/TreeSatAI-Time-Series/resolve/main/"
ADDRESSES: dict[str, str | None] = {
    f"{_ADDRESS}labels.zip": "fb32a4be77c8fbbcd8bd1ad7f47c6fd17d2c0ecfaa6b23e6f4d3c856e54d52a5",
    f"{_ADDRESS}split.zip": None,  # published as well, but we have not seen it
    f"{_ADDRESS}sentinel-ts.zip": "06648ae998ec185c39747a06a8957e311e8df854af8a1fa59329b6a2c7db48d7",  # 6.07 GB
    f"{_ADDRESS}aerial.zip": "158bfb707406c9ecf27e3df1b3838d9d3e014b4024fd54bd3a6f692d9938c01c",  # 15.9 GB
}
BY_HAND = "Get the zip files from https://huggingface.co/datasets/IGNF/TreeSatAI-Time-Series"

LABELS = "TreeSatBA_v9_60m_multi_labels.json"
LEAST_AREA = 0.07  # share of the patch, the threshold of the publications
SIDES = ("train", "val", "test")
STEPS, SERIES_BANDS = 146, ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
COMMON = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22")
PIXELS, AERIAL_STEP = 304, 2
GENERA = (
    "Abies",
    "Acer",
    "Alnus",
    "Betula",
    "Cleared",
    "Fagus",
    "Fraxinus",
    "Larix",
    "Picea",
    "Pinus",
    "Populus",
    "Prunus",
    "Pseudotsuga",
    "Quercus",
    "Tilia",
)


@dataclass(frozen=True)
class Files:
    """Files by their name without folder; those of a zip file are read from there."""

    where: dict[str, str]
    archive: zipfile.ZipFile | None

    def __getitem__(self, name: str) -> bytes:
        path = self.where[name]
        try:
            return self.archive.read(path) if self.archive else Path(path).read_bytes()
        except (zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path} in its archive is not readable: {error}; download it again") from None


@dataclass(frozen=True)
class Series:
    """Sentinel-2 series as rows (146, 12) that are read when asked for."""

    files: Files
    names: tuple[str | None, ...]  # None: the patch has no series
    shape: tuple[int, ...]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """(rows, 146, 12) float32."""
        names = self.names[rows]
        block = np.full((len(names), *self.shape[1:]), np.nan, np.float32)
        for i, name in enumerate(names):
            if name is not None:
                series = patch_means(*decode_hdf5(self.files[name], ("sen-2-data", "sen-2-masks"), name))[-STEPS:]
                block[i, STEPS - len(series) :] = series
        return block


@dataclass(frozen=True)
class Aerial:
    """Aerial images as rows (4, 152, 152) that are read when asked for."""

    files: Files
    names: tuple[str | None, ...]
    shape: tuple[int, ...]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """(rows, 4, 152, 152) float32."""
        names = self.names[rows]
        block = np.full((len(names), *self.shape[1:]), np.nan, np.float32)
        for i, name in enumerate(names):
            if name is not None:
                image = decode_image(self.files[name], name)
                if image.shape != (4, PIXELS, PIXELS):
                    raise InputError(f"{name} has shape {image.shape}, expected {(4, PIXELS, PIXELS)}")
                block[i] = block_mean(image, AERIAL_STEP)
        return block


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """Convert the raw files in `raw`; rows are those of the split files, training first."""
    if raw is None:
        raise InputError(f"treesatai-ts needs its raw files. {BY_HAND}")
    patches, split, target = _labelled_patches(raw)
    aerial, series = open_files(raw, "aerial"), open_files(raw, "sentinel-ts")
    by_patch = {name.rsplit("_", 1)[0]: name for name in sorted(series.where)}  # <patch>_<year>.h5
    modalities = _modalities()
    rows = len(patches)
    occurring = target.any(axis=0)
    return write_paired_set(
        folder,
        name="treesatai-ts",
        modalities=modalities,
        arrays={
            "optical": Series(
                series, tuple(by_patch.get(patch) for patch in patches), (rows, *modalities["optical"].shape)
            ),
            "aerial": Aerial(
                aerial,
                tuple(f"{patch}.tif" if f"{patch}.tif" in aerial.where else None for patch in patches),
                (rows, *modalities["aerial"].shape),
            ),
        },
        target=target[:, occurring],
        task=Task("multilabel", "genus", tuple(np.array(GENERA)[occurring].tolist())),
        groups=np.arange(rows),
        split=split,
        source={"title": TITLE, "licence": LICENCE, "citation": CITATION},
    )


def open_files(raw: Path, name: str) -> Files:
    """The files of the folder `raw`/`name`, or of the zip file `raw`/`name`.zip."""
    if (raw / name).is_dir():
        return Files({path.name: str(path) for path in (raw / name).rglob("*") if path.is_file()}, None)
    path = raw / f"{name}.zip"
    if not path.is_file():
        raise InputError(f"{raw} holds neither the folder {name} nor {name}.zip. {BY_HAND}")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is not a readable archive: {error}; download it again") from None
    return Files({member.rsplit("/", 1)[-1]: member for member in archive.namelist()}, archive)


def patch_means(data: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(T, 12) float64 of `data` (T, 10, 6, 6) and `masks` (T, 2, 6, 6): means over the pixels that hold data."""
    valid = (data != 0).any(axis=1, keepdims=True)  # (T, 1, 6, 6)
    values = np.concatenate([data, masks], axis=1, dtype=np.float64)
    count = valid.sum(axis=(2, 3))  # (T, 1)
    return np.asarray((values * valid).sum(axis=(2, 3)) / np.where(count == 0, np.nan, count))


def genera_above(labels: Iterable[tuple[str, float]]) -> np.ndarray:
    """(15,) bool: the genera with more than the least area among `labels`, pairs of genus and share."""
    present = {genus for genus, area in labels if area > LEAST_AREA}
    return np.array([genus in present for genus in GENERA])


def _labelled_patches(raw: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Patch names, their sides of the split (n,) and genera (n, 15); patches without any genus are left out."""
    labels_files, split_files = open_files(raw, "labels"), open_files(raw, "split")
    try:
        labels = json.loads(labels_files[LABELS])
        listed = [
            (name.strip(), side)
            for side, text in enumerate(SIDES)
            for name in split_files[f"{text}_filenames.lst"].decode().splitlines()
            if name.strip()
        ]
        genera = np.array([genera_above(labels[name]) for name, _ in listed]).reshape(-1, len(GENERA))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{raw}: labels and split are not the expected files: {error!r}") from None
    labelled = np.asarray(genera.any(axis=1))
    patches = [name.removesuffix(".tif") for (name, _), keep in zip(listed, labelled, strict=True) if keep]
    sides = np.array([side for _, side in listed])[labelled]
    return patches, sides, genera[labelled]


def _modalities() -> dict[str, Modality]:
    series = (
        *(Band(name, "reflectance x 10000", common) for name, common in zip(SERIES_BANDS, COMMON, strict=True)),
        Band("snow_probability", "%"),
        Band("cloud_probability", "%"),
    )
    aerial = tuple(Band(name, "8 bit", name) for name in ("nir", "green", "blue", "red"))
    size = PIXELS // AERIAL_STEP
    return {
        "optical": Modality("optical", series, ("time", "band"), (STEPS, len(series)), "Sentinel-2 MSI, level 2A"),
        "aerial": Modality("aerial", aerial, ("band", "y", "x"), (4, size, size), "aerial camera"),
    }
