"""`edge devices`."""

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, with JetPack versions.")
def command(as_json: bool) -> None:
    """List the boards that edge knows, by the name that `--target` takes; "-" is unknown or unverified.

    \b
    Example:
      edge devices
    """
    from edge.deploy.devices import DEVICES, SOURCE, table

    if as_json:
        click.echo(json.dumps(table(), indent=2))
        return
    columns = ("target", "GB", "GB/s", "INT8 TOPS (sparse)", "SM", "DLA", "JetPack", "note")
    rows = [columns]
    for board in DEVICES:
        cells = (board.memory_gb, board.bandwidth_gb_s, board.int8_tops, board.sm, board.dla)
        known = ("-" if cell is None else str(cell) for cell in cells)
        rows.append((board.target, *known, " ".join(board.jetpack) or "-", board.note))  # type: ignore[arg-type]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    for row in rows:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())
    click.echo(f"Source: {SOURCE}")
