"""`edge train --folds --seeds`: methods over folds and seeds, in processes, resumable at any moment.

A study lies in one folder, RUN/folds/PROTOCOL-K:

    seed0-fold3.csv     a line for each predictor of each method, written when a method is done with the fold
    seed0-fold3/        what the methods trained
    summary.json, .csv  mean, standard deviation and paired test over all of them

A fold is one piece of work: its methods run one after the other in one process, because some build on others
(`ensemble`, `distilled`). Lines whose fingerprint (data, recipe, code) still fits are not made again; what was begun
goes on from its state. Seeds count from the recipe's; train/splits.py says what a seed does to the folds.
"""

import contextlib
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from edge.errors import InputError
from edge.files import remove_leftovers
from edge.recipe import Recipe
from edge.stages import check_run, open_data
from edge.train.fold_table import Row, read_rows
from edge.train.fold_work import Work, is_finished, train_fold
from edge.train.paired import PairedSet
from edge.train.paired_test import statistics_library
from edge.train.processes import in_processes
from edge.train.splits import fold_count, fold_numbers, protocol_of, split_indices
from edge.train.summary import REFERENCE, Summary, summarise, write_summary
from edge.train.training import choose_modalities


@dataclass(frozen=True)
class Study:
    """Methods over folds and seeds of one set by one protocol."""

    data: PairedSet
    recipe: Recipe  # with `protocol` and, where there are folds, `folds`
    methods: tuple[str, ...]
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    folder: Path

    def work(self, *, resume: bool, keep_models: bool) -> list[Work]:
        """Every fold with every seed."""
        recipes = [dataclasses.replace(self.recipe, fold=fold, seed=seed) for seed in self.seeds for fold in self.folds]
        return [Work(self.data.folder, recipe, self.methods, self.folder, resume, keep_models) for recipe in recipes]


def make_study(
    recipe: Recipe,
    methods: tuple[str, ...],
    run: Path,
    *,
    folds: int | None = None,
    seeds: int = 1,
    fold: int | None = None,
) -> Study:
    """All `folds` folds, or `fold` of them alone, with `seeds` seeds; nothing is written yet.

    The reference of the paired test is always among the methods. InputError for what would fail in every fold: an
    unknown modality, too few groups, folds of a fixed split, a `run` that is somebody's.
    """
    check_run(run)
    if seeds < 1:
        raise InputError(f"seeds is {seeds}; it must be above 0")
    recipe = dataclasses.replace(recipe, folds=recipe.folds if folds is None else folds).check()
    data = open_data(recipe)
    protocol, count = protocol_of(data, recipe.protocol), fold_count(data, recipe.folds, recipe.protocol)
    if folds is not None and folds != count:
        raise InputError(
            f"{data.name} has a split of its own, used unless another protocol is named, and not {folds} folds; "
            "leave --folds out, or give --protocol grouped"
        )
    recipe = dataclasses.replace(recipe, protocol=protocol, folds=None if protocol == "fixed" else count)
    names = tuple(dict.fromkeys((*methods, REFERENCE)))
    for name in names:
        choose_modalities(data, dataclasses.replace(recipe, method=name))
    if protocol != "fixed":
        fold_numbers(data, count, protocol, recipe.seed)
    if protocol == "fixed" or fold is not None:
        split_indices(data, fold or 0, count, protocol=protocol, seed=recipe.seed)
    return Study(
        data, recipe, names,
        folds=tuple(range(count)) if fold is None else (fold,),
        seeds=tuple(range(recipe.seed, recipe.seed + seeds)),
        folder=run / "folds" / (protocol if protocol == "fixed" else f"{protocol}-{count}"),
    )  # fmt: skip


def run_study(study: Study, *, jobs: int = 1, resume: bool = True, keep_models: bool = True) -> Summary:
    """Train what is missing, `jobs` folds at a time, write the summary and give it; failed folds are in it too."""
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; it must be above 0")
    statistics_library()  # hours of training should not end with a missing library
    remove_leftovers(study.folder)
    everything = study.work(resume=resume, keep_models=keep_models)
    todo = [work for work in everything if not is_finished(study.data, work)]
    bar = tqdm(
        total=len(everything), initial=len(everything) - len(todo), disable=None, smoothing=0, unit="fold",
        desc=f"{study.data.name}, {study.recipe.protocol}",
    )  # fmt: skip
    with bar, contextlib.closing(in_processes(train_fold, todo, jobs)) as done:
        for rows in done:
            bar.write(_line(rows), file=sys.stderr)
            bar.update()
    rows = [row for work in everything for row in read_rows(work.table) if row["method"] in study.methods]
    summary = summarise(study.data, study.recipe, study.methods, rows)
    write_summary(study.folder, summary)
    return summary


def _line(rows: list[Row]) -> str:
    """What a finished fold says to people."""
    said = [
        f"{row['method']} failed: {row['error']}"
        if row["error"]
        else f"{row['method']} {row['modality']} {row['test_' + row['metric']]:.3f}"
        for row in rows
    ]
    return f"seed {rows[0]['seed']}, fold {rows[0]['fold']}: {', '.join(said)}"
