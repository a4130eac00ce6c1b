"""`edge devices`."""

import json
from typing import Any

import click

COLUMNS = ("target", "GB", "GB/s", "INT8 TOPS (sparse)", "SM", "DLA", "JetPack", "power modes")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, with JetPack versions and sources.")
def command(as_json: bool) -> None:
    """List the boards that edge knows, by the name `--target` takes.

    "-" is unknown or has no public source.

    \b
    Example:
      edge devices
      edge devices --json
    """
    from edge.deploy.devices import DEVICES, table

    if as_json:
        click.echo(json.dumps(table(), indent=2))
        return
    rows: list[tuple[str, ...]] = [COLUMNS]
    for board in DEVICES:
        cells = (board.memory_gb, board.bandwidth_gb_s, board.int8_tops, board.sm, board.dla)
        jetpacks = f"{board.jetpack[0]} - {board.jetpack[-1]}" if len(board.jetpack) > 1 else " ".join(board.jetpack)
        rows.append((board.target, *map(_cell, cells), jetpacks or "-", " ".join(board.power_modes or ()) or "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())
    click.echo()
    for board in DEVICES:
        if board.note:
            click.echo(f"{board.target}: {board.note}")
    click.echo("Each figure's source: edge devices --json")


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)
