"""The loop that training and fine-tuning share: epochs, validation, early stopping, a state that can be resumed.

The same seed gives the same numbers, also across an interruption: shuffling and dropout are seeded by (seed, epoch), so
that nothing but the weights and the optimiser's moments has to be kept. Under torchrun the processes divide each batch
(edge.train.distributed); neither the order of samples nor what is kept depends on their number.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from edge.errors import InputError
from edge.train import checkpoint
from edge.train.curves import Journal, Record
from edge.train.distributed import Losses, agreed, divided, rank
from edge.train.model import Encoder
from edge.train.samples import batches

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Schedule:
    """How long to train, and which weights are the result.

    `decay`: the learning rate falls along half a cosine to 0 (Loshchilov, Hutter 2017, arXiv 1608.03983, without
    restarts), and the weights of the last epoch are the result. Otherwise it stays, and those with the lowest
    validation loss are: of all epochs, or until `patience` epochs brought nothing; with `keep_start` the weights before
    the first epoch compete too.
    """

    epochs: int
    batch: int
    lr: float
    decay: bool = False
    patience: int | None = None
    min_delta: float = 0.0
    keep_start: bool = False

    def rate(self, done: float) -> float:
        """The learning rate when `done` epochs are over, 0 to `epochs`."""
        return self.lr * 0.5 * (1 + math.cos(math.pi * done / self.epochs)) if self.decay else self.lr


class BestSoFar:
    """The weights with the lowest validation loss, and for how many epochs there was no improvement that counts."""

    def __init__(self, min_delta: float) -> None:
        self.min_delta = min_delta
        self.loss = math.inf
        self.epoch = 0
        self.waited = 0
        self.bar = math.inf  # the loss of the last improvement by at least `min_delta`: small steps add up
        self.weights: dict[str, Tensor] = {}

    def offer(self, epoch: int, loss: float, model: nn.Module) -> None:
        """Keep the weights if `loss` is lower; patience counts from the last improvement of at least `min_delta`."""
        self.waited += 1
        if loss < self.bar - self.min_delta:
            self.bar, self.waited = loss, 0
        if loss < self.loss:
            self.loss, self.epoch = loss, epoch
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}


def fit(
    model: nn.Module,
    losses: Losses,
    split: tuple[Tensor, Tensor],
    schedule: Schedule,
    *,
    seed: int,
    state: Path,
    fingerprint: str,
    label: str,
    resume: bool = True,
    device: torch.device = CPU,
    bf16: bool = False,
    observe: Callable[[], Record] | None = None,
) -> list[Record]:
    """Train `model` on the indices `split` = (train, validation) and leave in it the weights that `schedule` says.

    `losses` maps the indices of a batch to the objectives by name, with what is minimised as "total". The state after
    each epoch is written to `state`, what there is to look at beside it (edge.train.curves); with `resume`, a state of
    the same `fingerprint` is continued. Meanwhile the model is on `device`, and with `bf16` its encoders compute in
    bfloat16. Returns a record for each epoch: its losses on both parts, seconds, samples per second, and what `observe`
    adds. InputError if a loss is not finite (names epoch, batch and loss); the last good state stays on disk.
    """
    train, validation = split
    compute_in_bf16(model, bf16)
    model.to(device)
    lay_out(model, torch.channels_last)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=schedule.lr, fused=True)
    best, history = BestSoFar(schedule.min_delta), list[Record]()
    if resume and state.exists():
        history = _continue(state, model, optimiser, best, fingerprint)
    bar = tqdm(
        total=schedule.epochs * len(train), initial=len(history) * len(train),
        desc=label, unit=" samples", unit_scale=True, disable=None,
    )  # fmt: skip
    with bar, Journal(state.parent, label, history) as journal, divided(model, losses) as step:
        if not history and schedule.keep_start:
            best.offer(0, agreed(evaluate(model, losses, validation, schedule.batch))["total"], model)
        for epoch in range(len(history) + 1, schedule.epochs + 1):
            if schedule.patience is not None and best.waited >= schedule.patience:
                break
            record = _epoch(model, step, optimiser, train, schedule, bar, epoch=epoch, seed=seed)
            record["validation"] = agreed(evaluate(model, losses, validation, schedule.batch))
            _check_finite(record["validation"], f"validation after epoch {epoch}")
            if observe is not None:
                record |= observe()
            if not schedule.decay:
                best.offer(epoch, record["validation"]["total"], model)
            history.append(record)
            counters = [best.loss, best.epoch, best.waited, best.bar]
            facts = {"fingerprint": fingerprint, "history": history, "best": counters}
            if rank() == 0:
                checkpoint.save_progress(state, model, best.weights, optimiser, facts)
            journal.add(record)
            bar.set_postfix_str(_summary(record))
    if best.weights:
        model.load_state_dict(best.weights)
    compute_in_bf16(model, False)
    model.to(CPU)
    lay_out(model, torch.contiguous_format)
    model.eval()
    return history


def compute_in_bf16(model: nn.Module, bf16: bool) -> None:
    """Let the encoders compute in bfloat16, or not. Validation does, too: it took a third of an epoch in float32."""
    for module in model.modules():
        if isinstance(module, Encoder):
            module.bf16 = bf16


def lay_out(model: nn.Module, order: torch.memory_format) -> None:
    """Bring the weights of two-dimensional convolutions into an order of memory; all other parameters stay untouched.

    A convolution follows the order of its weights, and what comes after follows its output. With the channels last a
    training step of `mobilenet` takes 1 / 1.7 of the time on a CPU; sums are rounded differently.
    """
    for parameter in model.parameters():
        if parameter.dim() == 4:  # a copy: the strides of one band or one pixel say nothing, contiguous() keeps them
            parameter.data = torch.empty_like(parameter.data, memory_format=order).copy_(parameter.data)


@torch.inference_mode()
def evaluate(model: nn.Module, losses: Losses, index: Tensor, batch: int) -> dict[str, float]:
    """Mean of each objective over the samples of `index`."""
    model.eval()
    total, sums = 0, dict[str, float]()
    for piece in batches(index, batch):
        for name, value in losses(piece).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(piece)
        total += len(piece)
    return {name: value / total for name, value in sums.items()}


def _epoch(
    model: nn.Module,
    losses: Losses,
    optimiser: torch.optim.Optimizer,
    train: Tensor,
    schedule: Schedule,
    bar: "tqdm[Any]",
    *,
    epoch: int,
    seed: int,
) -> Record:
    model.train()
    torch.manual_seed(1_000_003 * seed + epoch + 500_009 * rank())  # dropout; each process masks other samples
    generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
    start, count, sums = time.perf_counter(), 0, dict[str, Tensor]()
    for number, piece in enumerate(batches(train, schedule.batch, generator), 1):
        optimiser.param_groups[0]["lr"] = schedule.rate(epoch - 1 + count / len(train))
        parts = losses(piece)
        optimiser.zero_grad(set_to_none=True)
        parts["total"].backward()  # type: ignore[no-untyped-call]
        values = {name: value.detach() for name, value in parts.items()}
        _check_finite(values, f"epoch {epoch}, batch {number}")
        optimiser.step()
        count += len(piece)
        bar.update(len(piece))
        for name, value in values.items():
            sums[name] = sums.get(name, torch.zeros(())) + value * len(piece)
    seconds = time.perf_counter() - start
    return {
        "epoch": epoch,
        "train": {name: float(value) / count for name, value in sums.items()},
        "seconds": round(seconds, 4),
        "samples_per_s": round(count / seconds, 1),
    }


def _summary(record: Record) -> str:
    """Each objective in training / validation, for the progress bar."""
    train, validation = record["train"], record["validation"]
    parts = [f"{name} {train[name]:.3g}/{validation[name]:.3g}" for name in validation if name in train]
    return f"epoch {record['epoch']}, {', '.join(parts)}"


def _check_finite(parts: Mapping[str, Tensor | float], where: str) -> None:
    if math.isfinite(parts["total"]):
        return
    wrong = ", ".join(f"{name} = {float(value)}" for name, value in parts.items() if not math.isfinite(value))
    raise InputError(
        f"training diverged in {where}: {wrong}. Lower training.lr or look for extreme values with `edge data show`; "
        "the state after the last good epoch is kept"
    )


def _continue(
    state: Path, model: nn.Module, optimiser: torch.optim.Optimizer, best: BestSoFar, fingerprint: str
) -> list[Record]:
    tensors, facts = checkpoint.load(state)
    if facts["fingerprint"] != fingerprint:
        return []
    best.weights = checkpoint.restore_progress(tensors, model, optimiser)
    for parameter, moments in optimiser.state.items():  # the fused step reads them in the parameter's order of memory
        for name in ("exp_avg", "exp_avg_sq"):
            moments[name] = torch.empty_like(parameter.data).copy_(moments[name])
    best.loss, best.epoch, best.waited, best.bar = facts["best"]
    history: list[Record] = facts["history"]
    return history
