"""`edge build`."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from edge.commands.options import (
    float_options,
    make_recipe,
    method_option,
    modalities_option,
    recipe_options,
    run_options,
    smaller_options,
)


@click.command(name="build")
@click.option("--modality", required=True, metavar="NAME", help="The one sensor that is there in the field.")
@click.option("--int8", is_flag=True, help="The same as --precision int8.")
@click.option("--fp16", is_flag=True, help="The same as --precision fp16: for boards with TensorRT.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "fp16", "int8"]),
    help="auto: the fastest that keeps the accuracy. [default: fp32, for boards with TensorRT auto]",
)  # fmt: skip
@recipe_options
@method_option
@modalities_option
@smaller_options
@click.option("--target", metavar="NAME", help="What it is for: a name of `edge devices`. [default: cpu]")
@click.option("--max-drop", type=float, help="INT8 may be worse than FP32 by this fraction. [default: 0.01]")
@click.option(
    "--max-class-drop", type=float, help="No class may lose more recall or F1 (0.05: five points), no tenth of a "
    "regression's target gain more RMSE (0.05: 5 %), beyond doubt, with 50 test samples or more. [default: 0.05]",
)  # fmt: skip
@click.option("--on", "host", metavar="USER@HOST", help="Then verify, build engines and measure there, over ssh.")
@float_options
@run_options
def command(
    modality: str, int8: bool, fp16: bool, precision: str | None, host: str | None, out: Path, as_json: bool,
    force: bool, **flags: Any,
) -> None:  # fmt: skip
    """Train, compress, check and measure a student; write its bundle.

    Stages that are in RUN and still fit data, recipe and code are used again, so the next modality trains nothing.
    A gate that fails (accuracy, latency, parity) ends with exit code 3; the bundle is kept and marked as failed.
    With a board as --target the last lines say what to type on the board, where its engines are built and timed.

    \b
    Example:
      edge build --modality optical --int8
      edge build --data lfmc --modality sar --int8 --out runs/lfmc
      edge build --data lfmc --modality sar --int8 --width 0.5 --out runs/lfmc
      edge build --modality optical --int8 --target jetson-orin-nano --on user@jetson
    """
    from edge.benchmarks.report import table
    from edge.build import build
    from edge.deploy.remote import ask_device, build_on
    from edge.files import read_json

    asked = {name for name, on in (("int8", int8), ("fp16", fp16), (precision, precision)) if on}
    if len(asked) > 1:
        raise click.UsageError(f"{' and '.join(sorted(map(str, asked)))} are asked for; a bundle has one precision")
    if host:
        ask_device(host)  # now, and not after an hour of training
    typed = shlex.join(["edge", *sys.argv[1:]])
    built = build(make_recipe(**flags), modality, next(iter(asked), None), out, command=typed, force=force)
    run = built.folder.parents[1]  # RUN, or RUN/width-SHARE
    test = run / "test" / f"{modality}.npz"
    passed = all(gate["passed"] for gate in built.report["gates"])  # a board refuses what failed
    there = run / "on" / host / built.folder.name if host and passed else None
    if host and there:
        build_on(host, built.folder, there, data=test)
    if as_json:
        found = {"bundle": str(built.folder), "reused": built.reused, "folding": vars(built.folding)}
        found["engines"] = built.engines.to_json() if built.engines else None
        found |= {"on": str(there), "report_on": read_json(there / "report.json")} if there else {}
        click.echo(json.dumps(found | {"report": built.report}))
    else:
        click.echo(built.folding.line(), err=True)
        click.echo(f"\n{table(built.report)}\n")
        for warning in built.report["warnings"]:
            click.echo(f"warning: {warning}", err=True)
        click.echo(f"bundle: {built.folder}{' (was there already; --force builds it again)' if built.reused else ''}")
        if there:
            click.echo(f"\n{host}:\n{table(read_json(there / 'report.json'))}\n{there}")
        elif built.engines:
            click.echo("\n".join(built.engines.why))
        elif following := built.report["next"]:
            copy = shlex.join(["scp", "-r", str(built.folder), str(test)])
            click.echo(f"next, to the board and on it:\n  {copy} USER@BOARD:\n  {following}")
    built.check_gates()
