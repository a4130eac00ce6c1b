"""TempCNN: convolutions along time (Pelletier, Webb, Petitjean 2019, Remote Sensing 11(5):523).

Two times [convolution, batch norm, ReLU, dropout], then one dense layer over all time steps. It is made of layers that
every INT8 engine has, so the whole trunk runs in integers.
"""

from collections import OrderedDict

from torch import Tensor, nn

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


def trunk(modality: Modality, model: Model) -> nn.Sequential:
    """Series (N, T, B), normalised -> features (N, hidden), non-negative."""
    steps, bands = modality.shape
    width, kernel = model.width, model.kernel
    return nn.Sequential(
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
