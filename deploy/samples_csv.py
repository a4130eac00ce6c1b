"""Samples from a CSV: a header, then one sample per row; an empty cell is a missing value; other columns are kept.

A band of a series has a column for each step, see `csv_columns`; a table like the one that the training data came from
will do as well. Where pyarrow is installed (extra `table`) it reads
the file, because it is several times as fast and lets the engine run meanwhile; what it does not take, and every file
where it is not installed, is read cell by cell, which finds what is wrong and where.
"""

import csv
import itertools
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from edge.deploy.raster import mark_missing
from edge.deploy.samples import Samples
from edge.errors import InputError
from edge.sensors import MISSING, Modality

_BLOCK = 2**19  # bytes that pyarrow reads at once: a batch or two, so that the engine seldom waits for the next


def csv_columns(modality: Modality) -> list[str]:
    """The columns of a sample: `<band>` for a vector; `<band>_t0`, `<band>_t1` ... for a series; any order will do."""
    names = [band.name for band in modality.bands]
    if modality.kind == "vector":
        return names
    if modality.kind == "series":
        return [f"{name}_t{step}" for step in range(modality.shape[0]) for name in names]
    raise InputError(f"a table cannot hold images, and {modality.name!r} is one; give .npy, .npz or a folder")


def _wanted(header: list[str], modality: Modality) -> list[str]:
    """The columns to read: of those that `csv_columns` names and those of the import, the ones that are there."""
    ours = csv_columns(modality)
    return list(modality.columns) if modality.columns and not set(ours) <= set(header) else ours


def read_csv(path: Path, modality: Modality, batch: int) -> Iterator[Samples]:
    """Stream the samples of `path` in pieces of `batch`. InputError names the line and the column that do not fit."""
    header = _header(path)
    wanted = _wanted(header, modality)
    done = 0
    try:
        for part in _by_arrow(path, header, wanted, modality, batch):
            yield part
            done += len(part.values)
    except _NotPlain:
        yield from _cell_by_cell(path, wanted, modality, batch, done)


class _NotPlain(Exception):
    """pyarrow is not installed, or does not read this file."""


def _by_arrow(path: Path, header: list[str], wanted: list[str], modality: Modality, batch: int) -> Iterator[Samples]:
    """The samples through pyarrow; _NotPlain at the first block that it does not take."""
    try:
        import pyarrow as arrow
        from pyarrow import csv as arrow_csv
    except ImportError:
        raise _NotPlain from None
    _, kept = _places(path, header, wanted)
    if len(header) == 1:  # a blank line would be a missing value
        raise _NotPlain
    types = dict.fromkeys(wanted, arrow.float32()) | dict.fromkeys(kept, arrow.string())
    try:
        with open(path, "rb") as file:
            reader = arrow_csv.open_csv(
                file,
                read_options=arrow_csv.ReadOptions(block_size=_BLOCK, use_threads=False),
                parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False, newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(column_types=types, null_values=MISSING),
            )
            read, rest = 0, arrow.table({name: arrow.array([], kind) for name, kind in types.items()})
            for block in reader:
                rest = arrow.concat_tables([rest, arrow.table(block).select(list(types))])
                size, read = file.tell() - read, file.tell()
                whole = len(rest) // batch * batch
                yield from _pieces(rest.slice(0, whole), wanted, kept, modality, batch, size)
                rest = rest.slice(whole)
            yield from _pieces(rest, wanted, kept, modality, batch, 0)
    except arrow.ArrowInvalid:
        raise _NotPlain from None


def _pieces(
    table: Any, wanted: list[str], kept: dict[str, int], modality: Modality, batch: int, size: int
) -> Iterator[Samples]:
    """The rows of a pyarrow table in pieces of `batch`, which took `size` bytes together."""
    if not len(table):
        return
    (columns,) = table.select(wanted).combine_chunks().to_batches()
    values = columns.to_tensor(null_to_nan=True).to_numpy()
    extras = {name: table[name].to_pylist() for name in kept}
    for row in np.flatnonzero(np.isnan(values).all(axis=1)):
        if not any(texts[row] for texts in extras.values()):  # a blank line, perhaps
            raise _NotPlain
    values = mark_missing(values.reshape(-1, *modality.shape), modality.nodata)
    for start in range(0, len(values), batch):
        rows = slice(start, start + batch)
        part = values[rows]
        share = size * len(part) // len(values)
        yield Samples(part, {name: texts[rows] for name, texts in extras.items()}, share)


def _header(path: Path) -> list[str]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}, line 1: {error}") from None
    check_commas(path, header)
    return header


def check_commas(path: Path, header: list[str]) -> None:
    """Raise InputError for what a spreadsheet writes where commas are decimal points, and for other separators."""
    for mark in ";\t|":
        if len(header) == 1 and mark in header[0]:
            raise InputError(f"{path} has {mark!r} between its columns; write it with commas (and decimal points)")


def _cell_by_cell(path: Path, wanted: list[str], modality: Modality, batch: int, skip: int) -> Iterator[Samples]:
    """All that a table may be, without the first `skip` samples."""
    line = 0
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            places, kept = _places(path, header, wanted)
            rows: list[list[str]] = []
            for count, row in enumerate(reader):
                line = reader.line_num
                if len(row) != len(header):
                    raise InputError(f"{path}, line {line}: {len(row)} cells; the header has {len(header)}")
                if count >= skip:
                    rows.append(row)
                if len(rows) == batch:
                    yield _table(path, rows, wanted, places, kept, modality, line)
                    rows = []
            if rows:
                yield _table(path, rows, wanted, places, kept, modality, line)
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}, after line {line}: {error}") from None


def _places(path: Path, header: list[str], wanted: list[str]) -> tuple[list[int], dict[str, int]]:
    """Where the wanted columns and the others stand."""
    if not header:
        raise InputError(f"{path} is empty; its first line must name the columns {some_columns(wanted)}")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path}: the column {twice!r} is there twice")
    missing = [name for name in wanted if name not in header]
    if missing:
        raise InputError(
            f"{path} lacks {len(missing)} of the {len(wanted)} columns that the bundle needs: {some_columns(missing)}"
        )
    others = set(header) - set(wanted)
    return [header.index(name) for name in wanted], {name: place for place, name in enumerate(header) if name in others}


def some_columns(names: list[str]) -> str:
    """Names for a message: the first six, and the last of many."""
    return ", ".join(names[:6]) + (f" ... {names[-1]}" if len(names) > 6 else "")


def _table(
    path: Path,
    rows: list[list[str]],
    names: list[str],
    places: list[int],
    kept: dict[str, int],
    modality: Modality,
    line: int,
) -> Samples:
    """Rows of text as numbers; `line` is the last of them."""
    cells = [[row[place] or "nan" for place in places] for row in rows]  # the usual sign of a missing value
    try:
        numbers = np.array(cells, dtype=np.float32)
    except ValueError:
        cells = [["nan" if cell in MISSING else cell for cell in row] for row in cells]
        try:
            numbers = np.array(cells, dtype=np.float32)
        except ValueError:
            raise InputError(_not_a_number(path, cells, names, line)) from None
    size = sum(map(len, rows)) + sum(map(len, itertools.chain.from_iterable(rows)))  # with the commas
    values = mark_missing(numbers.reshape(-1, *modality.shape), modality.nodata)
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
