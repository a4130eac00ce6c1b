"""Samples from files, as a stream: a file larger than the memory is read piece by piece.

    FILE.npy   (n, *shape of the modality) or one sample; numbers
    FILE.npz   the array named after the modality, or the only array; the same shapes
    FILE.csv   a header, one sample per row, see `csv_columns`; an empty cell is a missing value; others are kept
    FOLDER     .npy and .npz files, in the order of their names; the column `file` says where a row comes from

Values are what the sensor gives, NaN = missing. Integers and other floats are converted to float32; nothing is scaled.
"""

import csv
import itertools
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import numpy as np

from edge.errors import InputError
from edge.sensors import Modality

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
    if source.suffix in _ARRAYS:
        return _ARRAYS[source.suffix](source, modality, batch)
    if source.suffix == ".csv":
        return _csv(source, modality, batch)
    raise InputError(f"{source}: the ending {source.suffix!r} is not known; use .npz, .npy, .csv or a folder")


def source_size(source: Path) -> int:
    """Bytes that reading `source` will take, for a progress bar."""
    if source.is_dir():
        return sum(path.stat().st_size for path in source.iterdir() if path.suffix in _ARRAYS)
    return source.stat().st_size


def csv_columns(modality: Modality) -> list[str]:
    """The columns of a sample: `<band>` for a vector; `<band>_t0`, `<band>_t1` ... for a series; any order will do."""
    names = [band.name for band in modality.bands]
    if modality.kind == "vector":
        return names
    if modality.kind == "series":
        return [f"{name}_t{step}" for step in range(modality.shape[0]) for name in names]
    raise InputError(f"a table cannot hold images, and {modality.name!r} is one; give .npy, .npz or a folder")


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
        yield Samples(np.ascontiguousarray(part, dtype=np.float32), {}, part.nbytes)


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
        yield Samples(np.ascontiguousarray(values, dtype=np.float32), {}, int(size * packed))


def _folder(folder: Path, modality: Modality, batch: int) -> Iterator[Samples]:
    files = sorted(path for path in folder.iterdir() if path.suffix in _ARRAYS and not path.name.startswith("."))
    if not files:
        raise InputError(f"the folder {folder} holds no .npy or .npz file")
    for path in files:
        for part in _ARRAYS[path.suffix](path, modality, batch):
            yield Samples(part.values, {"file": [path.name] * len(part.values)}, part.size)


_ARRAYS = {".npy": _npy, ".npz": _npz}


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


def _csv(path: Path, modality: Modality, batch: int) -> Iterator[Samples]:
    """Numbers through numpy's parser as long as the file is plain, the rest, and what is wrong, cell by cell."""
    done = 0
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.reader(file)
            header = next(reader, [])
            done = reader.line_num
            places, kept = _places(path, header, csv_columns(modality))
            while lines := list(itertools.islice(file, batch)):
                part = _plain(lines, len(header), places, kept, modality)
                if part is None:
                    yield from _cell_by_cell(path, itertools.chain(lines, file), done, header, modality, batch)
                    return
                yield part
                done += len(lines)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}, after line {done}: {error}") from None


def _plain(
    lines: list[str], columns: int, places: list[int], kept: dict[str, int], modality: Modality
) -> Samples | None:
    """Lines without quotes, with a number or nothing in each cell; None for others. Half the time of `_table`."""
    if columns == 1 or any('"' in line or line.count(",") != columns - 1 for line in lines):
        return None  # of one column, a blank line would be skipped
    bare = [line.rstrip("\r\n") for line in lines]
    try:
        used = places if kept else None  # without a choice numpy is faster
        values = np.loadtxt(map(_filled, bare), np.float32, comments=None, delimiter=",", usecols=used, ndmin=2)
        values = values if kept else values.take(places, axis=1)
    except ValueError:
        return None
    cells = [line.split(",") for line in bare] if kept else []
    extras = {name: list(map(itemgetter(place), cells)) for name, place in kept.items()}
    return Samples(values.reshape(-1, *modality.shape), extras, sum(map(len, lines)))


def _filled(line: str) -> str:
    """An empty cell is a missing value."""
    if ",," in line or line.startswith(",") or line.endswith(","):
        return ",".join(cell or "nan" for cell in line.split(","))
    return line


def _cell_by_cell(
    path: Path, lines: Iterator[str], before: int, header: list[str], modality: Modality, batch: int
) -> Iterator[Samples]:
    """All that a table may be; `before`: lines that were read already."""
    places, kept = _places(path, header, csv_columns(modality))
    read = [0]
    reader = csv.reader(_counting(lines, read))
    rows: list[list[str]] = []
    try:
        for row in reader:
            if len(row) != len(header):
                line = before + reader.line_num
                raise InputError(f"{path}, line {line}: {len(row)} cells; the header has {len(header)}")
            rows.append(row)
            if len(rows) == batch:
                yield _table(path, rows, places, kept, modality, before + reader.line_num, read)
                rows = []
        if rows:
            yield _table(path, rows, places, kept, modality, before + reader.line_num, read)
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}, line {before + reader.line_num}: {error}") from None


def _counting(lines: Iterator[str], read: list[int]) -> Iterator[str]:
    for line in lines:
        read[0] += len(line)
        yield line


def _places(path: Path, header: list[str], wanted: list[str]) -> tuple[list[int], dict[str, int]]:
    """Where the wanted columns and the others stand."""
    if not header:
        raise InputError(f"{path} is empty; its first line must name the columns {_some(wanted)}")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path}: the column {twice!r} is there twice")
    missing = [name for name in wanted if name not in header]
    if missing:
        raise InputError(
            f"{path} lacks {len(missing)} of the {len(wanted)} columns that the bundle needs: {_some(missing)}"
        )
    others = set(header) - set(wanted)
    return [header.index(name) for name in wanted], {name: place for place, name in enumerate(header) if name in others}


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" ... {names[-1]}" if len(names) > 6 else "")


def _table(
    path: Path,
    rows: list[list[str]],
    places: list[int],
    kept: dict[str, int],
    modality: Modality,
    line: int,
    read: list[int],
) -> Samples:
    """Rows of text as numbers; `read[0]`, the characters so far, begins again at 0."""
    cells = [[row[place] or "nan" for place in places] for row in rows]
    try:
        values = np.array(cells, dtype=np.float32).reshape(-1, *modality.shape)
    except ValueError:
        raise InputError(_not_a_number(path, cells, csv_columns(modality), line)) from None
    size, read[0] = read[0], 0
    return Samples(values, {name: list(map(itemgetter(place), rows)) for name, place in kept.items()}, size)


def _not_a_number(path: Path, cells: list[list[str]], names: list[str], line: int) -> str:
    """Name the first cell that is no number; `line` is the last of them."""
    for back, row in enumerate(cells):
        for name, cell in zip(names, row, strict=True):
            if not _is_number(cell):
                at = line - len(cells) + 1 + back
                return (
                    f"{path}, line {at}: {cell!r} in the column {name!r} is not a number; leave a missing value empty"
                )
    return f"{path}, before line {line}: a cell is not a number"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
