"""Options that several commands share, and the recipe that they give."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from edge.errors import InputError
from edge.recipe import METHODS, PROTOCOLS, SPARSITY, Recipe, read_recipe

Command = Callable[..., Any]

# A flag that is given wins over the recipe's key of the same name.
_TRAINING = ("epochs", "batch", "lr", "patience")
_MODEL = ("encoder",)
_COMPRESSION = ("exclude", "mixed", "sparsity")


def _with(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    """The command with these options, which help shows in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def recipe_options(command: Command) -> Command:
    """What to train on and how; each flag has the same key in the recipe."""
    options = (
        click.option(
            "--data", metavar="NAME_OR_FOLDER", help="A known name or a paired set's folder. [default: simulated]"
        ),
        click.option("--recipe", type=click.Path(path_type=Path), metavar="FILE", help="A recipe, JSON or TOML."),
        click.option(
            "--encoder", metavar="NAME", help="Encoder family: tempcnn, ltae, resnet18 ... [default: that of the kind]"
        ),
        click.option("--epochs", type=int, help="Epochs of training. [default: as many as 800 steps are, 12 to 100]"),
        click.option("--batch", type=int, help="Samples in a batch. [default: 32, or 128 for large sets]"),
        click.option("--seed", type=int, help="The same seed gives the same numbers. [default: 0]"),
        click.option("--fold", type=int, help="The fold that is the test set; the next one validates. [default: 0]"),
        click.option("--protocol", type=click.Choice(PROTOCOLS),
                     help="How samples are parted; `published` validates on the test fold, its scores are too good. "
                     "[default: fixed for a set with a split of its own, else grouped]"),
    )  # fmt: skip
    return _with(options, command)


def float_options(command: Command) -> Command:
    """Which layers of an INT8 student stay in float: compression.exclude and compression.mixed of the recipe."""
    options = (
        click.option("--exclude", metavar="LAYER[,LAYER]",
                     help="Layers that stay in float: [MODALITY.]LAYER, or a pattern; --sensitivity lists them."),
        click.option("--mixed", type=float, is_flag=False, flag_value=1.2, metavar="[BUDGET]",
                     help="Leave in float what INT8 hurts most, up to this multiple of the INT8 latency, or 1.2."),
    )  # fmt: skip
    return _with(options, command)


def smaller_options(command: Command) -> Command:
    """Students that compute less: narrower ones, or with weights of 0 that tensor cores skip."""
    options = (
        click.option("--width", type=float, metavar="SHARE", help="Students with this share of the channels, such as "
                     "0.5, which learn from the full ones, too; in RUN/width-SHARE. [default: 1]"),
        click.option("--sparsity", type=click.Choice([SPARSITY]), help="Of any four weights in INT8 two are 0, which "
                     "tensor cores since Ampere skip. [default: none]"),
    )  # fmt: skip
    return _with(options, command)


def run_options(command: Command) -> Command:
    """Where results go."""
    options = (
        click.option("--out", type=click.Path(path_type=Path), default=Path("runs/edge"), show_default=True,
                     metavar="RUN", help="The run's folder; what is there and still fits is used again."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
        click.option("--force", is_flag=True, help="Do everything again."),
    )  # fmt: skip
    return _with(options, command)


def whole_numbers(_: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """Whole numbers from "1,32,256", each once."""
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"--{option.name} is {text!r}; give whole numbers like 1,32,256") from None
    if min(numbers) < 1:
        raise InputError(f"--{option.name} holds {min(numbers)}; the smallest is 1")
    return numbers


def shares(_: click.Context, option: click.Parameter, text: str) -> tuple[float, ...]:
    """Numbers above 0 and at most 1 from "1,0.5", each once."""
    try:
        found = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"--{option.name} is {text!r}; give shares like 1,0.5,0.25") from None
    for share in found:
        if not 0 < share <= 1:
            raise InputError(f"--{option.name} holds {share:g}; a share is above 0 and at most 1")
    return found


def names(_: click.Context, __: click.Parameter, text: str) -> tuple[str, ...]:
    """Names from "a,b", each once; "" gives none."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def precisions(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    """fp32 and int8."""
    found = names(context, option, text)
    for name in found:
        if name not in ("fp32", "int8"):
            raise InputError(f"--{option.name} holds {name!r}; give fp32, int8 or both as fp32,int8")
    return found


method_option = click.option("--method", type=click.Choice(METHODS), help="How to train. [default: taught]")


def split_list(text: str) -> tuple[str, ...]:
    """`a, b` -> ("a", "b")."""
    return tuple(name.strip() for name in text.split(","))


def _method_names(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """`--method a,b --method c` -> ("a", "b", "c"); an unknown name is a usage error."""
    names = dict.fromkeys(name for value in given for name in split_list(value))
    return tuple(click.Choice(METHODS).convert(name, option, context) for name in names)


methods_option = click.option(
    "--method", "methods", metavar="A,B", multiple=True, callback=_method_names,
    help=f"How to train; several are trained one after the other: {', '.join(METHODS)}. [default: taught]",
)  # fmt: skip
modalities_option = click.option(
    "--modalities", metavar="A,B", help="Modalities to train on. [default: what the set recommends]"
)


def make_recipe(recipe: Path | None, **flags: Any) -> Recipe:
    """The recipe in the file, or the default one, with the flags that were given."""
    result = read_recipe(recipe) if recipe else Recipe()
    given = {name: value for name, value in flags.items() if value is not None}
    if "modalities" in given:
        given["modalities"] = split_list(given["modalities"])
    training = {name: given.pop(name) for name in _TRAINING if name in given}
    model = {name: given.pop(name) for name in _MODEL if name in given}
    compression = {name: given.pop(name) for name in _COMPRESSION if name in given}
    if "exclude" in compression:
        compression["exclude"] = split_list(compression["exclude"])
    result = dataclasses.replace(
        result,
        training=dataclasses.replace(result.training, **training),
        model=dataclasses.replace(result.model, **model),
        compression=dataclasses.replace(result.compression, **compression),
        **given,
    ).check()
    if result.protocol == "published":
        from edge.train.splits import TOO_GOOD

        click.echo(f"warning: {TOO_GOOD}", err=True)
    return result
