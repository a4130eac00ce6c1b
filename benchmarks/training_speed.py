"""How long one epoch of co-learning takes on one core, and where the time goes.

    python -m edge.benchmarks.training_speed               # the shape of LFMC: 2,320 samples, batch 32, optical + SAR
    python -m edge.benchmarks.training_speed --data FOLDER # any paired set

It runs the loop of `edge train` with all four losses and reads the epochs' own clocks; the parts of a step are taken
between marks in the same run. Prints a table and one line of JSON. Bar: an epoch under 1.5 s on an idle core.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edge.benchmarks.machine import OtherLoad, machine_facts
from edge.errors import InputError

if TYPE_CHECKING:
    from edge.train.paired import PairedSet

SAMPLES, BATCH, BAR = 2320, 32, 1.5
PARTS = ("batch assembly", "forward", "losses", "backward", "optimiser")


class Marks:
    """A clock that is stopped after each part of a step; `seconds[part]` has one entry for each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {part: [] for part in PARTS}
        self._last = 0.0

    def start(self) -> None:
        """A step begins."""
        self._last = time.perf_counter()

    def stop(self, part: str) -> None:
        """`part` is done, the next one begins."""
        now = time.perf_counter()
        self.seconds[part].append(now - self._last)
        self._last = now


def measure(data: "PairedSet", samples: int, epochs: int) -> dict[str, Any]:
    """Seconds of each epoch after one for warming up, and the medians of a step's parts in milliseconds."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    from edge.recipe import Recipe
    from edge.train.loop import Schedule, fit
    from edge.train.model import CoLearner
    from edge.train.samples import load_samples
    from edge.train.splits import Split
    from edge.train.training import choose_modalities, learning

    recipe, marks, index = Recipe(), Marks(), np.arange(len(data))
    names = choose_modalities(data, recipe)
    split = Split(index[:samples], index[samples:], index[samples:])
    loaded = load_samples(data, names, split)
    torch.manual_seed(0)
    model = CoLearner([data.modalities[name] for name in names], data.task, recipe.model)
    objectives = learning(recipe, data.task, loaded.target[:samples])

    def losses(index: torch.Tensor) -> dict[str, torch.Tensor]:
        if not model.training:
            return objectives(model((batch := loaded.batch(index)).inputs), batch.target, batch.rows, model.heads)
        marks.start()
        batch = loaded.batch(index)
        marks.stop("batch assembly")
        features = model(batch.inputs)
        marks.stop("forward")
        parts = objectives(features, batch.target, batch.rows, model.heads)
        marks.stop("losses")
        return parts

    hooks = (
        register_optimizer_step_pre_hook(lambda *_: marks.stop("backward")),
        register_optimizer_step_post_hook(lambda *_: marks.stop("optimiser")),
    )
    with tempfile.TemporaryDirectory() as folder:
        parts = torch.from_numpy(split.train), torch.from_numpy(split.validation)
        schedule = Schedule(epochs + 1, BATCH, recipe.training.lr)
        state = Path(folder) / "state.safetensors"
        history = fit(model, losses, parts, schedule, seed=0, state=state, fingerprint="", label="training speed")
    for hook in hooks:
        hook.remove()
    steps = len(marks.seconds["forward"]) // (epochs + 1)  # those of the first epoch are left out
    return {
        "modalities": {name: list(data.modalities[name].shape) for name in names},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epoch_s": [record["seconds"] for record in history[1:]],
        "step_ms": {part: 1e3 * statistics.median(taken[steps:]) for part, taken in marks.seconds.items()},
    }


def random_set(folder: Path) -> "PairedSet":
    """Noise in the shape of LFMC: 2,578 samples, optical 4 x 8, SAR 4 x 3, one value to predict."""
    from edge.sensors import Band, Modality
    from edge.tasks import Task
    from edge.train.paired import write_paired_set

    generator, shapes = np.random.default_rng(0), {"optical": (4, 8), "sar": (4, 3)}
    return write_paired_set(
        folder,
        name="random",
        modalities={
            name: Modality(name, tuple(Band(f"{name}{i}") for i in range(shape[1])), ("time", "band"), shape)
            for name, shape in shapes.items()
        },
        arrays={name: generator.normal(size=(2578, *shape)).astype(np.float32) for name, shape in shapes.items()},
        target=generator.normal(size=2578).astype(np.float32),
        task=Task("regression"),
        groups=np.arange(2578),
        source={"title": "noise in the shape of LFMC"},
    )


@click.command()
@click.option(
    "--data", default="lfmc", show_default=True, help="A paired set; noise of its shape where lfmc is absent."
)
@click.option("--epochs", default=7, show_default=True, help="Epochs to time, after one to warm up.")
@click.option("--threads", default=1, show_default=True, help="Threads of torch.")
def main(data: str, epochs: int, threads: int) -> None:
    """Time epochs of co-learning."""
    import torch

    from edge.train.datasets import resolve

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        try:
            paired = resolve(data)
        except InputError:
            if data != "lfmc":
                raise
            paired = random_set(Path(folder) / "random")
        load, samples = OtherLoad(), min(SAMPLES, int(0.9 * len(paired)))
        found = measure(paired, samples, epochs)
        others = load.cores()
    epoch = statistics.median(found["epoch_s"])
    click.echo(f"{paired.name}: {samples} samples, batch {BATCH}, {found['modalities']}, {threads} thread(s)")
    spread = f"{min(found['epoch_s']):.3f} to {max(found['epoch_s']):.3f} s"
    click.echo(f"epoch            {epoch:8.3f} s   (median of {epochs}, {spread}; bar {BAR} s)")
    click.echo(f"throughput       {samples / epoch:8.0f} samples/s")
    for part, milliseconds in found["step_ms"].items():
        click.echo(f"{part:16s} {milliseconds:8.2f} ms per step")
    if others is not None:
        click.echo(f"other processes  {others:8.2f} cores busy meanwhile")
    machine = machine_facts()
    machine["versions"]["torch"] = torch.__version__
    facts = {"benchmark": "training_speed", "data": paired.name, "samples": samples, "batch": BATCH, "threads": threads}
    median = {"epoch_s_median": epoch, "samples_per_s": samples / epoch, "other_cores": others}
    click.echo(json.dumps(facts | found | median | {"machine": machine}))


if __name__ == "__main__":
    main()
