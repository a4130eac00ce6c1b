"""The CSV of one fold: a line for each predictor that a method gave, or for the method's failure.

Columns: `data`, `protocol`, `validation_is_test` (yes under `published`: scores are too good), `folds`, `fold`, `seed`,
`method`, `modality`, `n_train`, `n_validation`, `n_test`, `metric` (the main one), `validation_*` and `test_*` (all
metrics), `epochs`, `seconds`, `parameters`, `error`, `fingerprint` (of data, code and recipe). An empty cell is null.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge.errors import InputError
from edge.files import replacing

Row = dict[str, Any]
TEXT = {"data", "protocol", "validation_is_test", "method", "modality", "metric", "error", "fingerprint"}
FIRST = (
    "data", "protocol", "validation_is_test", "folds", "fold", "seed", "method", "modality",
    "n_train", "n_validation", "n_test", "metric",
)  # fmt: skip
LAST = ("epochs", "seconds", "parameters", "error", "fingerprint")


def flat(found: Row) -> Row:
    """A row of `run_fold` with its metrics as columns."""
    row = {key: value for key, value in found.items() if key not in ("validation", "test")}
    for part in ("validation", "test"):
        row |= {f"{part}_{name}": value for name, value in found[part].items()}
    return row


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write the fold's CSV, whole or not at all."""
    rows = list(rows)
    metrics = dict.fromkeys(key for row in rows for key in row if key not in (*FIRST, *LAST))
    ordered = sorted(metrics, key=lambda name: name.startswith("test_"))  # validation first, each in its own order
    write_csv(path, [*FIRST, *ordered, *LAST], rows)


def write_csv(path: Path, columns: list[str], rows: Iterable[Row]) -> None:
    """Lines of `columns`; null is an empty cell, and so is what a row lacks."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote, none if there is no such file; InputError for anything else."""
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [{key: _value(key, cell) for key, cell in line.items()} for line in csv.DictReader(file)]
        if not all({*FIRST, *LAST} <= row.keys() for row in rows):
            raise ValueError("columns are missing")
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not the CSV of a fold: {error}; remove it, and it is made again") from None
    return rows


def _value(key: str, cell: Any) -> Any:
    """The value of a cell as it was written: text, a whole number, or a float."""
    if not isinstance(cell, str):
        raise ValueError("a line has too many or too few cells")
    if key in TEXT:
        return cell or None
    return None if cell == "" else float(cell) if set(cell) & set(".einf") else int(cell)
