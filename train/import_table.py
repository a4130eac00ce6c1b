"""A CSV or Parquet table becomes a paired set: one row per sample, groups of columns per modality."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from edge.deploy.raster import mark_missing
from edge.deploy.samples_csv import check_commas
from edge.errors import BackendMissing, InputError
from edge.sensors import Modality
from edge.train.layout import Layout, describe_modality, nearest, numbers, read_labels, write_imported
from edge.train.paired import PairedSet

Table = dict[str, np.ndarray]  # column -> (n,) text or numbers


def import_table(table: Path, layout: Layout, folder: Path) -> PairedSet:
    """Read a .csv or .parquet file as `layout` says and write the paired set to `folder`.

    Empty cells and `nodata` are missing values. InputError: no such file, no rows, a column that is not there (with
    the nearest name), a cell that is no number, and whatever write_paired_set refuses.
    """
    columns = read_table(table)
    if not layout.modalities:
        raise InputError("the layout names no modality; give each its bands, times and columns")

    def column(name: str) -> np.ndarray:
        if name not in columns:
            raise InputError(f"{table} has no column {name!r}; {nearest(name, list(columns))}")
        return columns[name]

    modalities: dict[str, Modality] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, entry in layout.modalities.items():
        grid = column_grid(name, entry)
        values = np.stack([[numbers(column(cell), cell) for cell in row] for row in grid])  # (times, bands, n)
        values = np.moveaxis(values, -1, 0)  # (n, times, bands)
        arrays[name] = mark_missing(values if entry.get("times") else values[:, 0], layout.nodata)
        names = tuple(cell for row in grid for cell in row)
        modalities[name] = describe_modality(name, entry, arrays[name].shape[1:], columns=names, nodata=layout.nodata)
    return write_imported(folder, layout, read_labels(layout, column), modalities, arrays, {"file": table.name})


def read_table(path: Path) -> Table:
    """All columns of a .csv (text) or .parquet (text or numbers) file."""
    if not path.is_file():
        raise InputError(f"the table {path} is not a file")
    ending = path.suffix.lower()
    if ending == ".parquet":
        columns = _read_parquet(path)
    elif ending == ".csv":
        columns = _read_csv(path)
    else:
        raise InputError(f"the table {path} must end in .csv or .parquet")
    if not columns or not len(next(iter(columns.values()))):
        raise InputError(f"the table {path} has no rows")
    return columns


def column_grid(name: str, entry: dict[str, Any]) -> list[list[str]]:
    """The columns of a modality, one list of band columns per time (one list where there are no times)."""
    columns, times = entry.get("columns", "{band}"), entry.get("times")
    bands = [band if isinstance(band, str) else band.get("name", "") for band in entry.get("bands", ())]
    if not bands:
        raise InputError(f"modality {name!r}: the layout must name its bands")
    if isinstance(columns, str):
        try:
            grid = [[columns.format(band=band, time=time) for band in bands] for time in times or [""]]
        except (KeyError, IndexError, ValueError):
            raise InputError(f"modality {name!r}: columns {columns!r} may hold {{band}} and {{time}} only") from None
        if times and "{time}" not in columns:
            raise InputError(f"modality {name!r} has times, but columns {columns!r} holds no {{time}}")
        return grid
    grid = columns if times else [columns]
    if len(grid) != len(times or [""]) or any(not isinstance(row, list) or len(row) != len(bands) for row in grid):
        raise InputError(
            f"modality {name!r}: columns must hold one list per time ({len(times or [])}) with one name per band "
            f"({len(bands)}), or one name per band where there are no times"
        )
    return grid


def _read_csv(path: Path) -> Table:
    rows = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            reader = csv.reader(file)
            header = next(reader, [])
            check_commas(path, header)
            for row in filter(None, reader):
                if len(row) != len(header):
                    raise InputError(f"{path}, line {reader.line_num}: {len(row)} cells, the header has {len(header)}")
                rows.append(row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"the table {path} is not a CSV file: {error}") from None
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}: the column {twice[0]!r} stands there twice")
    return {name: np.array(cells, dtype=object) for name, cells in zip(header, zip(*rows, strict=True), strict=False)}


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise BackendMissing("pyarrow is not installed; pip install 'edge-colearn[table]'") from None
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"the table {path} is not a readable Parquet file: {error}") from None
    return {name: table.column(name).to_numpy() for name in table.column_names}
