"""Two processes against one: everything is compared with the same code in this process alone."""

import json
import os
import shutil
import socket
import subprocess
import sys

import click
import pytest
import torch
import torch.multiprocessing
from safetensors.torch import load_file, save_file

from edge.recipe import Model, Objectives
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train import distributed
from edge.train.loop import Schedule, fit
from edge.train.model import CoLearner
from edge.train.objectives import CoLearning, Loss
from edge.train.samples import Samples

TASK = Task("multiclass", classes=("oat", "rye", "pea"))
SHAPES = {"optical": ("series", (4, 3)), "photo": ("image", (2, 3, 3)), "rare": ("vector", (2,))}
DIMS = {"series": ("time", "band"), "image": ("band", "y", "x"), "vector": ("band",)}
SPLIT = torch.arange(32), torch.arange(32, 46)


def modalities():
    """All kinds, so that batch norm is met with two, three and four axes."""
    bands = {name: shape[DIMS[kind].index("band")] for name, (kind, shape) in SHAPES.items()}
    return [
        Modality(name, tuple(Band(f"b{i}") for i in range(bands[name])), DIMS[kind], shape)
        for name, (kind, shape) in SHAPES.items()
    ]


class Run:
    """A model without dropout, and samples of which some lack `photo` and most lack `rare`."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = CoLearner(modalities(), TASK, Model(width=8, hidden=16, embedding=8, dropout=0.0)).double()
        random = torch.Generator().manual_seed(1)
        inputs = {
            name: torch.randn(46, *shape, generator=random, dtype=torch.float64) for name, (_, shape) in SHAPES.items()
        }
        present = {name: torch.ones(46, dtype=torch.bool) for name in SHAPES}
        present["photo"][::3] = False
        present["rare"][torch.arange(46) % 5 > 1] = False
        target = torch.randint(0, 3, (46,), generator=random)
        self.samples = Samples(inputs, present, target, {}, (0.0, 1.0))
        self.objectives = CoLearning(Loss(TASK, torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)), Objectives())
        self.seen = []

    def losses(self, index):
        self.seen.append(index)
        batch = self.samples.batch(index)
        return self.objectives(self.model(batch.inputs), batch.target, batch.rows, self.model.heads)

    def step(self, index):
        """Gradients, running statistics and losses of one batch."""
        self.model.train()
        with distributed.divided(self.model, self.losses) as losses:
            parts = losses(index)
            parts["total"].backward()
        gradients = {f"gradient.{k}": p.grad for k, p in self.model.named_parameters() if p.grad is not None}
        buffers = {f"buffer.{name}": value for name, value in self.model.named_buffers()}
        return gradients | buffers | {f"loss.{name}": value.detach() for name, value in parts.items()}

    def fit(self, state, epochs):
        return fit(
            self.model, self.losses, SPLIT, Schedule(epochs, 12, 1e-3),
            seed=3, state=state, fingerprint="same", label="test",
        )  # fmt: skip


BATCHES = {"even": torch.arange(16), "odd": torch.arange(3, 14), "no rare": torch.tensor([2, 3, 4, 7, 8])}


def worker(number, port, folder):
    os.environ |= {
        "RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    torch.set_num_threads(1)
    sys.stdout = open(folder / f"{number}.out", "w")  # noqa: SIM115 - it ends with the process
    with distributed.session():
        click.echo("a process speaks")
        found = {f"{name}/{key}": value for name, index in BATCHES.items() for key, value in Run().step(index).items()}
        with distributed.first_goes_ahead() as first:
            (folder / f"{number}.turn").write_text(f"{first}, {len(list(folder.glob('*.turn')))} before")
        made = []

        def make():
            made.append(number)
            return torch.full((3, 2), number + 0.5)

        found["from first"] = distributed.from_first(make)
        (folder / f"{number}.made").write_text(str(made))
        run = Run()
        history = run.fit(folder / f"of-process-{number}" / "state", 2)
        assert not [module for module in run.model.modules() if "forward" in vars(module)]  # batch norm is as it was
        found |= {f"weights/{name}": value for name, value in run.model.state_dict().items()}
        found["seen"] = torch.cat(run.seen)
        continued = Run()
        continued.fit(folder / "from-one" / "state", 2)
        found |= {f"continued/{name}": value for name, value in continued.model.state_dict().items()}
        save_file({name: value.contiguous().clone() for name, value in found.items()}, folder / f"{number}.safetensors")
        (folder / f"{number}.json").write_text(json.dumps(history))
    assert not torch.distributed.is_initialized()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder where two processes left what they found."""
    folder = tmp_path_factory.mktemp("two")
    Run().fit(folder / "from-one" / "state", 1)  # to be continued by two
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(worker, (port, folder), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The same run in this process."""
    run = Run()
    run.history = run.fit(tmp_path_factory.mktemp("one") / "state", 2)
    return run


def assert_same(found, expected, *, rtol=1e-9, atol=1e-12):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=atol, msg=lambda text, name=name: name + text)


# A bias in front of batch norm has gradient 0 but for rounding, and Adam makes 1e-10 of that.
AFTER_ADAM = {"rtol": 1e-7, "atol": 1e-8}


def part(folder, number, prefix):
    found = load_file(folder / f"{number}.safetensors")
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("batch", BATCHES)
def test_gradients_statistics_and_losses_are_those_of_one_process_with_the_whole_batch(two, batch, number):
    assert_same(part(two, number, f"{batch}/"), Run().step(BATCHES[batch]))


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_takes_the_same_samples_in_the_same_order_to_the_same_weights(two, one, number):
    assert torch.equal(part(two, number, "seen")[""], torch.cat(one.seen))
    assert_same(part(two, number, "weights/"), one.model.state_dict(), **AFTER_ADAM)
    history = json.loads((two / f"{number}.json").read_text())
    for record, expected in zip(history, one.history, strict=True):
        for name in ("train", "validation"):
            assert record[name] == pytest.approx(expected[name], rel=1e-7)


def test_two_processes_continue_what_one_began(two, one):
    assert_same(part(two, 0, "continued/"), one.model.state_dict(), **AFTER_ADAM)


def test_one_process_continues_what_two_began(two, tmp_path):
    shutil.copytree(two / "of-process-0", tmp_path / "run")
    resumed, whole = Run(), Run()
    assert len(resumed.fit(tmp_path / "run" / "state", 3)) == 3
    assert len(resumed.seen) == 5  # three batches of training, two of validation: one epoch
    whole.fit(tmp_path / "whole" / "state", 3)
    assert_same(resumed.model.state_dict(), whole.model.state_dict(), **AFTER_ADAM)


def test_the_first_process_alone_writes_and_speaks_and_goes_ahead(two):
    assert [(two / f"{number}.out").read_text() for number in range(2)] == ["a process speaks\n", ""]
    assert sorted(path.name for path in (two / "of-process-0").iterdir()) == ["curves.svg", "epochs.jsonl", "state"]
    assert not (two / "of-process-1").exists()
    assert [(two / f"{number}.turn").read_text() for number in range(2)] == ["True, 0 before", "False, 1 before"]


def test_what_the_first_process_makes_is_made_once_for_all(two):
    assert [(two / f"{number}.made").read_text() for number in range(2)] == ["[0]", "[]"]
    for number in range(2):
        assert torch.equal(part(two, number, "from first")[""], torch.full((3, 2), 0.5))


def test_a_process_of_its_own_changes_nothing():
    run = Run()
    with distributed.session(), distributed.divided(run.model, run.losses) as losses:
        assert losses == run.losses
        assert distributed.rank() == 0
        assert distributed.agreed({"total": 0.1}) == {"total": 0.1}
        assert distributed.from_first(lambda: torch.ones(2, 1)).tolist() == [[1.0], [1.0]]
        with distributed.first_goes_ahead() as first:
            assert first


@pytest.mark.slow
def test_torchrun_trains_what_one_process_trains_from_the_command_line(tmp_path):
    """Without dropout and in float32, so the numbers agree to rounding that two epochs amplify."""
    recipe = tmp_path / "recipe.json"
    small = {"width": 8, "hidden": 16, "embedding": 8, "dropout": 0}
    recipe.write_text(json.dumps({"method": "mdico", "model": small, "training": {"epochs": 2}}))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    found = []
    for processes in ("1", "2"):
        out = tmp_path / processes
        arguments = ["-m", "edge", "train", "--recipe", str(recipe), "--out", str(out), "--json"]
        done = subprocess.run([*torchrun, processes, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1
        found.append(json.loads(done.stdout)["runs"][0]["history"])
    for record, expected in zip(*found, strict=True):
        assert record["train"] == pytest.approx(expected["train"], rel=1e-3)
        assert record["validation"] == pytest.approx(expected["validation"], rel=1e-3)
