"""What folding and INT8 gain, in ONNX Runtime with one thread: medians of engines that are measured in turns.

    python -m edge.benchmarks.student_speed                                     # ten minutes
    python -m edge.benchmarks.student_speed --seconds 0.2 --student "LFMC sar"   # a look

Students of the default size, with random weights and random input (time does not depend on them), in the shapes of
STUDENTS: series as in CropHarvest (12 months x 12 bands) and LFMC, and images for each family of backbones. Prints a
table for each and one line of JSON. Bars on a CPU with AVX512-VNNI: INT8 as many times as fast as FP32 as STUDENTS
says, at the smallest and the largest batch; CropHarvest's file at most 30 % of FP32's, and folding never slower. Ratios
of one run mean something; where other things run beside it ("other load") even those waver: FP32 suffers more, so that
INT8 seems faster than it is.
"""

import contextlib
import dataclasses
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt

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
REFERENCE = "FP32 folded"  # the bars compare INT8 with it


@dataclass(frozen=True)
class Shape:
    """What a student reads: (times, bands) or (bands, rows, columns)."""

    encoder: str
    shape: tuple[int, ...]
    task: Task = CROP
    bars: tuple[float, float] | None = None  # FP32's time over INT8's, at the smallest and at the largest batch

    @property
    def image(self) -> bool:
        """Whether it is an image; otherwise it is a series."""
        return len(self.shape) == 3

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes that are worth measuring: an image is a thousand times as much as a series."""
        return (1, 8) if self.image else BATCHES

    def random(self, n: int, seed: int) -> npt.NDArray[np.float32]:
        """Samples (n, *shape)."""
        return np.random.default_rng(seed).normal(size=(n, *self.shape)).astype(np.float32)

    def calibration(self) -> npt.NDArray[np.float32]:
        """What ranges are taken from."""
        return self.random(16 if self.image else 512, seed=1)

    def modality(self) -> Modality:
        """Called `image` or `series`."""
        bands = tuple(Band(f"B{i}") for i in range(self.shape[0 if self.image else 1]))
        if self.image:
            return Modality("image", bands, ("band", "y", "x"), self.shape)
        return Modality("series", bands, ("time", "band"), self.shape)


STUDENTS = {
    "CropHarvest": Shape("tempcnn", (12, 12), bars=(3.5, 5)),
    "LFMC optical": Shape("tempcnn", (4, 8), MOISTURE),
    "LFMC sar": Shape("tempcnn", (4, 3), MOISTURE),
    "MobileNet 64": Shape("mobilenet", (3, 64, 64), bars=(2, 2)),
    "MobileNet 224": Shape("mobilenet", (3, 224, 224), bars=(2, 2)),
    "ResNet-18 64": Shape("resnet18", (3, 64, 64), bars=(2, 2)),
    "ResNet-18 224": Shape("resnet18", (3, 224, 224), bars=(2, 2)),
    "patch, lidar": Shape("patch", (1, 9, 9), bars=(2, 2)),
    "patch, hyperspectral": Shape("patch", (369, 7, 7), bars=(2, 2)),
}


def untrained(kind: Shape) -> "Trained":
    """A student of the default size with random weights."""
    import torch

    from edge.recipe import Recipe
    from edge.train.model import CoLearner
    from edge.train.scaling import Scaling
    from edge.train.training import Trained

    torch.manual_seed(0)
    modality, recipe = kind.modality(), Recipe()
    model = CoLearner([modality], kind.task, dataclasses.replace(recipe.model, encoder=kind.encoder)).eval()
    bands = [len(modality.bands) if axis == "band" else 1 for axis in modality.dims]
    scaling = Scaling(np.zeros(bands, np.float32), np.ones(bands, np.float32))
    known = {modality.name: modality}, kind.task, {modality.name: scaling}
    return Trained(Path(), model, *known, (0.0, 1.0), recipe, {})


def graphs(trained: "Trained", calibration: npt.NDArray[np.float32]) -> "dict[str, onnx.ModelProto]":
    """The student as it was trained, folded, and in INT8 with ranges from `calibration`."""
    import torch

    from edge.compress.fold import FoldedStudent
    from edge.compress.graphs import fp32_graph, unfolded_graph
    from edge.compress.placement import place
    from edge.compress.quantize import layer_ranges, quantize

    (name,), x = trained.modalities, torch.from_numpy(calibration)
    student = FoldedStudent(trained.model.students[name])  # type: ignore[arg-type]
    ranges = layer_ranges(quantize(student, torch.split(x, 64)), x[:1])
    folded = fp32_graph(trained, name)
    return {
        "FP32 unfolded": unfolded_graph(trained, name),
        REFERENCE: folded,
        "INT8": place(folded, ranges, "cpu"),
    }


def measure(models: "dict[str, onnx.ModelProto]", kind: Shape, timing: Timing) -> list[dict[str, Any]]:
    """A row for each graph: bytes, median microseconds per batch size, cores that something else kept busy."""
    rows = [{"graph": name, "bytes": model.ByteSize(), "us": {}, "runs": {}} for name, model in models.items()]
    name_of_input = kind.modality().name
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        engines = {}
        for name, model in models.items():
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(model.SerializeToString())
            engines[name] = open_engine(path)
            opened.callback(engines[name].close)
        for batch in kind.batches:
            x, load = kind.random(batch, seed=0), OtherLoad()
            runs = {name: query(engine, name_of_input, x) for name, engine in engines.items()}
            timed = measure_together(runs, timing)
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
    batches = list(rows[0]["us"])
    head = ["graph", "bytes", *(f"us @{batch}" for batch in batches), *(f"times FP32 @{batch}" for batch in batches)]
    lines = [
        [row["graph"], f"{row['bytes']:,}"]
        + [f"{row['us'][batch]:,.1f}" for batch in batches]
        + [f"{speedup(rows, row, batch):.2f}" for batch in batches]
        for row in rows
    ]
    return columns([head, *lines], left=1)


def bars(kind: Shape, rows: list[dict[str, Any]]) -> str:
    """What INT8 (the last row) reached and what it should; empty where nothing is asked of it."""
    ends = kind.batches[0], kind.batches[-1]
    reached = [f"{speedup(rows, rows[-1], batch):.2f}x at batch {batch}" for batch in ends]
    return (
        ""
        if kind.bars is None
        else "bars: INT8 " + ", ".join(f"{found} ({bar:g})" for found, bar in zip(reached, kind.bars, strict=True))
    )


@click.command()
@click.option("--seconds", default=2.0, show_default=True, help="Measure each graph for so long at each batch size.")
@click.option("--student", "names", multiple=True, type=click.Choice(list(STUDENTS)), help="Repeatable. [default: all]")
def main(seconds: float, names: tuple[str, ...]) -> None:
    """Measure FP32 unfolded, FP32 folded and INT8 beside each other."""
    from edge.compress.graphs import folding

    timing = Timing(warmup_s=min(0.3, seconds), min_duration_s=seconds, max_duration_s=3 * seconds)
    students: dict[str, dict[str, Any]] = {}
    for name in names or STUDENTS:
        kind = STUDENTS[name]
        trained = untrained(kind)
        saved = folding(trained, kind.modality().name)
        rows = measure(graphs(trained, kind.calibration()), kind, timing)
        load = max(row["other_load"] for row in rows)
        shape = " x ".join(map(str, kind.shape))
        print(f"{name}, {shape}: {saved.line()}; other load {load:.1f} cores\n{table(rows)}\n{bars(kind, rows)}\n")
        students[name] = {"encoder": kind.encoder, "shape": kind.shape, "folding": vars(saved), "rows": rows}
    print(json.dumps({"benchmark": "student_speed", "threads": 1, "machine": machine_facts(), "students": students}))


if __name__ == "__main__":
    main()
