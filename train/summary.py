"""Many folds in one table: mean and standard deviation over folds and seeds, and a paired test against the reference.

summary.json has schema `edge.folds/1`; summary.csv has one line for each method and modality.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.files import write_json
from edge.recipe import Recipe
from edge.tasks import METRICS
from edge.train.fold_table import FIRST, Row, write_csv
from edge.train.paired import PairedSet
from edge.train.paired_test import NAME, paired_test
from edge.train.splits import TOO_GOOD, fold_count

SCHEMA = "edge.folds/1"
REFERENCE = "single-matched"  # what co-learning must beat: the same two encoders, trained on one modality
TEST_COLUMNS = ("pairs", "n", "unit", "difference", "p", "p_uncorrected", "p_wilcoxon")
Summary = dict[str, Any]


def summarise(data: PairedSet, recipe: Recipe, methods: Sequence[str], rows: list[Row]) -> Summary:
    """The summary of the folds' rows; `recipe` is the one that all of them share, with the protocol that was used.

    `results` has an entry for each method and modality: `n` trainings, `mean` and sample standard deviation `sd` of
    the test metrics (null for one training), the mean `validation` metrics, what a training took, and
    `against_reference`: see `paired_test`, null for the reference and where it has no such modality. `failures` are
    trainings that gave no score.
    """
    good = [row for row in rows if row["error"] is None]
    metric, higher_is_better = METRICS[data.task.kind]
    shared = recipe.to_json()
    protocol = shared["protocol"]
    of: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(good, key=lambda row: methods.index(row["method"])):
        of.setdefault((row["method"], row["modality"]), []).append(row)
    return {
        "schema": SCHEMA,
        "data": data.name,
        "data_fingerprint": data.fingerprint,
        "task": data.task.to_json(),
        "metric": {"name": metric, "higher_is_better": higher_is_better},
        "protocol": protocol,
        "validation_is_test": protocol == "published",
        "places_apart": data.has_groups if protocol == "grouped" else protocol == "fixed",
        "warning": TOO_GOOD if protocol == "published" else None,
        "folds": fold_count(data, recipe.folds, protocol),
        "tested_folds": sorted({row["fold"] for row in rows}),
        "seeds": sorted({row["seed"] for row in rows}),
        "recipe": {key: value for key, value in shared.items() if key not in ("method", "fold", "seed")},
        "reference": REFERENCE,
        "test": NAME,
        "results": [
            {"method": method, "modality": modality}
            | _entry(found)
            | {"against_reference": _against(found, of.get((REFERENCE, modality), []), method, protocol)}
            for (method, modality), found in of.items()
        ],
        "failures": [{key: row[key] for key in ("method", "seed", "fold", "error")} for row in rows if row["error"]],
    }


def _entry(rows: list[Row]) -> dict[str, Any]:
    """Means and deviations of one method and modality."""
    tests, validations = _columns(rows, "test_"), _columns(rows, "validation_")
    return {
        "n": len(rows),
        "mean": {name: float(np.mean(values)) for name, values in tests.items()},
        "sd": {name: float(np.std(values, ddof=1)) if len(values) > 1 else None for name, values in tests.items()},
        "validation": {name: float(np.mean(values)) for name, values in validations.items()},
        **{name: _mean([row[name] for row in rows]) for name in ("epochs", "seconds", "parameters")},
    }


def _columns(rows: list[Row], prefix: str) -> dict[str, list[float]]:
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(prefix) and name not in FIRST)
    found = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    return {name.removeprefix(prefix): values for name, values in found.items() if values}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _against(rows: list[Row], reference: list[Row], method: str, protocol: str) -> dict[str, Any] | None:
    """The paired test over the folds and seeds that both have."""
    column = f"test_{rows[0]['metric']}"
    known = {(row["fold"], row["seed"]): row[column] for row in reference}
    pairs = {(row["fold"], row["seed"]): row for row in rows if (row["fold"], row["seed"]) in known}
    if method == REFERENCE or not pairs:
        return None
    learnt = [
        row["n_test"] / (row["n_train"] + (0 if protocol == "published" else row["n_validation"]))
        for row in pairs.values()
    ]
    differences = {key: row[column] - known[key] for key, row in pairs.items()}
    return paired_test(differences, protocol, float(np.mean(learnt)))


def write_summary(folder: Path, summary: Summary) -> None:
    """summary.json and summary.csv."""
    write_json(folder / "summary.json", summary)
    write_table(folder / "summary.csv", summary)


def write_table(path: Path, summary: Summary) -> None:
    """One line for each method and modality; what the test says stands in columns `vs_single-matched_*`."""
    lines = [_flat(summary, entry) for entry in summary["results"]]
    write_csv(path, list(dict.fromkeys(key for line in lines for key in line)), lines)


def _flat(summary: Summary, entry: dict[str, Any]) -> Row:
    line = {
        "data": summary["data"], "protocol": summary["protocol"],
        "validation_is_test": "yes" if summary["validation_is_test"] else "no",
        "folds": summary["folds"], "seeds": len(summary["seeds"]),
        **{key: entry[key] for key in ("method", "modality", "n")},
    }  # fmt: skip
    for name, mean in entry["mean"].items():
        line |= {f"{name}_mean": mean, f"{name}_sd": entry["sd"][name]}
    test = entry["against_reference"] or {}
    found = {key: test.get(key) for key in TEST_COLUMNS}
    found["ci95_low"], found["ci95_high"] = test.get("ci95") or (None, None)
    line |= {f"vs_{summary['reference']}_{key}": value for key, value in found.items()}
    return line | {key: entry[key] for key in ("epochs", "seconds", "parameters")}
