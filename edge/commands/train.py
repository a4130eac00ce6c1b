"""`edge train`."""

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.commands.options import make_recipe, methods_option, modalities_option, recipe_options, run_options
from edge.errors import InputError

if TYPE_CHECKING:
    from edge.recipe import Recipe


@click.command(name="train")
@recipe_options
@methods_option
@modalities_option
@click.option(
    "--folds", type=int, metavar="K", help="Train and test on every one of K folds (with --fold: on that one)."
)
@click.option("--seeds", type=int, metavar="S", help="The same with S seeds, from --seed on.")
@click.option("--jobs", type=int, metavar="N", help="Folds that train at the same time, a process each. [default: 1]")
@click.option("--analyse", is_flag=True, help="Measure what features share and tell apart: table and picture.")
@run_options
@click.option("--resume/--no-resume", default=True, show_default=True, help="Continue a run that was interrupted.")
def command(
    methods: tuple[str, ...], folds: int | None, seeds: int | None, jobs: int | None,
    out: Path, as_json: bool, force: bool, resume: bool, analyse: bool, **flags: Any,
) -> None:  # fmt: skip
    """Train one student for each modality, all together.

    Writes RUN/train/METHOD: weights, facts, the losses of each epoch (epochs.jsonl, curves.svg); --analyse adds
    structure.csv and structure.svg. Ctrl-C leaves a state that the same command continues. Under `torchrun
    --nproc-per-node N -m edge train` N processes divide each batch.

    With --folds or --seeds it trains on every fold with every seed, and single-matched with the other methods, because
    co-learning must beat it. Writes RUN/folds/PROTOCOL-K: a CSV for each fold, and a summary with means, standard
    deviations and a paired test, which it prints. Folds that are done are not repeated; one that fails is recorded, the
    others go on, and the exit code is 2.

    \b
    Example:
      edge train --data lfmc --method mdico --out runs/lfmc
      edge train --data lfmc --method taught,mdico --folds 10 --seeds 5 --jobs 2 --out runs/lfmc
    """
    recipe, again = make_recipe(**flags), force or not resume
    if folds is None and seeds is None:
        if jobs is not None:
            raise InputError(f"--jobs {jobs} is for --folds or --seeds; one training is one process")
        _train_once(recipe, methods or (recipe.method,), out, again, as_json, analyse)
    else:
        if analyse:
            raise InputError("--analyse looks at one training; leave --folds and --seeds out")
        sizes = {"folds": folds, "seeds": seeds or 1, "fold": flags["fold"]}
        _train_folds(recipe, methods or (recipe.method,), out, sizes, jobs or 1, again, as_json)


def _train_once(
    recipe: "Recipe", methods: tuple[str, ...], out: Path, again: bool, as_json: bool, analyse: bool
) -> None:
    from edge.stages import train_stage
    from edge.train.analysis import check_method
    from edge.train.distributed import session

    for method in methods if analyse else ():
        check_method(method)  # before hours of training
    runs = []
    with session():
        for method in methods:
            for trained in train_stage(dataclasses.replace(recipe, method=method), out, resume=not again):
                facts = trained.facts
                runs.append({"folder": str(trained.folder), **facts})
                for name, scores in facts["validation"].items():
                    values = "  ".join(f"{metric} {value:.4f}" for metric, value in scores.items())
                    click.echo(f"{method} {name}, validation: {values}", err=True)
                if recipe.protocol is None and not facts["protocol"].startswith("grouped"):
                    click.echo(f"protocol: {facts['protocol']} (--protocol grouped makes folds)", err=True)
                click.echo(f"{len(facts['history'])} epochs, {facts['seconds']:.0f} s -> {trained.folder}", err=True)
                if analyse:
                    runs[-1]["structure"] = _analyse(dataclasses.replace(recipe, method=method), trained, out, as_json)
        if as_json:
            click.echo(json.dumps({"runs": runs}))


def _analyse(recipe: "Recipe", trained: Any, out: Path, as_json: bool) -> list[dict[str, Any]]:
    from edge.stages import open_data
    from edge.train.analysis import table, write_analysis
    from edge.train.distributed import first_goes_ahead

    data = open_data(recipe)
    with first_goes_ahead() as first:
        if not first:
            return []
        rows = write_analysis(trained, data, out / "compress" / recipe.method)
    if not as_json:
        click.echo(table(rows))
    if all(row["precision"] == "fp32" for row in rows):
        click.echo("INT8 is not in the table: run `edge compress` with the same recipe and --out first", err=True)
    click.echo(f"-> {trained.folder / 'structure.svg'}", err=True)
    return rows


def _train_folds(
    recipe: "Recipe", methods: tuple[str, ...], out: Path, sizes: dict[str, Any], jobs: int, again: bool, as_json: bool
) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("torchrun divides one training; for folds and seeds leave it out and give --jobs")

    from edge.benchmarks.method_table import caption, table
    from edge.train.protocol import make_study, run_study

    study = make_study(recipe, methods, out, **sizes)
    summary = run_study(study, jobs=jobs, resume=not again)
    click.echo(json.dumps(summary) if as_json else f"{table(summary)}\n\n{caption(summary)}")
    click.echo(f"-> {study.folder / 'summary.json'}", err=True)
    for failure in summary["failures"]:
        click.echo("{method}, seed {seed}, fold {fold} failed: {error}".format(**failure), err=True)
    if summary["failures"]:
        raise InputError(f"{len(summary['failures'])} trainings failed; the same command tries them again")
