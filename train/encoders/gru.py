"""A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078) for series; Garnot et al. 2019 (arXiv 1901.10503) compare
it for satellite series. One layer of `model.width` units, its last state, then the dense end of all trunks.

It reads a series in order, so it is the family for series of which the end matters most. `model.kernel` has no meaning.

No INT8: TensorRT's recurrent layers are FP32, FP16 and BF16 only, and their steps cannot run side by side.
"""

from collections import OrderedDict

from torch import Tensor, nn

from edge.recipe import Model
from edge.sensors import Modality
from edge.train.encoders.blocks import dense_end

NAMES: tuple[str, ...] = ("gru",)
KINDS: tuple[str, ...] = ("series",)
NO_INT8: str | None = "TensorRT has no INT8 form of a GRU"


class LastState(nn.Module):
    """The state after the last step."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(bands, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, B) -> (N, width)."""
        state: Tensor = self.gru(x)[1][0]
        return state


def trunk(modality: Modality, model: Model) -> nn.Sequential:
    """Series (N, T, B), normalised -> features (N, hidden), non-negative."""
    _, bands = modality.shape
    return nn.Sequential(OrderedDict(last=LastState(bands, model.width), **dense_end(model.width, model)))
