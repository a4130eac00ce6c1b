"""How fast co-learning trains on one core, beside what bounds it and beside the straightforward implementation.

    python -m edge.benchmarks.training_speed                # LFMC's and CropHarvest's shapes, some minutes
    python -m edge.benchmarks.training_speed --rounds 1     # a look

For each shape, on noise (time does not depend on the values), with the default recipe and all four losses:

    step / encoders   a whole step of the loop (batch assembly, both modalities, all losses, optimiser) over the bare
                      forward and backward pass of the encoders on the same batch: of torch's own layers, which is
                      what training has to cost (bar: 1.3), and of ours
    times baseline    samples per second of an epoch over that of train/baseline.py, which computes the
                      same losses: values and gradients are compared first. Bar: 5
    arithmetic        the encoders' multiplications and additions over what a large matrix product reaches here

Everything runs in turns in one process with one thread. Seconds are processor seconds, which other processes on the
machine disturb less than a wall clock. Prints a table for each shape and one line of JSON.
"""

import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edge.benchmarks.machine import OtherLoad, machine_facts
from edge.benchmarks.report import columns
from edge.sensors import Band, Modality
from edge.tasks import Task

if TYPE_CHECKING:
    import torch

    from edge.train.model import CoLearner
    from edge.train.paired import PairedSet

LFMC = {"optical": (4, 8), "sar": (4, 3)}
# Modalities, task, samples and the batch: what the recipe takes for a set of the real size, and twice that.
SHAPES: dict[str, tuple[dict[str, tuple[int, int]], Task, int, int]] = {
    "LFMC": (LFMC, Task("regression"), 2320, 32),
    "LFMC, batch 64": (LFMC, Task("regression"), 2320, 64),
    "CropHarvest": ({"optical": (12, 12), "sar": (12, 2)}, Task("binary", classes=("no crop", "crop")), 2560, 128),
}
PARTS = ("batch assembly", "forward", "losses", "backward", "optimiser", "book-keeping")
STEP_BAR, EPOCH_BAR = 1.3, 5.0


class Marks:
    """A clock that is stopped after each part of a step; `seconds[part]` has one entry for each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {part: [] for part in PARTS}
        self._last = 0.0

    def start(self) -> None:
        """A step begins."""
        if self.seconds["optimiser"]:
            self.stop("book-keeping")
        self._last = time.process_time()

    def stop(self, part: str) -> None:
        """`part` is done, the next one begins."""
        now = time.process_time()
        self.seconds[part].append(now - self._last)
        self._last = now


class Trainer:
    """One shape: the model, its losses as `edge train` computes them, and clocks in them."""

    def __init__(self, folder: Path, name: str) -> None:
        import torch

        from edge.recipe import Recipe
        from edge.train.model import CoLearner
        from edge.train.objectives import CoLearning, Loss
        from edge.train.samples import load_samples
        from edge.train.splits import Split

        shapes, task, samples, self.batch = SHAPES[name]
        self.data, self.folder = random_set(folder / name, shapes, task, samples + 8), folder
        index = np.arange(samples + 8)
        self.samples = load_samples(self.data, tuple(shapes), Split(index[:samples], index[samples:], index[samples:]))
        self.train, self.rest = torch.from_numpy(index[:samples]), torch.from_numpy(index[samples:])
        self.recipe, self.loss = Recipe(), Loss(task)
        torch.manual_seed(0)
        self.model = CoLearner(list(self.data.modalities.values()), task, self.recipe.model)
        self.objectives = CoLearning(self.loss, self.recipe.objectives)

    def losses(self, index: "torch.Tensor") -> "dict[str, torch.Tensor]":
        """As in train/methods/method.py."""
        batch = self.samples.batch(index)
        return self.objectives(self.model(batch.inputs), batch.target, batch.rows, self.model.heads)

    def epoch(self) -> Marks:
        """One epoch of the loop, with marks."""
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        from edge.train.loop import Schedule, fit

        marks = Marks()

        def losses(index: torch.Tensor) -> dict[str, torch.Tensor]:
            if not self.model.training:
                return self.losses(index)
            marks.start()
            batch = self.samples.batch(index)
            marks.stop("batch assembly")
            features = self.model(batch.inputs)
            marks.stop("forward")
            parts = self.objectives(features, batch.target, batch.rows, self.model.heads)
            marks.stop("losses")
            return parts

        hooks = (
            register_optimizer_step_pre_hook(lambda *_: marks.stop("backward")),
            register_optimizer_step_post_hook(lambda *_: marks.stop("optimiser")),
        )
        fit(
            self.model, losses, (self.train, self.rest), Schedule(1, self.batch, self.recipe.training.lr),
            seed=0, state=self.folder / "state", fingerprint="", label="epoch", resume=False,
        )  # fmt: skip
        for hook in hooks:
            hook.remove()
        return marks

    def encoders_alone(self, model: "CoLearner", times: int) -> list[float]:
        """Seconds of a forward and a backward pass of every encoder on one batch, without losses, `times` times."""
        import torch

        from edge.train.model import Encoder

        inputs = self.samples.batch(self.train[: self.batch]).inputs
        pairs = [
            (encoder, inputs[name])
            for name, student in model.students.items()
            for encoder in student.modules()
            if isinstance(encoder, Encoder)
        ]
        gradient = torch.randn(self.batch, self.recipe.model.embedding)

        def run() -> None:
            outputs = [encoder(x) for encoder, x in pairs]
            torch.autograd.backward(outputs, [gradient] * len(outputs))
            model.zero_grad()

        model.train()
        model.zero_grad()
        return [seconds(run) for _ in range(times)]


def measure(name: str, rounds: int) -> dict[str, Any]:
    """A shape's figures; everything in turns, `rounds` epochs of each way after one step to warm up."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from edge.train.baseline import Baseline, check

    with tempfile.TemporaryDirectory() as folder:
        ours = Trainer(Path(folder), name)
        arguments = ours.data, ours.samples, ours.model, ours.loss, ours.recipe.objectives
        baselines = {"baseline": Baseline(*arguments, passes=True), "one pass": Baseline(*arguments, passes=False)}
        for baseline in baselines.values():
            check(baseline, ours.losses, ours.train[: ours.batch])
        with FlopCounterMode(display=False) as counted:
            ours.encoders_alone(ours.model, 1)
        steps, bare, product = [], {"torch": list[float](), "ours": list[float]()}, []
        epochs: dict[str, list[float]] = {"ours": [], **{key: [] for key in baselines}}
        for _ in range(rounds):
            marks = ours.epoch()
            steps.append(marks)
            epochs["ours"].append(sum(sum(taken) for taken in marks.seconds.values()))
            bare["torch"] += ours.encoders_alone(baselines["baseline"].model, 20)
            bare["ours"] += ours.encoders_alone(ours.model, 20)
            product += [seconds(_product(torch.randn(1024, 1024))) for _ in range(5)]
            for key, baseline in baselines.items():
                epochs[key].append(seconds(functools.partial(baseline.epoch, ours.train, ours.batch)))
    parts = {
        part: 1e3 * statistics.median([value for marks in steps for value in marks.seconds[part]]) for part in PARTS
    }
    gflops = 2 * 1024**3 / 1e9 / statistics.median(product)
    rates = {key: len(ours.train) / statistics.median(taken) for key, taken in epochs.items()}
    alone = {key: 1e3 * statistics.median(taken) for key, taken in bare.items()}
    step = sum(parts.values())
    return {
        "modalities": {key: list(modality.shape) for key, modality in ours.data.modalities.items()},
        "samples": len(ours.train), "batch": ours.batch,
        "parameters": sum(parameter.numel() for parameter in ours.model.parameters()),
        "step_ms": parts, "encoders_ms": alone, "step_ratio": {key: step / taken for key, taken in alone.items()},
        "encoders_gflop": counted.get_total_flops() / 1e9, "gemm_gflops": gflops,
        "bound_ms": 1e3 * counted.get_total_flops() / 1e9 / gflops,
        "epoch_s": epochs, "samples_per_s": rates,
        "times_baseline": rates["ours"] / rates["baseline"], "times_one_pass": rates["ours"] / rates["one pass"],
    }  # fmt: skip


def seconds(work: Callable[[], Any]) -> float:
    """Processor seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _product(matrix: "torch.Tensor") -> Callable[[], "torch.Tensor"]:
    return lambda: matrix @ matrix


def random_set(folder: Path, shapes: dict[str, tuple[int, int]], task: Task, n: int) -> "PairedSet":
    """Noise in the shape of a real set: `n` samples that have every modality, nothing missing."""
    from edge.train.paired import write_paired_set

    generator = np.random.default_rng(0)
    regression = task.kind == "regression"
    return write_paired_set(
        folder,
        name="random",
        modalities={
            name: Modality(name, tuple(Band(f"{name}{i}") for i in range(shape[1])), ("time", "band"), shape)
            for name, shape in shapes.items()
        },
        arrays={name: generator.normal(size=(n, *shape)).astype(np.float32) for name, shape in shapes.items()},
        target=generator.normal(size=n).astype(np.float32) if regression else generator.integers(0, 2, n),
        task=task,
        groups=np.arange(n),
        source={"title": "noise"},
    )


def table(name: str, found: dict[str, Any]) -> str:
    """For people."""
    step, bars = sum(found["step_ms"].values()), {"torch": f" ({STEP_BAR})", "ours": ""}
    lines = [
        *([part, f"{milliseconds:.2f} ms", ""] for part, milliseconds in found["step_ms"].items()),
        ["whole step", f"{step:.2f} ms", ""],
        *(
            [f"encoders alone, {key}", f"{found['encoders_ms'][key]:.2f} ms", f"step / encoders {ratio:.2f}{bars[key]}"]
            for key, ratio in found["step_ratio"].items()
        ),
        ["their arithmetic", f"{found['bound_ms']:.2f} ms",
         f"{found['encoders_gflop']:.2f} GFLOP at {found['gemm_gflops']:.0f} GFLOPS"],
    ]  # fmt: skip
    for key, text in (("ours", ""), ("baseline", "times_baseline"), ("one pass", "times_one_pass")):
        ratio = f"ours {found[text]:.2f} times{f' ({EPOCH_BAR:g})' if key == 'baseline' else ''}" if text else ""
        lines.append([f"epoch, {key}", f"{found['samples_per_s'][key]:.0f}/s", ratio])
    shapes = " + ".join(f"{a} x {b}" for a, b in found["modalities"].values())
    return f"{name}, {shapes}, {found['samples']} samples, batch {found['batch']}\n" + columns(lines, left=1)


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Epochs of each way, in turns.")
def main(rounds: int) -> None:
    """Time training of both shapes."""
    import torch

    torch.set_num_threads(1)
    load, shapes = OtherLoad(), {}
    for name in SHAPES:
        shapes[name] = measure(name, rounds)
        click.echo(table(name, shapes[name]) + "\n")
    machine = machine_facts()
    machine["versions"]["torch"] = torch.__version__
    facts = {"benchmark": "training_speed", "threads": 1, "other_cores": load.cores(), "machine": machine}
    click.echo(json.dumps(facts | {"shapes": shapes}))


if __name__ == "__main__":
    main()
