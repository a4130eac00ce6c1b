"""TempCNN: convolutions along time (Pelletier, Webb, Petitjean 2019, Remote Sensing 11(5):523).

Two times [convolution, batch norm, ReLU, dropout], then one dense layer over all time steps. It is made of layers that
every INT8 engine has, so the whole trunk runs in integers.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from edge.recipe import Model
from edge.sensors import Modality
from edge.train.encoders.blocks import Dropout

NAMES: tuple[str, ...] = ("tempcnn",)
KINDS: tuple[str, ...] = ("series",)
NO_INT8: str | None = None


class ChannelsFirst(nn.Module):
    """(N, T, B) -> (N, B, T), the order of convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        """A view, nothing is copied."""
        return x.transpose(1, 2)


class TempCNN(nn.Sequential):
    """The layers in their order; what is folded or exported (compress/fold.py) is a plain nn.Sequential of them.

    While it trains on a CPU, convolutions are `Shifted` products and batch norms see rows: series of 4 steps train 1.5
    times as fast, of 12 steps 1.1 times (benchmarks/RESULTS.md).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, B) -> (N, hidden)."""
        if not self.training or x.device.type != "cpu":
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        samples, steps, _ = x.shape
        rows = x.transpose(0, 1).flatten(0, 1)  # (T N, channels): a shift in time is a slice of rows
        for layer in self:
            if isinstance(layer, nn.Conv1d):
                rows = Shifted.apply(rows, layer.weight, layer.bias, steps)  # type: ignore[no-untyped-call]
            elif isinstance(layer, nn.Flatten):
                rows = rows.view(steps, samples, -1).permute(1, 2, 0).flatten(1)
            elif not isinstance(layer, ChannelsFirst):
                rows = layer(rows)
        return rows

    def __getitem__(self, index: int | slice) -> Any:
        """A layer, or some of them as a plain nn.Sequential: rows are an order that only all of them together have."""
        found = super().__getitem__(index)
        return nn.Sequential(OrderedDict(found.named_children())) if isinstance(index, slice) else found


class Shifted(torch.autograd.Function):
    """A convolution along time that keeps the length, as a matrix product for each of its taps.

    Nothing is unfolded, and nothing is multiplied with the zeros beyond the ends, which for 4 steps and 5 taps would be
    three tenths of the work.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, steps: int) -> Tensor:
        """Rows (T N, C), weight (D, C, taps), bias (D) -> rows (T N, D)."""
        taps = weight.permute(2, 0, 1).contiguous()
        output = bias.expand(len(x), -1).contiguous()
        for tap, to, of in overlaps(len(taps), steps, len(x) // steps):
            torch.addmm(output[to], x[of], taps[tap].T, out=output[to])
        ctx.save_for_backward(x, taps)
        ctx.steps = steps
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        """Those of the rows (None if nobody asks), the weight and the bias."""
        x, taps = ctx.saved_tensors
        to_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        to_taps = torch.zeros_like(taps)
        for tap, to, of in overlaps(len(taps), ctx.steps, len(x) // ctx.steps):
            torch.mm(gradient[to].T, x[of], out=to_taps[tap])
            if to_x is not None:
                torch.addmm(to_x[of], gradient[to], taps[tap], out=to_x[of])
        return to_x, to_taps.permute(1, 2, 0), gradient.sum(0), None


def overlaps(taps: int, steps: int, samples: int) -> Iterator[tuple[int, slice, slice]]:
    """Each tap that some step meets: the rows of its output and the rows that it reads, as far as there are any."""
    for tap in range(taps):
        shift = tap - taps // 2
        first, end = max(0, -shift), min(steps, steps - shift)
        if first < end:
            yield (
                tap,
                slice(first * samples, end * samples),
                slice((first + shift) * samples, (end + shift) * samples),
            )


def trunk(modality: Modality, model: Model) -> nn.Sequential:
    """Series (N, T, B), normalised -> features (N, hidden), non-negative."""
    steps, bands = modality.shape
    width, kernel = model.width, model.kernel
    return TempCNN(
        OrderedDict(
            channels_first=ChannelsFirst(),
            conv1=nn.Conv1d(bands, width, kernel, padding=kernel // 2),
            norm1=nn.BatchNorm1d(width),
            relu1=nn.ReLU(),
            dropout1=Dropout(model.dropout),
            conv2=nn.Conv1d(width, width, kernel, padding=kernel // 2),
            norm2=nn.BatchNorm1d(width),
            relu2=nn.ReLU(),
            dropout2=Dropout(model.dropout),
            flatten=nn.Flatten(),
            dense=nn.Linear(width * steps, model.hidden),
            norm3=nn.BatchNorm1d(model.hidden),
            relu3=nn.ReLU(),
            dropout3=Dropout(model.dropout),
        )
    )
