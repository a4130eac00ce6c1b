"""`edge front`."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.commands.options import (
    make_recipe,
    method_option,
    modalities_option,
    names,
    precisions,
    recipe_options,
    shares,
)

if TYPE_CHECKING:
    from edge.front import Grid, Wish
    from edge.recipe import Recipe


@click.command(name="front")
@click.option("--modality", metavar="NAME", help="The one sensor in the field. [default: the first that is trained]")
@click.option(
    "--width",
    "widths",
    default="1,0.5,0.25",
    show_default=True,
    callback=shares,
    help="Shares of the full student's channels.",
)
@click.option(
    "--precision", "precisions", default="fp32,int8", show_default=True, callback=precisions, help="Graphs to measure."
)
@click.option(
    "--backend",
    "engines",
    default="onnxruntime",
    show_default=True,
    callback=names,
    help="Engines, side by side.",
    metavar="A,B",
)
@click.option(
    "--latency-ms",
    type=click.FloatRange(0, min_open=True),
    metavar="MS",
    help="Name and build the most accurate student whose p99 at batch 1 is at most this.",
)
@click.option(
    "--metric-drop",
    type=click.FloatRange(0),
    metavar="POINTS",
    help="Name and build the fastest student at most so many hundredths below the best.",
)
@recipe_options
@method_option
@modalities_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/front"),
    show_default=True,
    metavar="RUN",
    help="The folder of the front; what is there and still fits is used again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--force", is_flag=True, help="Do everything again.")
def command(
    modality: str | None,
    widths: tuple[float, ...],
    precisions: tuple[str, ...],
    engines: tuple[str, ...],
    latency_ms: float | None,
    metric_drop: float | None,
    out: Path,
    as_json: bool,
    force: bool,
    **flags: Any,
) -> None:
    """Train and measure a grid of students; build the best.

    Draws accuracy against latency. A width is a share of the full student's channels (the recipe's model); students
    narrower than 1 also learn from the full ones. What is best is decided on the validation samples; the accuracy on
    the test samples is reported beside it. Each width is what `edge build --width W --out RUN` builds; RUN/front.json,
    front.svg and report.json show all of them. When none keeps the bounds the command ends with exit code 3.

    \b
    Example:
      edge front --data lfmc --modality optical --latency-ms 1
      edge front --data lfmc --width 1,0.75,0.5 --metric-drop 0.5 --out runs/lfmc-front
    """
    from edge.front import Grid, Wish

    show(make_recipe(**flags), modality, Grid(widths, precisions, engines), Wish(latency_ms, metric_drop), out,
         as_json=as_json, force=force)  # fmt: skip


def show(
    recipe: "Recipe", modality: str | None, grid: "Grid", wish: "Wish", out: Path, *, as_json: bool, force: bool
) -> None:
    """Make the front and print it; also for `edge compress --front`."""
    from edge.front import front, front_table

    found = front(
        recipe, modality, grid, wish, out, command=shlex.join(["edge", *sys.argv[1:]]), force=force,
        notify=lambda message: click.echo(message, err=True),
    )  # fmt: skip
    document = found.document
    for text in document["report"]["warnings"]:
        click.echo(f"Mind: {text}", err=True)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(front_table(document))
        click.echo(f"\n* Pareto-best on the validation samples; picture: {out / 'front.svg'}", err=True)
        if document["bundle"]:
            click.echo(f"bundle: {document['bundle']}")
    found.check()
