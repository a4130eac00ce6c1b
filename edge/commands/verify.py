"""`edge verify`."""

import json
from pathlib import Path

import click

from edge.errors import GateError


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--backend", default="onnxruntime", show_default=True, help="The engine that runs the golden vectors.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(bundle: Path, backend: str, as_json: bool) -> None:
    """Test on this machine that a bundle is whole and predicts right.

    Looks at checksums, card, golden vectors, the free batch axis and the gates of its build.

    Exit codes: 0 every check passed or was skipped; 2 the bundle is damaged (the message names the file); 3 a check
    failed; 4 an engine cannot load a graph here; 5 the engine's library is missing.

    \b
    Example:
      edge verify RUN/bundles/optical-int8
    """
    from edge.deploy.bundle import open_bundle
    from edge.deploy.verify import verify

    checks = verify(open_bundle(bundle, checksums=False), backend)
    failed = [check.name for check in checks if check.passed is False]
    if as_json:
        document = {"bundle": str(bundle), "passed": not failed, "checks": [check.to_json() for check in checks]}
        click.echo(json.dumps(document, indent=2))
    else:
        words = {True: "passed", False: "FAILED", None: "skipped"}
        width = max(len(check.name) for check in checks)
        for check in checks:
            click.echo(f"{words[check.passed]:<8} {check.name:<{width}}  {check.detail}", err=True)
    if failed:
        raise GateError(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}")
