"""`edge compare`: two reports side by side; a gate for CI."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("before", metavar="A", type=click.Path(exists=True, path_type=Path))
@click.argument("after", metavar="B", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Exit with 3 when this holds for any row of B against A: p50, p90, p99, mean, throughput, metric, energy, "
    "size or memory, then > or <, then a change, relative with %; the metric's unit is points, hundredths. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(before: Path, after: Path, conditions: tuple[str, ...], as_json: bool) -> None:
    """Compare two reports, or the reports of two bundles.

    \b
    Example:
      edge compare main.json branch.json --fail-if 'p99>+5%' --fail-if 'metric<-0.5'
    """
    from edge.benchmarks.compare import compare, comparison_json, comparison_table, parse_condition
    from edge.benchmarks.report import read_report
    from edge.errors import GateError

    parsed = [parse_condition(text) for text in conditions]
    comparison = compare(read_report(before), read_report(after), parsed)
    for text in comparison["warnings"]:
        click.echo(f"Mind: {text}", err=True)
    if as_json:
        click.echo(json.dumps(comparison_json(comparison), indent=2))
    else:
        click.echo(comparison_table(comparison))
        for where, names in (("A", comparison["only_before"]), ("B", comparison["only_after"])):
            for name in names:
                click.echo(f"Only in {where}: {name}", err=True)
    if comparison["failed"]:
        raise GateError("\n".join(comparison["failed"]))
