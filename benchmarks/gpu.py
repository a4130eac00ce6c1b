"""All students of some runs on an NVIDIA GPU: TensorRT in three precisions against torch and ONNX Runtime, as CSV.

    benchmarks/gpu.sh run --out gpu.csv runs/edge runs/lfmc      # on a machine with a GPU
    benchmarks/gpu.sh dry-run --out gpu.csv runs/edge            # anywhere: all of it but the GPU

For each bundle in RUN/bundles with test samples in RUN/test: TensorRT (or TensorRT-RTX) FP32, FP16 and INT8; ONNX
Runtime's CUDA provider on the FP32 graph and the INT8 one (which it computes in float); the trained torch student,
eager and compiled. All of a bundle are timed in turns in one process, end to end: from sensor values in host memory to
predictions in host memory. Parity and accuracy are judged against ONNX Runtime on the CPU with the same graph. FP32 is
FP32 for all of them: TF32, which torch and ONNX Runtime would take for convolutions, is off.

A dry run compiles what can be compiled without a GPU and runs torch and ONNX Runtime on the CPU for parity; it times
nothing, and its rows say so.
"""

import contextlib
import csv
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from edge.benchmarks.accuracy import accuracy
from edge.benchmarks.bench import BATCHES, batch_of, predict
from edge.benchmarks.bundles import inputs_of
from edge.benchmarks.latency import Timing, measure_together, query
from edge.benchmarks.statistics import summarise
from edge.deploy.builder_tensorrt import PRECISIONS, Options
from edge.deploy.bundle import Bundle, open_bundle
from edge.deploy.engine import open_engine
from edge.deploy.gpu import gpu_here
from edge.deploy.plan import obtain
from edge.deploy.verify import agree
from edge.engines import find_backend
from edge.errors import FitError, InputError
from edge.files import replacing
from edge.metrics import relative_drop

COLUMNS = (
    "run", "bundle", "contender", "precision", "version", "device", "batch", "p50_ms", "p90_ms", "p99_ms", "runs",
    "gpu_ms", "copy_ms", "overhead", "metric", "drop", "within_gate", "agrees", "largest_difference", "bytes", "error",
)  # fmt: skip
Array = np.ndarray[Any, Any]
Row = dict[str, Any]


@dataclass
class Contender:
    """Something that may predict. `opened` gives an Engine; `reference` is the graph whose CPU result it must match."""

    name: str
    precision: str
    reference: str
    opened: Callable[[], Any]
    size: int | None = None
    version: str = ""


class TorchStudent:
    """The trained student as torch runs it, with the same ends as the ONNX graph: an Engine as far as we need one."""

    def __init__(self, run: Path, bundle: Bundle, device: str, *, compiled: bool) -> None:
        import torch

        from edge.train.training import load_trained, to_units

        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        method = str(bundle.card["properties"]["edge:training"]["method"])
        trained, self._name = load_trained(run / "train" / method), bundle.modality.name
        scaling = trained.scaling[self._name]
        mean, std = (torch.as_tensor(values, device=device) for values in (scaling.mean, scaling.std))
        branch = trained.model.students[self._name].to(device).eval()

        def student(x: Any) -> Any:
            z = (x - mean) / std
            output = branch(torch.where(torch.isnan(z), torch.zeros_like(z), z)).prediction
            return to_units(trained.task, output, trained.target_scaling)

        if compiled:  # forget the bundles before: after eight shapes of one function torch would run it uncompiled
            torch.compiler.reset()
        self._student = torch.compile(student, dynamic=False) if compiled else student
        self._torch, self._device = torch, device

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """As Engine.run."""
        with self._torch.inference_mode():
            x = self._torch.from_numpy(inputs[self._name]).to(self._device)
            return {"prediction": self._student(x).float().cpu().numpy()}

    def close(self) -> None:
        """As Engine.close."""


class OnnxRuntimeCuda:
    """ONNX Runtime with its CUDA provider; FitError if that does not load."""

    def __init__(self, graph: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        wanted = [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(graph.read_bytes(), options, providers=wanted)
        if "CUDAExecutionProvider" not in self._session.get_providers():
            raise FitError("ONNX Runtime cannot load its CUDA provider here")

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """As Engine.run."""
        return {"prediction": self._session.run(["prediction"], inputs)[0]}

    def close(self) -> None:
        """As Engine.close."""
        del self._session


def contenders(run: Path, bundle: Bundle, backend: str, *, dry: bool) -> Iterator[Contender]:
    """Everything that predicts what the bundle predicts."""
    graphs = {"fp32": bundle.graphs["fp32"], "fp16": bundle.graphs["fp32"]}
    if "int8.tensorrt" in bundle.graphs:
        graphs["int8"] = bundle.graphs["int8.tensorrt"]
    for precision in PRECISIONS:
        if precision in graphs:
            yield _tensorrt(graphs[precision], precision, backend, dry=dry)
    for precision in ("fp32", "int8"):
        if precision in graphs:
            graph = graphs[precision]
            opened = _later(open_engine, graph) if dry else _later(OnnxRuntimeCuda, graph)
            name = "onnxruntime" if dry else "onnxruntime CUDA"
            yield Contender(name, precision, _key(precision), opened, graph.stat().st_size, _version("onnxruntime"))
    device = "cpu" if dry else "cuda"
    for name, compiled in (("torch eager", False), ("torch compile", True)):
        if not (dry and compiled):
            opened = _later(TorchStudent, run, bundle, device, compiled=compiled)
            yield Contender(name, "fp32", "fp32", opened, version=_version("torch"))


def _tensorrt(graph: Path, precision: str, backend: str, *, dry: bool) -> Contender:
    """Built now; a build that fails is raised when it is opened."""
    try:
        plan = obtain(graph, Options(precision), backend=backend, notify=_say)
    except Exception as error:  # EdgeError, and what NVIDIA's library raises on a GPU that it does not know
        return Contender(backend, precision, _key(precision), _later(_fail, error))
    about = FitError("compiled, not run: this is a dry run")
    opened = _later(_fail, about) if dry else _later(open_engine, plan.path, backend=backend)
    return Contender(backend, precision, _key(precision), opened, plan.path.stat().st_size, plan.about["builder"])


def measure(run: Path, bundle: Bundle, backend: str, seconds: float, max_drop: float, *, dry: bool) -> list[Row]:
    """A row per contender and batch size; one without a batch size where nothing was timed."""
    name, given = bundle.modality.name, inputs_of([bundle], run / "test")[bundle.modality.name]
    x, target = np.ascontiguousarray(given.x, np.float32), given.target
    if target is None:
        raise InputError(f"the test samples of {run} have no target")
    expected: dict[str, Array] = {
        key: _reference(bundle.graphs[key], name, x) for key in ("fp32", "int8.tensorrt") if key in bundle.graphs
    }
    fp32 = accuracy(bundle.task, expected["fp32"], target)["scores"]
    gpu = gpu_here()
    device = "cpu (dry run)" if dry or gpu is None else gpu[0]
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        running: dict[int, Any] = {}
        for contender in contenders(run, bundle, backend, dry=dry):
            row: Row = dict.fromkeys(COLUMNS)
            row |= {"run": run.name, "bundle": bundle.folder.name, "contender": contender.name, "device": device}
            row |= {"precision": contender.precision, "version": contender.version, "bytes": contender.size}
            rows.append(row)
            _say(f"{run.name} {bundle.folder.name}: {contender.name} {contender.precision}")
            try:
                engine = contender.opened()
                stack.callback(engine.close)
                found = predict(engine, name, x)
            except Exception as error:  # whatever a GPU's library raises, the others still count
                row["error"] = (getattr(error, "message", str(error)).splitlines() or [type(error).__name__])[0]
                continue
            row |= _judged(bundle, contender, found, expected[contender.reference], target, fp32, max_drop)
            running[len(rows) - 1] = engine
        return rows if dry else _latencies(rows, running, name, x, seconds)


def _judged(
    bundle: Bundle, contender: Contender, found: Array, expected: Array, target: Any, fp32: Any, max_drop: float
) -> Row:
    """Parity with the CPU's result of the same graph, and the accuracy gate."""
    judged = accuracy(bundle.task, found, target)
    drop = relative_drop(bundle.task, fp32, judged["scores"])
    # FP16 has no graph of its own; as INT8 it is judged by its decisions, or by 1 % of the outputs' spread.
    agrees, _ = agree("fp32" if contender.precision == "fp32" else "int8", bundle.task, expected, found)
    return {
        "metric": judged["metric"], "drop": drop, "within_gate": drop is not None and drop <= max_drop,
        "agrees": agrees, "largest_difference": float(np.abs(found - expected).max()),
    }  # fmt: skip


def _latencies(rows: list[Row], running: dict[int, Any], name: str, x: Array, seconds: float) -> list[Row]:
    """The rows once more for each batch size, with times; those that do not run as they are."""
    timing = Timing(min_duration_s=seconds, max_duration_s=3 * seconds)
    found = [row for place, row in enumerate(rows) if place not in running]
    for batch in BATCHES:
        times = measure_together({at: query(each, name, batch_of(x, batch)) for at, each in running.items()}, timing)
        for place, each in times.items():
            latency = summarise(np.asarray(each.seconds) * 1e3)
            gpu = summarise([part.graph * 1e3 for part in each.parts])["p50"] if each.parts else None
            copies = [(part.copy_in or 0) + (part.copy_out or 0) for part in each.parts]
            found.append(
                rows[place]
                | {"batch": batch, "runs": len(each.seconds), "gpu_ms": gpu}
                | {f"{key}_ms": latency[key] for key in ("p50", "p90", "p99")}
                | {"copy_ms": float(np.median(copies)) * 1e3 if copies else None}
                | {"overhead": latency["p50"] / gpu - 1 if gpu and latency["p50"] else None}
            )
    return found


def _write(out: Path, rows: list[Row]) -> None:
    with replacing(out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _reference(graph: Path, name: str, x: Array) -> Array:
    with contextlib.closing(open_engine(graph)) as engine:
        return predict(engine, name, x)


def _key(precision: str) -> str:
    return "int8.tensorrt" if precision == "int8" else "fp32"


def _version(module: str) -> str:
    """What a module says of itself; "" where it is not installed, which opening it will say."""
    try:
        return str(importlib.import_module(module).__version__)
    except ImportError:
        return ""


def _later(function: Callable[..., Any], *arguments: Any, **named: Any) -> Callable[[], Any]:
    return lambda: function(*arguments, **named)


def _fail(error: Exception) -> Any:
    raise error


def _say(message: str) -> None:
    click.echo(message, err=True)


def bundles_of(run: Path) -> list[Bundle]:
    """The bundles of a run that has test samples for them; InputError if it has none."""
    folders = sorted((run / "bundles").glob("*/card.json"))
    found = [open_bundle(card.parent) for card in folders]
    kept = [bundle for bundle in found if (run / "test" / f"{bundle.modality.name}.npz").is_file()]
    if not kept:
        raise InputError(f"{run} has no bundle with test samples; make one with `edge build --int8 --out {run}`")
    return kept


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE.csv", help="The table.")
@click.option("--backend", type=click.Choice(["tensorrt", "tensorrt_rtx"]), help="[default: what is installed]")
@click.option(
    "--seconds", type=float, default=2.0, show_default=True, help="Time each at least so long per batch size."
)
@click.option("--max-drop", type=float, default=0.01, show_default=True, help="The accuracy gate.")
@click.option("--dry-run", is_flag=True, help="All of it but the GPU; nothing is timed.")
def main(runs: Sequence[Path], out: Path, backend: str | None, seconds: float, max_drop: float, dry_run: bool) -> None:
    """Measure all students of RUN... on this machine's GPU."""
    if not dry_run and gpu_here() is None:
        raise FitError("this machine has no GPU that cuda-python can use; try --dry-run")
    found = backend or find_backend()
    students = [(run, bundle) for run in runs for bundle in bundles_of(run)]
    rows: list[Row] = []
    for run, bundle in students:
        rows += measure(run, bundle, found, seconds, max_drop, dry=dry_run)
        _write(out, rows)  # after each bundle: a borrowed GPU may be taken back before the last one
    wrong = [row for row in rows if row["agrees"] is False or row["within_gate"] is False]
    counted = {"rows": len(rows), "failed": sum(row["error"] is not None for row in rows), "wrong": len(wrong)}
    click.echo(json.dumps({"benchmark": "gpu", "dry_run": dry_run, "out": str(out)} | counted))


if __name__ == "__main__":
    main()
