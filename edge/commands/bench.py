"""`edge bench`: latency, accuracy and energy of bundles on this machine, now."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import click

from edge.commands.options import names, precisions, whole_numbers


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Test data: an array per modality, `target`, and `groups` for intervals by group; or a folder with one file "
    "<modality>.npz for each, like RUN/test. Without it golden inputs are timed, and accuracy is not measured.",
)
@click.option(
    "--batch", default="1,32,256", show_default=True, callback=whole_numbers, metavar="N,N", help="Batch sizes."
)
@click.option(
    "--threads", default="1", show_default=True, callback=whole_numbers, metavar="N,N", help="Engine's threads."
)
@click.option(
    "--backend", default="onnxruntime", show_default=True, callback=names, metavar="A,B", help="Engines, side by side."
)
@click.option("--precision", default="fp32,int8", show_default=True, callback=precisions, help="Graphs to measure.")
@click.option(
    "--scenario",
    callback=names,
    default="single-stream,multi-stream,offline",
    show_default=True,
    metavar="NAME,NAME",
    help="Scenarios of MLPerf; `server`, too, where --latency-ms is given. '' for none.",
)
@click.option("--latency-ms", type=click.FloatRange(0, min_open=True), metavar="MS", help="The server's bound for p99.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Time each engine at least so long at each batch size, and in each scenario (MLPerf: 600).",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0),
    default=0.0,
    help="Keep each engine under load so long, at the first batch size, and show its curve.",
)
@click.option("--energy", is_flag=True, help="Measure energy, ten seconds for each row, where power can be read.")
@click.option(
    "--power-mode",
    callback=names,
    default="",
    metavar="A,B",
    help="Measure in each of these power modes of a Jetson (names of nvpmodel); files get the mode in their names.",
)
@click.option("--yes", is_flag=True, help="Change the power mode without asking.")
@click.option(
    "--choose", is_flag=True, help="`edge predict` takes the fastest of these engines for BUNDLE here from now on."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout (one for each power mode).")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as a page.")
@click.option("--csv", type=click.Path(path_type=Path), metavar="FILE", help="Write the rows for a spreadsheet.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.json", help="Write the report as JSON.")
def command(
    bundles: tuple[Path, ...],
    data: Path | None,
    batch: tuple[int, ...],
    threads: tuple[int, ...],
    backend: tuple[str, ...],
    precision: tuple[str, ...],
    scenario: tuple[str, ...],
    latency_ms: float | None,
    seconds: float,
    minutes: float,
    energy: bool,
    power_mode: tuple[str, ...],
    yes: bool,
    choose: bool,
    as_json: bool,
    html: Path | None,
    csv: Path | None,
    out: Path | None,
) -> None:
    """Measure latency and accuracy of bundles on this machine.

    All of them in one run, side by side; accuracy is that of the engine's own predictions.

    \b
    Example:
      edge bench runs/edge/bundles/optical-int8 --data runs/edge/test --html report.html
      edge bench BUNDLE --backend onnxruntime,tensorrt    # on a Jetson: both engines in one report
      edge bench BUNDLE --backend onnxruntime,openvino --choose    # on x86: `edge predict` then takes the faster one
    """
    from edge.benchmarks.bundles import Plan, bench_bundles
    from edge.benchmarks.html import report_html
    from edge.benchmarks.report import Report, table
    from edge.benchmarks.spreadsheet import report_csv
    from edge.benchmarks.tables import further_tables
    from edge.deploy.bundle import open_bundle
    from edge.deploy.choice import choose_for_cpu
    from edge.errors import InputError
    from edge.files import write_json, write_text

    if choose and (len(bundles) > 1 or power_mode):
        raise InputError("--choose takes one bundle and no --power-mode")
    if latency_ms is not None and "server" not in scenario:
        scenario = (*scenario, "server")
    reports: dict[str, Report] = {}

    def measure(mode: str = "") -> None:
        report = reports[mode] = bench_bundles(
            bundles,
            data,
            Plan(precision, batch, threads, scenario, latency_ms, seconds, minutes, energy, backend),
            command=shlex.join(["edge", *sys.argv[1:]]),
            notify=_say,
        )
        for text in report["warnings"]:
            _say(f"Mind: {text}")
        if not as_json:
            heading = [f"power mode {mode}"] if mode else []
            click.echo("\n\n".join([*heading, table(report), *further_tables(report)]))
        if out:  # written after it was shown: a file that cannot be written does not take the figures with it
            write_json(_for_mode(out, mode), report)
        if html:
            write_text(_for_mode(html, mode), report_html(report))
        if csv:
            write_text(_for_mode(csv, mode), report_csv(report))
        if choose:
            chosen, faults = choose_for_cpu(open_bundle(bundles[0]), report["results"])
            _say("; ".join([f"edge predict takes {chosen} for this bundle on this machine from now on", *faults]))

    if power_mode:
        _in_power_modes(power_mode, yes, measure)
    else:
        measure()
    if as_json:
        click.echo(json.dumps({"power_modes": reports} if power_mode else reports[""], indent=2))


def _in_power_modes(names: tuple[str, ...], yes: bool, measure: Callable[[str], None]) -> None:
    """Measure in each mode; afterwards the board is in the mode that it was in."""
    from edge.benchmarks.power_modes import check_modes, restored

    before = check_modes(names)
    if not yes:
        asked = f"Change this board's power mode to {', then '.join(names)}, and back to {before} at the end?"
        click.confirm(asked, abort=True, err=True)
    with restored(names, notify=_say) as modes:
        for name in modes:
            measure(name)


def _for_mode(path: Path, mode: str) -> Path:
    """report.json -> report.15W.json."""
    return path.with_suffix(f".{mode}{path.suffix}") if mode else path


def _say(message: str) -> None:
    click.echo(message, err=True)
