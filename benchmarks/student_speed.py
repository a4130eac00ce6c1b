"""What folding and INT8 gain, in ONNX Runtime with one thread: medians of engines that are measured in turns.

    python -m edge.benchmarks.student_speed                 # three minutes
    python -m edge.benchmarks.student_speed --seconds 0.2   # a look

Students of the default size, with random weights and random input (time does not depend on them): the shape of
CropHarvest (12 months x 12 bands), and LFMC's optical (4 x 8) and SAR (4 x 3). Prints a table for each and one line of
JSON. Bars for CropHarvest on a CPU with AVX512-VNNI: INT8 3.5 times as fast as FP32 at batch 1 and 5 times at batch
256, its file at most 30 % of FP32's, and folding never slower. Ratios of one run mean something; where other things run
beside it ("other load") even those waver: FP32 suffers more, so that INT8 seems faster than it is.
"""

import contextlib
import json
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edge.benchmarks.bench import BATCHES
from edge.benchmarks.latency import Timing, measure_together, query
from edge.benchmarks.machine import OtherLoad, machine_facts
from edge.benchmarks.report import columns
from edge.deploy.engine import open_engine
from edge.sensors import Band, Modality
from edge.tasks import Task

if TYPE_CHECKING:
    import onnx

    from edge.train.training import Trained

CROP = Task("binary", "crop", ("no crop", "crop"))
MOISTURE = Task("regression", "lfmc", unit="%")
SHAPES = {"CropHarvest": ((12, 12), CROP), "LFMC optical": ((4, 8), MOISTURE), "LFMC sar": ((4, 3), MOISTURE)}
REFERENCE = "FP32 folded"  # the bars compare INT8 with it


def untrained(shape: tuple[int, int], task: Task) -> "Trained":
    """A student of the default size for series of `shape` (times, bands), with random weights."""
    import torch

    from edge.recipe import Recipe
    from edge.train.model import CoLearner
    from edge.train.scaling import Scaling
    from edge.train.training import Trained

    torch.manual_seed(0)
    series = Modality("series", tuple(Band(f"B{i}") for i in range(shape[1])), ("time", "band"), shape)
    model, recipe = CoLearner([series], task, Recipe().model).eval(), Recipe()
    scaling = Scaling(np.zeros((1, shape[1]), np.float32), np.ones((1, shape[1]), np.float32))
    return Trained(Path(), model, {"series": series}, task, {"series": scaling}, (0.0, 1.0), recipe, {})


def graphs(trained: "Trained") -> "dict[str, onnx.ModelProto]":
    """The student as it was trained, folded, and in INT8 with ranges from random input."""
    import torch

    from edge.compress.fold import FoldedStudent
    from edge.compress.graphs import fp32_graph, unfolded_graph
    from edge.compress.placement import place
    from edge.compress.quantize import layer_ranges, quantize

    x = torch.randn(512, *trained.modalities["series"].shape)
    student = FoldedStudent(trained.model.students["series"])  # type: ignore[arg-type]
    ranges = layer_ranges(quantize(student, torch.split(x, 64)), x[:1])
    folded = fp32_graph(trained, "series")
    return {
        "FP32 unfolded": unfolded_graph(trained, "series"),
        REFERENCE: folded,
        "INT8": place(folded, ranges, "cpu"),
    }


def measure(models: "dict[str, onnx.ModelProto]", shape: tuple[int, int], timing: Timing) -> list[dict[str, Any]]:
    """A row for each graph: bytes, median microseconds per batch size, cores that something else kept busy."""
    rows = [{"graph": name, "bytes": model.ByteSize(), "us": {}, "runs": {}} for name, model in models.items()]
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        engines = {}
        for name, model in models.items():
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(model.SerializeToString())
            engines[name] = open_engine(path)
            opened.callback(engines[name].close)
        for batch in BATCHES:
            x = random.normal(size=(batch, *shape)).astype(np.float32)
            load = OtherLoad()
            timed = measure_together({name: query(engine, "series", x) for name, engine in engines.items()}, timing)
            other_load = round(load.cores() or 0.0, 2)
            for row in rows:
                row["us"][batch] = round(statistics.median(timed[row["graph"]].seconds) * 1e6, 2)
                row["runs"][batch] = len(timed[row["graph"]].seconds)
                row["other_load"] = max(other_load, row.get("other_load", 0.0))
    return rows


def speedup(rows: list[dict[str, Any]], row: dict[str, Any], batch: int) -> float:
    """How many times as fast as the folded FP32 graph."""
    reference = next(other for other in rows if other["graph"] == REFERENCE)
    return float(reference["us"][batch] / row["us"][batch])


def table(rows: list[dict[str, Any]]) -> str:
    """For people."""
    head = ["graph", "bytes", *(f"us @{batch}" for batch in BATCHES), *(f"times FP32 @{batch}" for batch in BATCHES)]
    lines = [
        [row["graph"], f"{row['bytes']:,}"]
        + [f"{row['us'][batch]:,.1f}" for batch in BATCHES]
        + [f"{speedup(rows, row, batch):.2f}" for batch in BATCHES]
        for row in rows
    ]
    return columns([head, *lines], left=1)


@click.command()
@click.option("--seconds", default=2.0, show_default=True, help="Measure each graph for so long at each batch size.")
def main(seconds: float) -> None:
    """Measure FP32 unfolded, FP32 folded and INT8 beside each other."""
    from edge.compress.graphs import folding

    timing = Timing(warmup_s=min(0.3, seconds), min_duration_s=seconds, max_duration_s=3 * seconds)
    students: dict[str, dict[str, Any]] = {}
    for name, (shape, task) in SHAPES.items():
        trained = untrained(shape, task)
        saved = folding(trained, "series")
        rows = measure(graphs(trained), shape, timing)
        print(f"{name}, {shape[0]} x {shape[1]}: {saved.line()}\n{table(rows)}\n")
        students[name] = {"shape": shape, "folding": vars(saved), "rows": rows}
    load = max(row["other_load"] for student in students.values() for row in student["rows"])
    crop = students["CropHarvest"]["rows"]
    ratios = [speedup(crop, crop[-1], batch) for batch in (BATCHES[0], BATCHES[-1])]
    print(
        f"bars: INT8 {ratios[0]:.2f}x at batch 1 (3.5), {ratios[1]:.2f}x at batch 256 (5); other load {load:.1f} cores"
    )
    print(json.dumps({"benchmark": "student_speed", "threads": 1, "machine": machine_facts(), "students": students}))


if __name__ == "__main__":
    main()
