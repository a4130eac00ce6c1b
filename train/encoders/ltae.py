"""L-TAE: lightweight temporal attention (Garnot and Landrieu 2020, arXiv 2007.00586), for series.

Every step is embedded, gets its position and is normalised; 16 heads then ask one learned question each (the "master
query"), and a head's answer is the mean, weighted by attention, of its own share of the channels. It has the fewest
parameters of the series families and no order of cost in T: for long series.

Here a position is the number of the step, since a modality knows no dates, and the layer behind the heads is the one
of all trunks. `model.width` is the embedding (the paper: 256), `model.kernel` has no meaning.

INT8: the Linear layers (embed, key, dense). In float: position, norm and attention itself (softmax, two small
products), as TensorRT wants them (R11).
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from edge.recipe import Model
from edge.sensors import Modality
from edge.train.encoders.blocks import FloatPart, Tokens, check_heads, dense_end

NAMES: tuple[str, ...] = ("ltae",)
KINDS: tuple[str, ...] = ("series",)
NO_INT8: str | None = None

HEADS, KEY = 16, 8  # heads, and length of their keys, as in the paper
LONGEST = 1000.0  # period of the slowest sine, in steps: the paper's constant for the position


class Position(FloatPart):
    """Adds sines of the step's number to each step."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.register_buffer("sines", position_sines(steps, width), persistent=False)

    sines: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(N T, width) -> the same."""
        steps, width = self.sines.shape
        return (x.reshape(-1, steps, width) + self.sines).reshape(-1, width)


def position_sines(steps: int, width: int) -> Tensor:
    """(steps, width): pairs of sine and cosine from period 2 pi to 2 pi * 1000 (arXiv 1706.03762, section 3.5)."""
    channel = torch.arange(width)
    angle = torch.arange(steps)[:, None] / LONGEST ** (2 * (channel // 2) / width)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())


class Attend(FloatPart):
    """One learned query for each head, asked of every series."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.steps, self.width = steps, width
        self.query = nn.Parameter(torch.empty(HEADS, KEY, 1))
        nn.init.normal_(self.query, std=(2 / KEY) ** 0.5)

    def forward(self, keys: Tensor, x: Tensor) -> Tensor:
        """Keys (N T, heads * KEY) and values (N T, width) -> (N, width)."""
        keys = keys.reshape(-1, self.steps, HEADS, KEY).transpose(1, 2)  # (N, heads, T, KEY)
        values = x.reshape(-1, self.steps, HEADS, self.width // HEADS).permute(0, 2, 3, 1)  # (N, heads, share, T)
        attention = (keys @ self.query * KEY**-0.5).softmax(dim=2)  # (N, heads, T, 1)
        pooled: Tensor = values @ attention
        return pooled.reshape(-1, self.width)


class Attention(nn.Module):
    """Keys by a Linear layer, then the heads."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.key = nn.Linear(width, HEADS * KEY)
        self.attend = Attend(steps, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N T, width) -> (N, width)."""
        pooled: Tensor = self.attend(self.key(x), x)
        return pooled


def trunk(modality: Modality, model: Model) -> nn.Sequential:
    """Series (N, T, B), normalised -> features (N, hidden), non-negative."""
    steps, bands = modality.shape
    check_heads(NAMES[0], model, HEADS)
    return nn.Sequential(
        OrderedDict(
            tokens=Tokens(bands),
            embed=nn.Linear(bands, model.width),
            position=Position(steps, model.width),
            norm=nn.LayerNorm(model.width),
            attention=Attention(steps, model.width),
            **dense_end(model.width, model),
        )
    )
