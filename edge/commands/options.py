"""Options that several commands share, and the recipe that they give."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edge.recipe import METHODS, Recipe, read_recipe

Command = Callable[..., Any]

# A flag that is given wins over the recipe's key of the same name.
_TRAINING = ("epochs", "batch", "lr", "patience")


def recipe_options(command: Command) -> Command:
    """What to train on and how; each flag has the same key in the recipe."""
    options = (
        click.option(
            "--data", metavar="NAME_OR_FOLDER", help="A known name or a paired set's folder. [default: simulated]"
        ),
        click.option("--recipe", type=click.Path(path_type=Path), metavar="FILE", help="A recipe, JSON or TOML."),
        click.option("--epochs", type=int, help="At most this many epochs of training. [default: 100]"),
        click.option("--batch", type=int, help="Samples in a batch. [default: 32, or 128 for large sets]"),
        click.option("--seed", type=int, help="The same seed gives the same numbers. [default: 0]"),
        click.option("--fold", type=int, help="The fold that is the test set; the next one validates. [default: 0]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def run_options(command: Command) -> Command:
    """Where results go."""
    options = (
        click.option("--out", type=click.Path(path_type=Path), default=Path("runs/edge"), show_default=True,
                     metavar="RUN", help="The run's folder; what is there and still fits is used again."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
        click.option("--force", is_flag=True, help="Do everything again."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


method_option = click.option("--method", type=click.Choice(METHODS), help="How to train. [default: mdico]")
modalities_option = click.option(
    "--modalities", metavar="A,B", help="Modalities to train on. [default: what the set recommends]"
)


def make_recipe(recipe: Path | None, **flags: Any) -> Recipe:
    """The recipe in the file, or the default one, with the flags that were given."""
    result = read_recipe(recipe) if recipe else Recipe()
    given = {name: value for name, value in flags.items() if value is not None}
    if "modalities" in given:
        given["modalities"] = tuple(name.strip() for name in given["modalities"].split(","))
    training = {name: given.pop(name) for name in _TRAINING if name in given}
    result = dataclasses.replace(result, training=dataclasses.replace(result.training, **training), **given)
    return result.check()
