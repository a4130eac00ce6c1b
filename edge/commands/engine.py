"""`edge engine`."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--backend", type=click.Choice(["tensorrt", "tensorrt_rtx"]), help="The builder. [default: what is there]"
)
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "fp16", "int8"]), default="auto", show_default=True,
    help="auto: all three are timed, and the fastest that keeps the accuracy is used.",
)  # fmt: skip
@click.option("--min-batch", type=int, default=1, show_default=True, help="The smallest batch.")
@click.option(
    "--opt-batch", type=int,
    help="The batch tuned for and judged by; others run in the next power of two. [default: 32, or the nearest]",
)  # fmt: skip
@click.option("--max-batch", type=int, default=256, show_default=True, help="The largest; all the same: a fixed batch.")
@click.option("--workspace", type=int, metavar="MIB", help="Scratch memory that kernels may use.")
@click.option("--level", type=int, help="Builder's optimisation level, 0 (builds soon) to 5 (searches longest).")
@click.option("--strongly-typed", is_flag=True, help="Types from the graph alone, from TensorRT 10.12 on; 11 always.")
@click.option("--dla", type=int, metavar="N", help="Use deep-learning accelerator N (experimental).")
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="FILE.npz", help="Test data, as `edge bench` takes it."
)
@click.option(
    "--max-drop", type=float, default=0.01, show_default=True, help="May be worse than FP32 by this fraction."
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="Time each engine at least so long at each batch size.")  # fmt: skip
@click.option("--force", is_flag=True, help="Build again what is there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.json", help="Write the same document.")
def command(
    bundle: Path, backend: str | None, precision: str, min_batch: int, opt_batch: int | None, max_batch: int,
    workspace: int | None, level: int | None, strongly_typed: bool, dla: int | None, data: Path | None,
    max_drop: float, seconds: float, force: bool, as_json: bool, out: Path | None,
) -> None:  # fmt: skip
    """Build, test and time a bundle's TensorRT engines; choose one.

    Engines are of this machine. They are kept in the cache (EDGE_CACHE or ~/.cache/edge-colearn), each with the key of
    what it was built for, and built again when that changes. `edge predict --backend tensorrt` then takes the one that
    was chosen.

    Exit codes: 0 an engine was chosen (or, without a GPU, compiled); 2 a graph is refused; 4 this machine cannot build
    or run them; 5 TensorRT or cuda-python is missing.

    \b
    Example:
      edge engine RUN/bundles/optical-int8-jetson-orin-nano --data optical.npz
    """
    from edge.benchmarks.report import table
    from edge.deploy.builder_tensorrt import PRECISIONS, USUAL_BATCH, Options
    from edge.deploy.bundle import open_bundle
    from edge.engines import build_engines, find_backend
    from edge.files import write_json

    batch = (min_batch, opt_batch or max(min_batch, min(USUAL_BATCH, max_batch)), max_batch)
    found = build_engines(
        open_bundle(bundle), backend or find_backend(),
        Options(batch=batch, workspace_mb=workspace, level=level, strongly_typed=strongly_typed, dla=dla).check(),
        precisions=PRECISIONS if precision == "auto" else (precision,), data=data, max_drop=max_drop, seconds=seconds,
        rebuild=force, command=shlex.join(["edge", *sys.argv[1:]]), notify=_say, progress=_progress(),
    )  # fmt: skip
    document = {"bundle": str(bundle)} | found.to_json()
    if out:
        write_json(out, document)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        _show(document)
        if found.report:
            click.echo(f"\n{table(found.report)}\n")
        click.echo("\n".join(found.why))


def _show(document: dict[str, Any]) -> None:
    """A line for each engine."""
    for engine in document["engines"]:
        if engine["error"]:
            _say(f"{engine['precision']}  not built: {engine['error']}")
            continue
        words = {True: "golden vectors agree", False: "GOLDEN VECTORS DIFFER", None: "not run"}[engine["agrees"]]
        size, typed = engine["bytes"] / 1e6, engine["typed"]
        _say(f"{engine['precision']}  {engine['builder']}, {typed} typed, {size:.2f} MB, {words}  {engine['plan']}")
        for warning in engine["warnings"]:
            _say(f"      TensorRT: {warning}")


def _progress() -> Any:
    """A line that is written over, on a terminal only."""
    if not sys.stderr.isatty():
        return None

    def tell(phase: str, done: int, total: int) -> None:
        click.echo(f"\r{phase} {done}/{total} ", err=True, nl=done == total)

    return tell


def _say(message: str) -> None:
    click.echo(message, err=True)
