"""`edge build`."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from edge.commands.options import make_recipe, method_option, modalities_option, recipe_options, run_options


@click.command(name="build")
@click.option("--modality", required=True, metavar="NAME", help="The one sensor that is there in the field.")
@click.option("--int8", is_flag=True, help="The same as --precision int8.")
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@recipe_options
@method_option
@modalities_option
@click.option("--target", type=click.Choice(["cpu"]), help="Where it is measured. [default: cpu]")
@click.option("--max-drop", type=float, help="INT8 may be worse than FP32 by this fraction. [default: 0.01]")
@run_options
def command(modality: str, int8: bool, precision: str, out: Path, as_json: bool, force: bool, **flags: Any) -> None:
    """Train, compress, export, check and measure one student; write its bundle.

    Stages that are in RUN and still fit data, recipe and code are used again, so the next modality trains nothing.
    A gate that fails (accuracy, latency, parity) ends with exit code 3; the bundle is kept and marked as failed.

    \b
    Example:
      edge build --modality optical --int8
      edge build --data lfmc --modality sar --int8 --out runs/lfmc
    """
    from edge.benchmarks.report import table
    from edge.build import build

    typed = shlex.join(["edge", *sys.argv[1:]])
    built = build(make_recipe(**flags), modality, "int8" if int8 else precision, out, command=typed, force=force)
    if as_json:
        found = {"bundle": str(built.folder), "reused": built.reused, "folding": vars(built.folding)}
        click.echo(json.dumps(found | {"report": built.report}))
    else:
        click.echo(built.folding.line(), err=True)
        click.echo(f"\n{table(built.report)}\n")
        for warning in built.report["warnings"]:
            click.echo(f"warning: {warning}", err=True)
        click.echo(f"bundle: {built.folder}{' (was there already; --force builds it again)' if built.reused else ''}")
    built.check_gates()
