"""Tree species from the air (IDTReeS 2020, NEON): 963 crowns of 11 species in 82 plots of 20 x 20 m, two sites.

A sample is a crown. The images are windows around the middle of its box, with the neighbouring trees: a random forest
gains from them, and cutting the box out would draw its outline into both images, a hint that no sensor gives. What lies
outside the plot is missing (NaN).

    rgb            camera, 6.4 m as 32 x 32 pixels of 20 cm (means of 2 x 2 original pixels), 0..255    3 x 32 x 32
    hyperspectral  mean reflectance x 10000 of the 1 m pixels whose middle is in the box, 369 bands     369
    lidar          canopy height in m, 9 m as 9 x 9 pixels of 1 m                                       1 x 9 x 9

All crowns have all three. None of the 369 bands is constant; the first is 0 in a quarter of the pixels and is kept.
Their wavelengths are not in the source (the instrument has 426 bands; the authors took the noisy ones out).

Target: species, those with 15 crowns or more; the 94 crowns of 22 rarer species are left out. Groups: plots; `fold5` of
crowns.csv becomes the published folds.
"""

import csv
from pathlib import Path

import numpy as np

from edge.errors import InputError
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.paired import PairedSet, write_paired_set
from edge.train.raw_files import block_mean, raw_file, read_npz

TITLE = "IDTReeS 2020 tree crowns: camera, imaging spectrometer, lidar"
LICENCE = "CC BY 4.0 (Zenodo 3934932; not verified)"
CITATION = "Graves et al. 2023, Data science competition for cross-site tree species identification, PeerJ 11, e16578"
ADDRESSES: dict[str, str | None] = {}
BY_HAND = (
    "Give a folder that holds plots.npz and crowns.csv (made from the competition's training data, "
    "https://zenodo.org/records/3934932) with --from FOLDER"
)

RGB_SIZE, LIDAR_SIZE = 32, 9  # pixels of 20 cm and of 1 m
HYPERSPECTRAL_BANDS = 369
CORNERS = ("xmin_px10cm", "ymin_px10cm", "xmax_px10cm", "ymax_px10cm")
RARE = "OTHER"


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """Convert `plots.npz` and `crowns.csv` in `raw`; rows are those of crowns.csv."""
    shapes = {"RGB": (3, 200, 200), "HSI": (HYPERSPECTRAL_BANDS, 20, 20), "CHM": (20, 20)}
    plots = read_npz(raw_file(raw, "plots.npz", BY_HAND), shapes)
    table = raw_file(raw, "crowns.csv", BY_HAND)
    try:
        with open(table, newline="") as file:
            crowns = [row for row in csv.DictReader(file) if row["class11"] != RARE]
        boxes = np.array([[float(row[corner]) for corner in CORNERS] for row in crowns]) / 10  # m from the upper left
        plot = np.array([int(row["plot_index"]) for row in crowns])
        fold = np.array([int(row["fold5"]) for row in crowns])
        classes, target = np.unique([row["class11"] for row in crowns], return_inverse=True)
    except (KeyError, ValueError) as error:
        raise InputError(f"{table} is not the expected table: {error}") from None
    if not len(plot) or plot.max() >= len(plots["RGB"]) or boxes.min() < 0 or boxes.max() > 20:
        raise InputError(f"{table} and plots.npz do not belong together: {len(plot)} crowns, {len(plots['RGB'])} plots")
    rgb, chm = block_mean(plots["RGB"], 2), plots["CHM"][:, None]
    arrays = {
        "rgb": np.stack([crown_window(rgb[i], box, 0.2, RGB_SIZE) for i, box in zip(plot, boxes, strict=True)]),
        "hyperspectral": np.stack([mean_spectrum(plots["HSI"][i], box) for i, box in zip(plot, boxes, strict=True)]),
        "lidar": np.stack([crown_window(chm[i], box, 1.0, LIDAR_SIZE) for i, box in zip(plot, boxes, strict=True)]),
    }
    return write_paired_set(
        folder,
        name="idtrees",
        modalities=_modalities(),
        arrays=arrays,
        target=target,
        task=Task("multiclass", "species", tuple(str(name) for name in classes)),
        groups=plot,
        fold=fold,
        source={"title": TITLE, "licence": LICENCE, "citation": CITATION},
    )


def crown_window(image: np.ndarray, box: np.ndarray, pixel: float, size: int) -> np.ndarray:
    """(band, size, size) float32 around the middle of `box`, NaN outside of `image`.

    `image` (band, y, x) has pixels of `pixel` m; `box` is xmin, ymin, xmax, ymax in m from its upper left corner.
    """
    top = round((box[1] + box[3]) / 2 / pixel - size / 2)
    left = round((box[0] + box[2]) / 2 / pixel - size / 2)
    padded = np.pad(image.astype(np.float32), ((0, 0), (size, size), (size, size)), constant_values=np.nan)
    return padded[:, top + size : top + 2 * size, left + size : left + 2 * size]


def mean_spectrum(cube: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(band,) float32: means of `cube` (band, y, x), pixels of 1 m, over the pixels of `box` (as in crown_window)."""
    rows = covered_pixels(box[1], box[3], 1.0, cube.shape[1])
    columns = covered_pixels(box[0], box[2], 1.0, cube.shape[2])
    return np.asarray(cube[:, rows[:, None], columns].mean(axis=(1, 2), dtype=np.float64).astype(np.float32))


def covered_pixels(low: float, high: float, pixel: float, length: int) -> np.ndarray:
    """Indices of the pixels, of `length` in a row, whose middle lies between `low` and `high` (m); at least one."""
    middles = (np.arange(length) + 0.5) * pixel
    covered = np.flatnonzero((middles >= low) & (middles <= high))
    return covered if len(covered) else np.abs(middles - (low + high) / 2).argmin()[None]


def _modalities() -> dict[str, Modality]:
    image = ("band", "y", "x")
    colours = tuple(Band(name, "1", name) for name in ("red", "green", "blue"))
    spectrum = tuple(Band(f"h{i + 1:03d}", "reflectance x 10000") for i in range(HYPERSPECTRAL_BANDS))
    modalities = (
        Modality("rgb", colours, image, (3, RGB_SIZE, RGB_SIZE), "NEON camera, 20 cm"),
        Modality("hyperspectral", spectrum, ("band",), (HYPERSPECTRAL_BANDS,), "NEON imaging spectrometer, 1 m"),
        Modality("lidar", (Band("canopy_height", "m"),), image, (1, LIDAR_SIZE, LIDAR_SIZE), "NEON lidar, 1 m"),
    )
    return {modality.name: modality for modality in modalities}
