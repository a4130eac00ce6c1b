"""`edge bench`: latency and accuracy of bundles on this machine, now."""

import json
import shlex
import sys
from pathlib import Path

import click


def _numbers(_: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """Batch sizes from "1,32,256"."""
    from edge.errors import InputError

    try:
        numbers = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"--{option.name} is {text!r}; give whole numbers like 1,32,256") from None
    if min(numbers) < 1:
        raise InputError(f"--{option.name} holds {min(numbers)}; the smallest is 1")
    return numbers


def _precisions(_: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    from edge.errors import InputError

    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in ("fp32", "int8"):
            raise InputError(f"--{option.name} holds {name!r}; give fp32, int8 or both as fp32,int8")
    return names


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Test data: an array per modality, `target`, and `groups` for intervals by group. "
    "Without it the bundle's golden inputs are timed, and accuracy is not measured.",
)
@click.option("--batch", default="1,32,256", show_default=True, callback=_numbers, metavar="N,N", help="Batch sizes.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of the engine.")
@click.option("--precision", default="fp32,int8", show_default=True, callback=_precisions, help="Graphs to measure.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as a page.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.json", help="Write the report as JSON.")
def command(
    bundles: tuple[Path, ...],
    data: Path | None,
    batch: tuple[int, ...],
    threads: int,
    precision: tuple[str, ...],
    as_json: bool,
    html: Path | None,
    out: Path | None,
) -> None:
    """Measure bundles on this machine: latency of all of them together, accuracy on the engine.

    \b
    Example:
      edge bench runs/edge/bundles/optical-int8 --data test.npz --html report.html
    """
    from edge.benchmarks.bundles import bench_bundles
    from edge.benchmarks.html import report_html
    from edge.benchmarks.report import table
    from edge.files import write_json, write_text

    report = bench_bundles(
        bundles,
        data,
        precisions=precision,
        batches=batch,
        threads=threads,
        command=shlex.join(["edge", *sys.argv[1:]]),
        notify=lambda message: click.echo(message, err=True),
    )
    if out:
        write_json(out, report)
    if html:
        write_text(html, report_html(report))
    for text in report["warnings"]:
        click.echo(f"Mind: {text}", err=True)
    click.echo(json.dumps(report, indent=2) if as_json else table(report))
