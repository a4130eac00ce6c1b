"""A patch encoder for hyperspectral and lidar windows: a few pixels wide, up to hundreds of bands deep.

After the contextual network of Lee and Kwon (2017, IEEE TIP 26(10), arXiv 1604.03519): first the spectrum, pixel by
pixel, then filters of two sizes side by side, joined, then residual blocks. Here the spectrum is reduced by a 1 x 1
convolution before the filters, since 3 x 3 filters over 369 bands would be nine tenths of the cost, and the mean over
the window stands for its middle pixel.

There is no pooling before the end. Windows of more than MAP pixels are read in blocks by the first convolution, so that
what follows costs no more than for a small one. Windows of up to WINDOW pixels are this family's by default: a backbone
for images has more layers than a few hundred of them can teach (benchmarks/RESULTS.md). For larger ones there is
`mobilenet`. `model.width` is the number of channels.

INT8: all of it; the two filter sizes share one range, so that they can be joined as integers.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from edge.recipe import Model
from edge.sensors import Modality
from edge.train.encoders.blocks import Residual, convolution, image_end, numbered

NAMES: tuple[str, ...] = ("patch",)
KINDS: tuple[str, ...] = ("image",)
NO_INT8: str | None = None

MAP = 12  # pixels along the longer side, behind the first convolution
WINDOW = 3 * MAP


class SideBySide(nn.Module):
    """A 1 x 1 and a 3 x 3 convolution of one input, joined along the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.point = nn.Sequential(convolution(inputs, outputs // 2, 1))
        self.around = nn.Sequential(convolution(inputs, outputs - outputs // 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return torch.cat([self.point(x), self.around(x)], dim=1)


def trunk(modality: Modality, model: Model) -> nn.Sequential:
    """Windows (N, B, H, W), normalised -> features (N, hidden), non-negative."""
    bands, width = modality.shape[0], model.width
    block = -(-max(modality.shape[1:]) // MAP)  # pixels, rounded up
    body = numbered(convolution(width, width, 3), 1) | numbered(convolution(width, width, 3, relu=False), 2)
    return nn.Sequential(
        OrderedDict(
            spectrum=nn.Sequential(convolution(bands, width, 2 * block - 1, stride=block)),
            sizes=SideBySide(width, width),
            context=Residual(nn.Sequential(body), after=nn.ReLU()),
            **image_end(width, model),
        )
    )
