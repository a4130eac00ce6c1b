"""Which layer of a student does INT8 hurt, and what does it cost to leave it in float?

Everything is measured on exported graphs in ONNX Runtime, on validation samples (never test), of the students that
fine-tuning left behind: the float graph with one layer quantized ("alone": the damage that this layer does), and the
INT8 graph with one layer left in float ("left": what that takes back of the damage of all, and its latency, timed in
turns with the INT8 graph). Layers that read one tensor (both encoders' first convolutions read the sensor's values)
are also measured together: while one of them is in INT8, that tensor is rounded for all. A difference has a 95 %
interval over resampled groups of samples, because on a few hundred samples most of the differences are noise; the loss
shows damage long before the metric does.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from edge.compress.exclude import layers_of
from edge.compress.graphs import tuned_graph
from edge.compress.placement import place
from edge.compress.quantize import InputRange
from edge.deploy.engine import open_engine
from edge.deploy.onnx_graph import PAIR, Graph
from edge.errors import InputError
from edge.metrics import resamples, score
from edge.tasks import Task
from edge.train.training import split_of

if TYPE_CHECKING:
    from edge.compress.compression import Compressed
    from edge.train.paired import PairedSet
    from edge.train.training import Trained

Array = npt.NDArray[Any]
Notify = Callable[[str], None]
BATCH = 32  # by which latency is judged, as `edge build --precision auto` does
SAMPLES = 1024  # validation samples that are used at most: each layer needs two predictions of all of them
TOGETHER = 8  # graphs that are open at once: each has its own copy of the weights
LEVEL = 0.95


@dataclass(frozen=True)
class Samples:
    """Validation samples that have the modality: sensor values, targets, groups; sd of the training targets."""

    x: Array
    target: Array
    groups: Array
    target_sd: float


@dataclass(frozen=True)
class Student:
    """The fine-tuned student of one modality: its float graph, its trained ranges, what is in float already."""

    modality: str
    task: Task
    tuned: onnx.ModelProto
    ranges: Mapping[str, InputRange]
    excluded: tuple[str, ...]
    samples: Samples

    @property
    def layers(self) -> list[str]:
        """The layers that can be left in float."""
        return layers_of({self.modality: self.ranges})[self.modality]

    @property
    def units(self) -> list[list[str]]:
        """Each layer by itself, and those that read one tensor."""
        readers: dict[str, list[str]] = {}
        view = Graph(self.int8())
        for node in view.quantized():
            dq = view.dequantizer(node.input[0])
            q = None if dq is None else view.quantizer(dq)
            name = view.through(node.input[1], PAIR).removesuffix(".weight.quantized")
            if q is not None and name in self.layers:
                readers.setdefault(q.input[0], []).append(name)
        return [[name] for name in self.layers] + [names for names in readers.values() if len(names) > 1]

    def int8(self, left: Sequence[str] = ()) -> onnx.ModelProto:
        """The INT8 graph of the CPU, with the layers `left` in float."""
        return place(self.tuned, self.ranges, "cpu", (*self.excluded, *left))

    def alone(self, layers: Sequence[str]) -> onnx.ModelProto:
        """The float graph with these layers quantized."""
        return place(self.tuned, {layer: self.ranges[layer] for layer in layers}, "cpu")


def students_of(data: "PairedSet", trained: "Trained", compressed: "Compressed") -> list[Student]:
    """The students that have INT8 layers; InputError if the validation part has no sample of a modality."""
    index = split_of(data, trained.recipe).validation
    found = []
    for modality, ranges in compressed.ranges.items():
        if not ranges:  # a GRU has no INT8 form
            continue
        here = index[data.present(modality)[index]]
        if not len(here):
            raise InputError(f"no validation sample has the modality {modality!r}; use another --fold")
        here = here[np.linspace(0, len(here) - 1, min(SAMPLES, len(here))).astype(int)]
        x = np.array(data.arrays[modality][here], np.float32)
        samples = Samples(x, np.array(data.target[here]), np.array(data.groups[here]), trained.target_scaling[1])
        tuned, excluded = tuned_graph(trained, compressed, modality), compressed.students[modality].excluded
        found.append(Student(modality, data.task, tuned, ranges, excluded, samples))
    return found


def sensitivity(student: Student, notify: Notify = lambda what: None) -> dict[str, Any]:
    """{"samples", "metric", "float", "int8", "layers"}; layers by the damage that each does alone, the worst first.

    float, int8: "loss", "metric". An entry of layers: "names", of one layer or of several that read one tensor;
    "alone": rise of loss and metric from float to these in INT8; "left": the same from INT8 to these in float (a loss
    below 0 is damage taken back), each "loss", "loss_ci95", "metric"; "latency": with them in float, as a multiple of
    the INT8 graph's; "microseconds" that this adds.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        float_outputs = predictions(student.tuned, student, folder)
        int8_outputs = predictions(student.int8(), student, folder)
        layers: list[dict[str, Any]] = []
        for names in student.units:
            notify(f"{student.modality}: {' + '.join(names)}")
            alone = change(student, float_outputs, predictions(student.alone(names), student, folder))
            left = change(student, int8_outputs, predictions(student.int8(names), student, folder))
            layers.append({"names": names, "alone": alone, "left": left})
    notify(f"{student.modality}: latency")
    timed = latencies(student, [layer["names"] for layer in layers])
    for layer, (ratio, added) in zip(layers, timed, strict=True):
        layer |= {"latency": ratio, "microseconds": added}
    layers.sort(key=lambda each: each["alone"]["loss"], reverse=True)
    return {
        "samples": len(student.samples.x), "metric": student.task.metric,
        "float": quality(student, float_outputs), "int8": quality(student, int8_outputs), "layers": layers,
    }  # fmt: skip


def predictions(model: onnx.ModelProto, student: Student, folder: Path) -> Array:
    """Outputs (N, K) of a graph in ONNX Runtime for the student's samples."""
    from edge.benchmarks.bench import predict

    path = folder / "graph.onnx"
    onnx.save(model, str(path))
    with contextlib.closing(open_engine(path)) as engine:
        return predict(engine, student.modality, student.samples.x)


def latencies(student: Student, left: Sequence[Sequence[str]]) -> list[tuple[float, float]]:
    """For each set of layers in float: the latency as a multiple of the INT8 graph's, and the microseconds added."""
    from edge.benchmarks.latency import Timing, measure_together, query

    timing = Timing(warmup_s=0.05, min_duration_s=0.3, min_samples=64, max_duration_s=1.0)
    x = student.samples.x[np.arange(BATCH) % len(student.samples.x)]
    found = []
    for start in range(0, len(left), TOGETHER):
        with _opened(student, [(), *left[start : start + TOGETHER]]) as engines:
            times = measure_together({at: query(each, student.modality, x) for at, each in enumerate(engines)}, timing)
        int8, *others = (float(np.median(each.seconds)) for each in times.values())
        found += [(other / int8, 1e6 * (other - int8)) for other in others]
    return found


@contextlib.contextmanager
def _opened(student: Student, left: Sequence[Sequence[str]]) -> Iterator[list[Any]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines = []
        for at, layers in enumerate(left):
            path = folder / f"{at}.onnx"
            onnx.save(student.int8(layers), str(path))
            engines.append(stack.enter_context(contextlib.closing(open_engine(path))))
        yield engines


def quality(student: Student, outputs: Array) -> dict[str, float]:
    """Loss and metric of outputs (N, K)."""
    losses, weights = sample_losses(student.task, outputs, student.samples)
    metric = score(student.task, outputs, student.samples.target)[student.task.metric]
    return {"loss": float(np.sum(weights * losses) / np.sum(weights)), "metric": metric}


def change(student: Student, before: Array, after: Array) -> dict[str, Any]:
    """Rise of loss and metric from one graph's outputs to another's, with the interval of the loss."""
    losses, weights = sample_losses(student.task, before, student.samples)
    rise = sample_losses(student.task, after, student.samples)[0] - losses
    drawn = [
        each[..., 0] / each[..., 1]
        for each in resamples(np.stack([weights * rise, weights], 1), student.samples.groups)
    ]
    ends = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist() if drawn else None
    found = [quality(student, outputs) for outputs in (before, after)]
    return {key: found[1][key] - found[0][key] for key in ("loss", "metric")} | {"loss_ci95": ends}


def sample_losses(task: Task, outputs: Array, samples: Samples) -> tuple[Array, Array]:
    """The task's loss for each sample (N,), from probabilities or units, and its weight, which balances the classes."""
    ones = np.ones(len(outputs))
    if task.kind == "regression":
        return ((outputs[:, 0].astype(np.float64) - samples.target) / samples.target_sd) ** 2, ones
    probabilities = np.clip(outputs.astype(np.float64), 1e-7, 1 - 1e-7)
    if task.kind == "multilabel":
        right = np.where(samples.target > 0, probabilities, 1 - probabilities)
        return -np.log(right).mean(axis=1), ones
    counts = np.bincount(samples.target, minlength=task.n_outputs)
    return -np.log(probabilities[np.arange(len(outputs)), samples.target]), 1 / counts[samples.target]
