"""A small Transformer encoder (Vaswani et al. 2017, arXiv 1706.03762) for series, as Rußwurm and Körner use it for
satellite data (2020, arXiv 1910.10536): embedding, position, blocks of self-attention and two dense layers, maximum
over time.

Norms stand before attention and dense layers ("pre-norm", Xiong et al. 2020, arXiv 2002.04745), which trains without
a warm-up of the learning rate. Two blocks, 4 heads; `model.width` is the embedding, the inner dense layer has twice
that. `model.kernel` has no meaning.

INT8: all Linear layers. In float: position, norms, attention itself, the residual sums (they feed norms) and the
maximum over time, as TensorRT wants them (R11); so integers start and stop in every block, and on a CPU INT8 gains
less than it does for convolutions.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from edge.recipe import Model
from edge.sensors import Modality
from edge.train.encoders.blocks import Dropout, FloatAdd, FloatPart, Residual, Tokens, check_heads, dense_end
from edge.train.encoders.ltae import Position

NAMES: tuple[str, ...] = ("transformer",)
KINDS: tuple[str, ...] = ("series",)
NO_INT8: str | None = None

BLOCKS, HEADS = 2, 4


class Attend(FloatPart):
    """softmax(q k / sqrt(size)) v for each head."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.steps, self.width = steps, width

    def forward(self, queries_keys_values: Tensor) -> Tensor:
        """(N T, 3 width) -> (N T, width)."""
        parts = queries_keys_values.reshape(-1, self.steps, 3 * HEADS, self.width // HEADS).transpose(1, 2)
        queries, keys, values = torch.split(parts, HEADS, dim=1)  # (N, heads, T, width / heads) each
        scores = queries @ keys.transpose(2, 3) * (self.width // HEADS) ** -0.5  # (N, heads, T, T)
        mixed: Tensor = scores.softmax(dim=3) @ values
        return mixed.transpose(1, 2).reshape(-1, self.width)


class MaxOverTime(FloatPart):
    """(N T, width) -> (N, width)."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.steps, self.width = steps, width

    def forward(self, x: Tensor) -> Tensor:
        """The largest value of each channel."""
        return x.reshape(-1, self.steps, self.width).amax(dim=1)


def block(steps: int, width: int, dropout: float) -> nn.Sequential:
    """(N T, width) -> the same: attention across time, then two dense layers for each step."""
    attention = OrderedDict[str, nn.Module](
        norm=nn.LayerNorm(width),
        mix=nn.Linear(width, 3 * width),  # queries, keys and values at once
        attend=Attend(steps, width),
        out=nn.Linear(width, width),
        dropout=Dropout(dropout),
    )
    dense = OrderedDict[str, nn.Module](
        norm=nn.LayerNorm(width),
        widen=nn.Linear(width, 2 * width),
        relu=nn.ReLU(),
        dropout1=Dropout(dropout),
        narrow=nn.Linear(2 * width, width),
        dropout2=Dropout(dropout),
    )
    return nn.Sequential(
        OrderedDict(
            attention=Residual(nn.Sequential(attention), add=FloatAdd()),
            dense=Residual(nn.Sequential(dense), add=FloatAdd()),
        )
    )


def trunk(modality: Modality, model: Model) -> nn.Sequential:
    """Series (N, T, B), normalised -> features (N, hidden), non-negative."""
    steps, bands = modality.shape
    check_heads(NAMES[0], model, HEADS)
    blocks = {f"block{i + 1}": block(steps, model.width, model.dropout) for i in range(BLOCKS)}
    return nn.Sequential(
        OrderedDict(
            tokens=Tokens(bands),
            embed=nn.Linear(bands, model.width),
            position=Position(steps, model.width),
            **blocks,
            norm=nn.LayerNorm(model.width),
            pool=MaxOverTime(steps, model.width),
            **dense_end(model.width, model),
        )
    )
