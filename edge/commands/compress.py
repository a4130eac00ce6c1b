"""`edge compress`."""

import json
from pathlib import Path
from typing import Any

import click

from edge.commands.options import (
    float_options,
    make_recipe,
    modalities_option,
    recipe_options,
    run_options,
    smaller_options,
)
from edge.errors import InputError
from edge.recipe import Recipe


@click.command(name="compress")
@recipe_options
@modalities_option
@float_options
@smaller_options
@click.option("--sensitivity", is_flag=True, help="Show what INT8 does to each layer, and what to leave in float.")
@click.option("--latency-budget", type=click.FloatRange(min=1), default=1.2, show_default=True, metavar="X",
              help="With --sensitivity: what is proposed has at most X times the latency of INT8.")  # fmt: skip
@click.option("--front", is_flag=True, help="Draw accuracy against latency over widths 1, 0.5 and 0.25 and precisions "
              "fp32 and int8: `edge front`, which has more options.")  # fmt: skip
@run_options
def command(
    out: Path, as_json: bool, force: bool, sensitivity: bool, latency_budget: float, front: bool, **flags: Any
) -> None:  # fmt: skip
    """Make the students of all modalities INT8.

    Calibrates their ranges and, where that alone costs accuracy, fine-tunes them together with the objectives that
    shaped them alive.

    Trains first if RUN/train holds nothing that fits. Writes RUN/compress. With --sensitivity it then quantizes each
    layer alone, leaves each alone in float, measures both on validation samples and in latency, and proposes layers to
    leave in float; --mixed does that and fine-tunes the students of the proposal, --exclude takes your own choice.

    --width 0.5 does all of it with students of half the channels, which are trained with distillation from the full
    ones, in RUN/width-0.5 (--force leaves the full ones alone); --front compares widths. --sparsity 2:4 fine-tunes with
    half of the weights held at 0.

    \b
    Example:
      edge compress --data lfmc --out runs/lfmc
      edge compress --data lfmc --out runs/lfmc --sensitivity --latency-budget 1.1
      edge compress --data lfmc --out runs/lfmc --exclude 'optical.*.conv1'
      edge compress --data lfmc --out runs/lfmc --width 0.5 --sparsity 2:4
      edge compress --data lfmc --out runs/lfmc --front
    """
    from edge.stages import compress_stage

    recipe = make_recipe(**flags)
    if sensitivity and front:
        raise InputError("--sensitivity looks at one width and --front at several: leave one of them out")
    if sensitivity:
        _sensitivity(recipe, out, latency_budget, force, as_json)
        return
    if front:
        _front(recipe, out, force, as_json)
        return
    compressed = compress_stage(recipe, out, force=force)
    if as_json:
        click.echo(json.dumps(compressed.facts))
    for record in compressed.facts["history"]:
        click.echo(f"epoch {record['epoch']}: validation loss {record['validation']['total']:.4f}", err=True)
    for name, facts in compressed.facts["students"].items():
        click.echo(
            f"{name}: calibration alone changed the validation loss by {facts['calibration']['cost']:+.2%}", err=True
        )
        left = facts["excluded"]
        others = f", in float {', '.join(left)}" if left else ""
        half = len(facts["sparse"])
        sparse = f", {half} of them with {recipe.compression.sparsity} sparsity" if half else ""
        click.echo(f"{name}: {len(facts['ranges'].keys() - left)} layers in INT8{sparse}{others}", err=True)
    tuned = f"{compressed.facts['seconds']:.0f} s of fine-tuning" if compressed.facts["history"] else "not fine-tuned"
    click.echo(f"{tuned} -> {compressed.folder}", err=True)


def _front(recipe: Recipe, run: Path, force: bool, as_json: bool) -> None:
    from edge.commands.front import show
    from edge.front import Grid, Wish

    if recipe.width != 1:
        raise InputError(f"--front measures several widths, and width is {recipe.width:g}: leave one of them out")
    show(recipe, None, Grid(), Wish(), run, as_json=as_json, force=force)


def _sensitivity(recipe: Recipe, run: Path, budget: float, force: bool, as_json: bool) -> None:
    """The table that is the answer, or its document."""
    from tqdm import tqdm

    from edge.compress.sensitivity_table import table
    from edge.stages import sensitivity_stage

    with tqdm(desc="sensitivity", unit=" layers", disable=None) as bar:

        def notify(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        document = sensitivity_stage(recipe, run, budget, force=force, notify=notify)
    click.echo(json.dumps(document) if as_json else table(document))
