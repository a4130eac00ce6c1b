"""Many processes train one model: `torchrun --nproc-per-node N -m edge train ...`.

Every process draws the same batches, those of one process with the same seed, and computes the same losses over the
whole batch. What is divided is the work of the encoders:

    whole batch -> share of this process -> encoder -> embeddings of the share -> gathered: embeddings of the batch
                -> heads, losses -> backward -> gradients of the share, averaged by DistributedDataParallel

The gather's backward multiplies by N, so that averaging gives the encoders the sum over all shares; heads and
discriminators have the whole gradient in every process already, and its mean is itself. Both are the gradients of one
process with the whole batch, whatever the losses: NT-Xent with all negatives, class weights, modalities that some
samples lack. Only dropout differs, since every process draws masks of its own.

Batch norm inside the encoders takes mean and variance over all shares (torch.nn.SyncBatchNorm exists on GPUs only): one
all-reduce of the sums and one of the squared distances from the mean, both differentiated; its running statistics are
the same everywhere. The processes share a file system: the first one writes, all read.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from edge.errors import BackendMissing
from edge.train.model import Encoder

Losses = Callable[
    [Tensor], dict[str, Tensor]
]  # indices of a batch -> objectives by name, with what is minimised as "total"


def rank() -> int:
    """The number of this process; 0 is the one that writes files and speaks to people."""
    return dist.get_rank() if _together() else 0


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def compute_device(name: str) -> torch.device:
    """Where this process trains: `cpu`, or `cuda`, of which each process of torchrun takes the next GPU.

    BackendMissing if torch finds no GPU.
    """
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BackendMissing(
            f"training.device is {name!r}, but torch {torch.__version__} finds no NVIDIA GPU; leave the key out to "
            "train on the CPU, or install NVIDIA's driver and torch's CUDA build: pip install --force-reinstall torch"
        )
    device = torch.device(name, int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)  # NCCL asks for it
    return device


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Join the processes that torchrun started; all but the first are silent. Does nothing in a process of its own."""
    if not dist.is_available() or not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    with contextlib.ExitStack() as stack:
        stack.callback(dist.destroy_process_group)
        if rank():
            silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(silence))
            stack.enter_context(contextlib.redirect_stderr(silence))
        yield


@contextlib.contextmanager
def first_goes_ahead() -> Iterator[bool]:
    """All come here, then the first process does the block, then the others; gives whether this is the first."""
    first = rank() == 0
    if _together():
        dist.barrier()
    if not first:
        dist.barrier()
    try:
        yield first
    finally:
        if first and _together():
            dist.barrier()


def from_first(make: Callable[[], Tensor]) -> Tensor:
    """What `make` gives in the first process, a float32 matrix (n, K) on the CPU, in all; the others wait for it."""
    if not _together():
        return make()
    made = make() if rank() == 0 else torch.empty(0, 0)
    shape = torch.tensor(made.shape)
    dist.broadcast(shape, 0)
    if rank():
        made = torch.empty(shape.tolist())
    dist.broadcast(made, 0)
    return made


def agreed(values: dict[str, float]) -> dict[str, float]:
    """The values of the first process: other machines may round otherwise, and all must stop after the same epoch."""
    if not _together():
        return values
    tensor = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.broadcast(tensor, 0)
    return dict(zip(values, tensor.tolist(), strict=True))


@contextlib.contextmanager
def divided(model: nn.Module, losses: Losses) -> Iterator[Losses]:
    """Within the block the encoders of `model` divide what they are given; yields the losses to differentiate.

    In a process of its own nothing changes, and those are `losses`.
    """
    if not _together():
        yield losses
        return
    encoders = [_Divided(module) for module in model.modules() if isinstance(module, Encoder)]
    try:
        # Unused parameters are looked for because a batch may lack a modality.
        yield DistributedDataParallel(_Step(model, losses), forward_sync_buffers=False, find_unused_parameters=True)
    finally:
        for encoder in encoders:
            encoder.restore()


class _Step(nn.Module):
    """The losses as a module: DistributedDataParallel looks through them for the parameters that a batch uses."""

    def __init__(self, model: nn.Module, losses: Losses) -> None:
        super().__init__()
        self.model, self.losses = model, losses
        nothing = torch.zeros((), device=next(model.parameters()).device)
        self.idle = nn.Parameter(nothing)  # torch warns where it looked for unused ones and found none

    def forward(self, index: Tensor) -> dict[str, Tensor]:
        return self.losses(index)


class _Divided:
    """An encoder that works on the share of this process. What has fewer samples than processes is not divided."""

    def __init__(self, encoder: Encoder) -> None:
        self._samples = 0  # of the batch whose share is in the encoder just now; 0: it is not divided
        self._hooks = encoder.register_forward_pre_hook(self._share), encoder.register_forward_hook(self._gather)
        self._norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
        for norm in self._norms:
            norm.forward = self._normalising(norm)  # type: ignore[method-assign, assignment]

    def restore(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for norm in self._norms:
            del norm.forward

    def _share(self, _: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        (x,), processes = inputs, dist.get_world_size()
        self._samples = len(x) if len(x) >= processes else 0
        return x.tensor_split(processes)[rank()] if self._samples else x

    def _gather(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        if not self._samples:
            return output
        gathered: Tensor = _Gather.apply(output, self._samples)  # type: ignore[no-untyped-call]
        return gathered

    def _normalising(self, norm: _BatchNorm) -> Callable[[Tensor], Tensor]:
        alone = norm.forward

        def forward(x: Tensor) -> Tensor:
            return batch_norm(norm, x) if self._samples and norm.training else alone(x)

        return forward


class _Gather(torch.autograd.Function):
    """The share of this process (n, d), as tensor_split made it -> all `samples` (N, d)."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, samples: int) -> Tensor:
        index = torch.arange(samples).tensor_split(dist.get_world_size())
        ctx.own = index[rank()]
        padded = F.pad(share, (0, 0, 0, len(index[0]) - len(share)))  # gloo gathers equal shapes; the first is longest
        parts = [torch.empty_like(padded) for _ in index]
        dist.all_gather(parts, padded)
        return torch.cat([part[: len(own)] for part, own in zip(parts, index, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return dist.get_world_size() * gradient[ctx.own], None


class _Sum(torch.autograd.Function):
    """The sum over all processes."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


def batch_norm(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Batch norm in training over the shares x (n, C, ...) of all processes."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]  # broadcasts a value for each channel against x
    values = x.new_tensor([x.numel() // x.shape[1]])
    sums = _Sum.apply(torch.cat([x.sum(axes), values]))  # type: ignore[no-untyped-call]
    count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
    centred = x - mean.view(shape)
    variance = _Sum.apply((centred**2).sum(axes)) / count  # type: ignore[no-untyped-call]
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        norm.running_mean.lerp_(mean, norm.momentum)  # type: ignore[union-attr, arg-type]
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)  # type: ignore[union-attr, arg-type]
    y: Tensor = centred * (variance + norm.eps).rsqrt().view(shape)
    return y * norm.weight.view(shape) + norm.bias.view(shape)
