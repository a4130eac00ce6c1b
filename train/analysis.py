"""`edge train --analyse`: the table and the picture of a training's structure, in float and, if that is there, in INT8.

RUN/train/METHOD/structure.csv, .json    see train/structure.py; `precision` is fp32 or int8
RUN/train/METHOD/structure.svg           test samples in the first two principal components of each part
"""

from pathlib import Path

import numpy as np

from edge.errors import InputError
from edge.files import read_json, write_json
from edge.recipe import CO_LEARNED
from edge.train.fold_table import write_csv
from edge.train.paired import PairedSet
from edge.train.samples import load_samples
from edge.train.structure import Row, Views, analyse, views_of
from edge.train.structure_picture import draw
from edge.train.training import Trained, split_of

SCHEMA = "edge.structure/1"
COLUMNS = ["precision", "measure", "part", "modality", "value", "low", "high", "chance", "n"]


def write_analysis(trained: Trained, data: PairedSet, compressed: Path) -> list[Row]:
    """Write table and picture into the training's folder and return the table.

    `compressed` is the folder of `edge compress`; its features are used if they were made from this training.
    InputError for a method whose students do not learn together, and as `edge.train.structure.analyse`.
    """
    check_method(trained.recipe.method)
    split, target = split_of(data, trained.recipe), np.asarray(data.target)
    samples = load_samples(data, tuple(trained.modalities), split)
    trained.model.eval()
    views = {"fp32": [views_of(trained.model, samples, part) for part in (split.train, split.test)]}
    if (found := quantized_views(trained, compressed)) is not None:
        views["int8"] = found
    rows = [
        {"precision": precision, **row}
        for precision, (train, test) in views.items()
        for row in analyse(trained.task, target, data.groups, train, test)
    ]
    write_csv(trained.folder / "structure.csv", COLUMNS, rows)
    facts = {"schema": SCHEMA, "trained": trained.facts["fingerprint"], "rows": rows}
    write_json(trained.folder / "structure.json", facts)
    draw(
        trained.folder / "structure.svg", trained.task, target,
        {precision: test for precision, (_, test) in views.items()},
    )  # fmt: skip
    return rows


def check_method(method: str) -> None:
    """InputError for a method that gives no shared and specific features of several modalities."""
    if method not in CO_LEARNED:
        raise InputError(
            f"method {method!r} has no shared and specific features to analyse; use one of {', '.join(CO_LEARNED)}"
        )


def quantized_views(trained: Trained, folder: Path) -> list[dict[str, Views]] | None:
    """The features of the training and the test samples under fake quantization; None if there are none that fit."""
    from edge.compress.compression import FACTS, load_features

    if not (folder / FACTS).exists() or read_json(folder / FACTS).get("trained") != trained.facts["fingerprint"]:
        return None
    return load_features(folder, tuple(trained.modalities))


def table(rows: list[Row]) -> str:
    """The rows for a terminal: one line for each measure, a column for each precision."""
    from edge.benchmarks.report import columns

    precisions = list(dict.fromkeys(row["precision"] for row in rows))
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        key = row["measure"], row["part"], row["modality"]
        line = lines.setdefault(key, {"chance": _number(row["chance"]), "n": str(row["n"])})
        line[row["precision"]] = _with_interval(row)
    names = [*precisions, "chance", "n"]
    body = [[*key, *(line.get(name, "") for name in names)] for key, line in lines.items()]
    return columns([["measure", "part", "modality", *(p.upper() for p in precisions), "chance", "n"], *body], left=3)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _with_interval(row: Row) -> str:
    """`0.318 [0.25, 0.38]`."""
    interval = "" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]"
    return _number(row["value"]) + interval
