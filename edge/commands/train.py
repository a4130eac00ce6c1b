"""`edge train`."""

import json
from pathlib import Path
from typing import Any

import click

from edge.commands.options import make_recipe, method_option, modalities_option, recipe_options, run_options


@click.command(name="train")
@recipe_options
@method_option
@modalities_option
@run_options
@click.option("--resume/--no-resume", default=True, show_default=True, help="Continue a run that was interrupted.")
def command(out: Path, as_json: bool, force: bool, resume: bool, **flags: Any) -> None:
    """Train one student for each modality, all together.

    Writes RUN/train/METHOD: weights, facts and the losses of each epoch. Ctrl-C leaves a state that the same command
    continues.

    \b
    Example:
      edge train --data lfmc --method mdico --epochs 50 --out runs/lfmc
    """
    from edge.stages import train_stage

    recipe = make_recipe(**flags)
    runs = []
    for trained in train_stage(recipe, out, resume=resume and not force):
        facts = trained.facts
        runs.append({"folder": str(trained.folder), **facts})
        for name, scores in facts["validation"].items():
            values = "  ".join(f"{metric} {value:.4f}" for metric, value in scores.items())
            click.echo(f"{recipe.method} {name}, validation: {values}", err=True)
        click.echo(f"{len(facts['history'])} epochs, {facts['seconds']:.0f} s -> {trained.folder}", err=True)
    if as_json:
        click.echo(json.dumps({"runs": runs}))
