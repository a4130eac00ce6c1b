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
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the comparison as a page.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(before: Path, after: Path, conditions: tuple[str, ...], html: Path | None, as_json: bool) -> None:
    """Compare two reports, or the reports of two bundles.

    Both are checked against the published schema first. Rows of the same method, precision, modality, engine, threads
    and batch size are compared. With a condition, a row or a figure that only A has fails, too: a gate does not pass
    unseen.

    \b
    Conditions, of B against A:
      p99>+5%          p99 latency is more than 5 % higher
      metric<-0.5      the metric is more than 0.5 points lower: 0.820 -> 0.814 is -0.6
      p50>+0.1         the median is more than 0.1 ms higher
      throughput<-10%  samples per second are more than 10 % fewer
      energy>+5%       a sample takes more than 5 % more energy
      size>+1000       the graph is more than 1000 bytes larger
      memory>+20       the process takes more than 20 MiB more

    \b
    Example:
      edge compare main.json branch.json --fail-if 'p99>+5%' --fail-if 'metric<-0.5' --html change.html
    """
    from edge.benchmarks.changes import comparison_html
    from edge.benchmarks.compare import compare, comparison_json, comparison_table, parse_condition
    from edge.benchmarks.report import read_report
    from edge.errors import GateError
    from edge.files import write_text

    parsed = [parse_condition(text) for text in conditions]
    first, second = read_report(before), read_report(after)
    comparison = compare(first, second, parsed)
    if html:
        write_text(html, comparison_html(comparison, first, second, (str(before), str(after))))
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
