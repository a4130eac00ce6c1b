"""Samples from files, as a stream: a file larger than the memory is read piece by piece.

    FILE.npy   (n, *shape of the modality) or one sample; numbers
    FILE.npz   the array named after the modality, or the only array; the same shapes
    FILE.csv   a header, one sample per row, see edge.deploy.samples_csv
    FILE.tif   GeoTIFF, PNG or JPEG (with the extra `raster`): one sample of an image; see edge.deploy.raster
    FOLDER     files of these kinds but tables, in the order of their names; the column `file` says where a row is from

Values are what the sensor gives. Missing are NaN and the modality's `nodata`, if it was imported with one. Integers and
other floats are converted to float32; only what a GeoTIFF says of its own scale and missing values is applied.
"""

import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from edge.deploy.raster import RASTERS, in_order, mark_missing, read_raster
from edge.errors import InputError
from edge.files import files_ending
from edge.sensors import Modality

Part = TypeVar("Part")

_SMALL = 2**20  # bytes; a folder's many small files are read at once, which takes half the time of mapping them


@dataclass(frozen=True)
class Samples:
    """Some samples: `values` (k, *shape) float32, `extras` k texts per kept column, `size` bytes of the source."""

    values: np.ndarray
    extras: dict[str, list[str]]
    size: int


def read_samples(source: Path, modality: Modality, batch: int) -> Iterator[Samples]:
    """Stream `source` in pieces of `batch` samples (fewer at the end of a file). InputError names what does not fit."""
    if source.is_dir():
        return _gathered(_folder(source, modality, batch), batch)
    if not source.is_file():
        raise InputError(f"{source} does not exist; give a .npz, .npy or .csv file or a folder")
    ending = source.suffix.lower()
    if ending in _FILES:
        return _FILES[ending](source, modality, batch)
    if ending == ".csv":
        from edge.deploy.samples_csv import read_csv

        return read_csv(source, modality, batch)
    raise InputError(
        f"{source}: the ending {source.suffix!r} is not known; use .npz, .npy, .csv, .tif, .jpg or a folder"
    )


def ahead(parts: Iterator[Part]) -> Iterator[Part]:
    """The same parts, each read while the one before it is predicted: engines let other threads work meanwhile."""
    with ThreadPoolExecutor(1, "read") as reader:
        following = reader.submit(next, parts, None)
        while (part := following.result()) is not None:
            following = reader.submit(next, parts, None)
            yield part


def source_size(source: Path) -> int:
    """Bytes that reading `source` will take, for a progress bar."""
    if source.is_dir():
        return sum(path.stat().st_size for path in files_ending(source, _FILES))
    return source.stat().st_size


def _npy(path: Path, modality: Modality, batch: int) -> Iterator[Samples]:
    try:
        small = path.stat().st_size <= _SMALL
        array = np.load(path, mmap_mode=None if small else "r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is not a whole .npy file: {error}") from None
    samples = _count(path, array.shape, array.dtype, modality)
    array = array.reshape(samples, *modality.shape)
    for start in range(0, samples, batch):
        part = array[start : start + batch]
        yield Samples(_values(part, modality), {}, part.nbytes)


def _npz(path: Path, modality: Modality, batch: int) -> Iterator[Samples]:
    """np.load would unpack the whole array; here a member is unpacked as it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if modality.name not in names and len(names) != 1:
                raise InputError(f"{path} holds {names}; name one {modality.name!r}, or keep a single array")
            name = modality.name if modality.name in names else names[0]
            member = archive.getinfo(f"{name}.npy")
            with archive.open(member) as file:
                yield from _rows(file, path, modality, batch, member.compress_size / max(1, member.file_size))
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path} is not a whole .npz file: {error}") from None


def _rows(file: IO[bytes], path: Path, modality: Modality, batch: int, packed: float) -> Iterator[Samples]:
    """The rows of one .npy inside an archive; `packed` bytes on disk are one byte here."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    samples = _count(path, shape, dtype, modality)
    if fortran and len(shape) > 1:
        raise InputError(f"{path} holds an array in Fortran order; write it with numpy.ascontiguousarray")
    row = dtype.itemsize * int(np.prod(modality.shape))
    for start in range(0, samples, batch):
        size = min(batch, samples - start) * row
        data = file.read(size)
        if len(data) < size:
            raise EOFError(f"{size - len(data)} bytes are missing")
        values = np.frombuffer(data, dtype).reshape(-1, *modality.shape)
        yield Samples(_values(values, modality), {}, int(size * packed))


def _values(part: np.ndarray, modality: Modality) -> np.ndarray:
    """As float32, with NaN for the modality's nodata value."""
    if modality.nodata is None:
        return np.ascontiguousarray(part, dtype=np.float32)
    return np.ascontiguousarray(mark_missing(part, modality.nodata))


def _raster(path: Path, modality: Modality, _: int) -> Iterator[Samples]:
    values, names = read_raster(path, modality.nodata)
    try:
        samples = _count(path, values.shape, values.dtype, modality)
    except InputError as error:
        raise InputError(f"{error.message}; for the map of a whole scene end the output in .tif") from None
    wanted = tuple(band.name for band in modality.bands)
    if sorted(names) == sorted(wanted):  # else they were renamed by the import
        values = in_order(values, names, wanted, path)
    yield Samples(values.reshape(samples, *modality.shape), {}, path.stat().st_size)


def _folder(folder: Path, modality: Modality, batch: int) -> Iterator[Samples]:
    files = files_ending(folder, _FILES)
    if not files:
        raise InputError(f"the folder {folder} holds no .npy, .npz, .tif, .png or .jpg file")
    for path in files:
        for part in _FILES[path.suffix.lower()](path, modality, batch):
            yield Samples(part.values, {"file": [path.name] * len(part.values)}, part.size)


_FILES = {".npy": _npy, ".npz": _npz, **dict.fromkeys(RASTERS, _raster)}


def _gathered(parts: Iterator[Samples], batch: int) -> Iterator[Samples]:
    """Join small pieces, such as files with one sample each, as long as they fill no more than a batch."""
    waiting: list[Samples] = []
    for part in parts:
        if waiting and sum(len(one.values) for one in waiting) + len(part.values) > batch:
            yield _joined(waiting)
            waiting = []
        waiting.append(part)
    yield _joined(waiting)


def _joined(parts: list[Samples]) -> Samples:
    extras = {key: [text for part in parts for text in part.extras[key]] for key in parts[0].extras}
    return Samples(np.concatenate([part.values for part in parts]), extras, sum(part.size for part in parts))


def _count(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], modality: Modality) -> int:
    """The number of samples in an array of this shape; InputError unless it holds numbers of this modality."""
    if dtype.kind not in "iuf":
        raise InputError(f"{path} holds {dtype} values; {modality.name!r} needs integers or floats")
    if shape == modality.shape:
        return 1
    if len(shape) == len(modality.shape) + 1 and shape[1:] == modality.shape:
        if shape[0] == 0:
            raise InputError(f"{path} holds no samples")
        return shape[0]
    wanted = f"[n, {', '.join(map(str, modality.shape))}] (n, {', '.join(modality.dims)})"
    names = ", ".join(band.name for band in modality.bands)
    raise InputError(
        f"{path} has shape {list(shape)}; {modality.name!r} needs {wanted}, {len(modality.bands)} bands: {names}"
    )
