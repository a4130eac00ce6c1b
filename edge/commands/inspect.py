"""`edge inspect`."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(bundle: Path, as_json: bool) -> None:
    """Show what is in a bundle, down to the precision of every layer.

    Bands and units, task, graphs, layers and where Q/DQ pairs stand. Layers need the package onnx; without it
    everything else is shown.

    \b
    Example:
      edge inspect RUN/bundles/optical-int8
    """
    from edge.deploy.bundle import open_bundle
    from edge.deploy.inspect import as_text, inspect

    facts = inspect(open_bundle(bundle))
    click.echo(json.dumps(facts, indent=2) if as_json else as_text(facts))
