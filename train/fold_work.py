"""One fold of a study with one seed: what a process does, and what it leaves behind at any moment."""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BackendMissing, EdgeError
from edge.files import remove_leftovers
from edge.recipe import METHODS, Recipe
from edge.train import methods
from edge.train.fold_table import Row, flat, read_rows, write_rows
from edge.train.paired import PairedSet, open_paired_set
from edge.train.splits import fold_count
from edge.train.training import choose_modalities, training_fingerprint

# What may go wrong in one fold and not in the next: diverged, a class that training lacks. The rest are faults of ours.
FAILURES = (EdgeError, ArithmeticError, LookupError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Work:
    """One fold with one seed, as it goes to a process; `recipe` says which."""

    data: Path
    recipe: Recipe
    methods: tuple[str, ...]
    folder: Path  # of the study
    resume: bool = True
    keep_models: bool = True  # a study for a table alone needs scores, not gigabytes

    @property
    def models(self) -> Path:
        """Where the methods train."""
        return self.folder / f"seed{self.recipe.seed}-fold{self.recipe.fold}"

    @property
    def table(self) -> Path:
        """The fold's CSV."""
        return self.models.with_suffix(".csv")


def train_fold(work: Work) -> list[Row]:
    """Run the methods that are missing, one after the other; the CSV is written after each. Gives their rows."""
    data = open_paired_set(work.data)
    remove_leftovers(work.models)
    rows = finished(data, work)
    todo = _missing(rows, work)
    rows = [row for row in rows if row["method"] not in todo]
    for method in todo:
        rows += _rows_of(data, work, method)
        write_rows(work.table, rows)
    if not work.keep_models and not any(row["error"] for row in rows):
        shutil.rmtree(work.models, ignore_errors=True)
    return [row for row in rows if row["method"] in work.methods]


def is_finished(data: PairedSet, work: Work) -> bool:
    """Whether nothing is left to do; never without `resume`."""
    return not _missing(finished(data, work), work)


def _missing(rows: list[Row], work: Work) -> list[str]:
    done = {row["method"] for row in rows} if work.resume else set()
    return [method for method in work.methods if method not in done]


def finished(data: PairedSet, work: Work) -> list[Row]:
    """The rows, also of methods that were not asked for, which did not fail and still fit data, recipe and code."""
    rows = [row for row in read_rows(work.table) if row["error"] is None and row["method"] in METHODS]
    marks = {method: _mark(data, work, method) for method in {row["method"] for row in rows}}
    return [row for row in rows if row["fingerprint"] == marks[row["method"]]]


def _mark(data: PairedSet, work: Work, method: str) -> str:
    recipe = dataclasses.replace(work.recipe, method=method)
    return training_fingerprint(data, recipe, choose_modalities(data, recipe))


def _rows_of(data: PairedSet, work: Work, method: str) -> list[Row]:
    """The method's rows, or one row that holds its failure."""
    recipe = dataclasses.replace(work.recipe, method=method)
    protocol = recipe.protocol
    shared = {
        "data": data.name, "protocol": protocol, "validation_is_test": "yes" if protocol == "published" else "no",
        "folds": fold_count(data, recipe.folds, protocol), "fold": recipe.fold, "seed": recipe.seed,
        "method": method, "metric": data.task.metric, "error": None, "fingerprint": _mark(data, work, method),
    }  # fmt: skip
    try:
        found = methods.run_fold(data, recipe, work.models, resume=work.resume)
    except BackendMissing:
        raise
    except FAILURES as error:
        what = error.message if isinstance(error, EdgeError) else f"{type(error).__name__}: {error}"
        return [shared | {"error": " ".join(what.split())}]
    return [flat(row) | shared for row in found]
