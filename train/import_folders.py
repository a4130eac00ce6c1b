"""Folders of files become a paired set: one folder per modality, one file per sample, matched by name.

    ROOT/rgb/plot_1.tif   ROOT/lidar/plot_1.npy   labels.csv: name,species,plot

The labels decide which samples there are: a file without a label is counted and left out, a sample without a file lacks
that modality. Hidden files and folders do not count. GeoTIFF, PNG and JPEG give images (band, y, x); .npy gives what it
holds, a vector, a series (time, band) or an image. Files are read while the paired set is written, so the data may be
larger than the memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.deploy.raster import RASTERS, in_order, mark_missing, read_raster
from edge.errors import InputError
from edge.files import files_ending, inside
from edge.train.import_table import read_table
from edge.train.layout import Layout, describe_modality, nearest, read_labels, write_imported
from edge.train.paired import PairedSet

ENDINGS = (*RASTERS, ".npy")


@dataclass(frozen=True)
class Sample:
    """What one file holds."""

    values: np.ndarray  # float32, NaN = missing
    bands: tuple[str, ...]  # names from the file; () where it has none


@dataclass(frozen=True)
class Folder:
    """The files of one modality as rows of an array that are read when asked for."""

    files: tuple[Path | None, ...]  # None: the sample lacks this modality
    shape: tuple[int, ...]  # (n, *shape of a sample)
    nodata: float | None
    bands: tuple[str, ...]  # the order, by the names that files give; () where they give none
    tick: Callable[[], object]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """(rows, *shape of a sample) float32."""
        block = np.full((len(self.files[rows]), *self.shape[1:]), np.nan, np.float32)
        for i, file in enumerate(self.files[rows]):
            if file is not None:
                block[i] = self._read(file)
                self.tick()
        return block

    def _read(self, file: Path) -> np.ndarray:
        sample = read_sample(file, self.nodata)
        values = sample.values
        if values.shape != self.shape[1:]:
            raise InputError(
                f"{file} has shape {list(values.shape)}, the first file of its folder {list(self.shape[1:])}; "
                "cut or resample all files of a modality to one size"
            )
        return in_order(values, sample.bands, self.bands, file) if self.bands else values


def import_folders(
    root: Path,
    labels_file: Path,
    layout: Layout,
    folder: Path,
    *,
    say: Callable[[str], None] = lambda text: None,
    tick: Callable[[], object] = lambda: None,
) -> PairedSet:
    """Read the folders in `root` and the CSV or Parquet `labels_file` (column `name`: file names without ending).

    Without modalities in the layout every folder in `root` is one. `say` gets a line per count that a user should know,
    `tick` is called after each file that was read.
    InputError: an empty folder, two files of one name, files of different shape, a label table without `name`, and
    whatever write_paired_set refuses.
    """
    table = read_table(labels_file)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder")

    def column(name: str) -> np.ndarray:
        if name not in table:
            raise InputError(f"{labels_file} has no column {name!r}; {nearest(name, list(table))}")
        return table[name]

    names = [str(name) for name in column("name")]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise InputError(f"{labels_file}: the name {twice!r} stands there twice")
    labels = read_labels(layout, column)
    entries = layout.modalities or {
        path.name: {} for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] != "."
    }
    if not entries:
        raise InputError(f"{root} holds no folder; make one per modality")
    modalities, arrays = {}, {}
    for name, entry in entries.items():
        files = _match(name, inside(root, entry.get("folder", name)), names, say)
        first = read_sample(next(file for file in files if file is not None), layout.nodata)
        described = describe_modality(name, entry, first.values.shape, first.bands, nodata=layout.nodata)
        wanted = tuple(band.name for band in described.bands)
        if first.bands and sorted(wanted) != sorted(first.bands):
            say(f"{name}: files name their bands {', '.join(first.bands)}; the layout calls them {', '.join(wanted)}")
            wanted = first.bands
        shape = (len(names), *first.values.shape)
        arrays[name] = Folder(files, shape, layout.nodata, wanted if first.bands else (), tick)
        modalities[name] = described
    return write_imported(folder, layout, labels, modalities, arrays, {"folder": root.resolve().name})


def _match(name: str, folder: Path, names: list[str], say: Callable[[str], None]) -> tuple[Path | None, ...]:
    """The file of every sample in `names`, None where there is none."""
    by_stem: dict[str, Path] = {}
    for file in _data_files(folder):
        if file.stem in by_stem:
            raise InputError(f"{file} and {by_stem[file.stem].name} have one name; keep one of them")
        by_stem[file.stem] = file
    files = tuple(by_stem.get(sample) for sample in names)
    found = len(files) - files.count(None)
    if not found:
        first = sorted(by_stem)[0]
        raise InputError(f"no file in {folder} has a name of the labels: files are like {first!r}, names {names[0]!r}")
    if found < len(names):
        say(f"{name}: {len(names) - found} of {len(names)} samples have no file and lack this modality")
    if found < len(by_stem):
        say(f"{name}: {len(by_stem) - found} files have no label and are left out")
    return files


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; make one per modality or name it in the layout (`folder`)")
    files = files_ending(folder, ENDINGS)
    if not files:
        raise InputError(f"{folder} is empty: it holds no {', '.join(ENDINGS)} file")
    return files


def read_sample(file: Path, nodata: float | None) -> Sample:
    """One file. Missing: `nodata`, and what a raster says of itself."""
    if file.suffix.lower() in RASTERS:
        return Sample(*read_raster(file, nodata))
    try:
        values = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{file} is not a readable .npy file: {error}") from None
    if values.dtype.kind not in "biuf":
        raise InputError(f"{file} holds {values.dtype}, expected numbers")
    return Sample(mark_missing(values, nodata), ())
