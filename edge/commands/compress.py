"""`edge compress`."""

import json
from pathlib import Path
from typing import Any

import click

from edge.commands.options import make_recipe, modalities_option, recipe_options, run_options


@click.command(name="compress")
@recipe_options
@modalities_option
@run_options
def command(out: Path, as_json: bool, force: bool, **flags: Any) -> None:
    """Fine-tune INT8 students of all modalities together, with the objectives that shaped them alive.

    Trains first if RUN/train holds nothing that fits. Writes RUN/compress.

    \b
    Example:
      edge compress --data lfmc --out runs/lfmc
    """
    from edge.stages import compress_stage

    compressed = compress_stage(make_recipe(**flags), out, force=force)
    if as_json:
        click.echo(json.dumps(compressed.facts))
    for record in compressed.facts["history"]:
        click.echo(f"epoch {record['epoch']}: validation loss {record['validation']['total']:.4f}", err=True)
    for name, facts in compressed.facts["students"].items():
        click.echo(f"{name}: {len(facts['ranges'])} layers in INT8", err=True)
    click.echo(f"{compressed.facts['seconds']:.0f} s of fine-tuning -> {compressed.folder}", err=True)
