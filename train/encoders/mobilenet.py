"""A light backbone for images on edge computers: inverted residuals with depthwise convolutions.

Source: the layer table of MobileNetV3-Small (Howard et al. 2019, arXiv 1905.02244, table 2) made of the blocks of
MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381). ReLU stands for hard-swish and ReLU6, and there is no
squeeze-excite, as in EfficientNet-Lite: each of them puts float operations between integer layers. ReLU costs nothing
in INT8: the zero point cuts off what is negative.

Default for images of more than 36 pixels because it is the cheapest of the image families: at 64 x 64 with 6 bands
18 million multiply-accumulates, against 149 of ResNet-18. Small images are halved less often than the table says, so
that the last map keeps 4 pixels; the strides that are left out are the first ones. `model.width` 128 has the table's
channels, 64 half of them.

INT8: all of it; the weights of depthwise convolutions have one range for each channel.
"""

import math
from collections import OrderedDict

from torch import nn

from edge.recipe import Model
from edge.sensors import Modality
from edge.train.encoders.blocks import Residual, convolution, image_end, numbered, scaled

NAMES: tuple[str, ...] = ("mobilenet",)
KINDS: tuple[str, ...] = ("image",)
NO_INT8: str | None = None

STEM, LAST = 16, 576
# kernel, channels inside, channels out, stride
TABLE = (
    (3, 16, 16, 2), (3, 72, 24, 2), (3, 88, 24, 1), (5, 96, 40, 2), (5, 240, 40, 1), (5, 240, 40, 1), (5, 120, 48, 1),
    (5, 144, 48, 1), (5, 288, 96, 2), (5, 576, 96, 1), (5, 576, 96, 1),
)  # fmt: skip
HALVINGS = 5  # the stem's and those of TABLE
SMALLEST_MAP = 4  # pixels along the shorter side that the last map keeps


def inverted_residual(inputs: int, inside: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    """1 x 1 to `inside` channels, depthwise, 1 x 1 to `outputs` without ReLU; a shortcut where the shape stays."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if inside != inputs:
        layers |= numbered(convolution(inputs, inside, 1), 1)
    layers |= numbered(convolution(inside, inside, kernel, stride=stride, groups=inside), 2)
    layers |= numbered(convolution(inside, outputs, 1, relu=False), 3)
    body = nn.Sequential(layers)
    return Residual(body) if stride == 1 and inputs == outputs else body


def halvings(height: int, width: int) -> int:
    """How often an image is halved: at most as the table says, and never below a map of SMALLEST_MAP pixels."""
    return min(HALVINGS, max(0, int(math.log2(max(1.0, min(height, width) / SMALLEST_MAP)))))


def trunk(modality: Modality, model: Model) -> nn.Sequential:
    """Images (N, B, H, W), normalised -> features (N, hidden), non-negative."""
    bands, height, width = modality.shape
    kept = HALVINGS - halvings(height, width)  # strides still to be left out
    stem, channels = 1 if kept else 2, scaled(STEM, model)
    kept -= kept > 0
    layers = numbered(convolution(bands, channels, 3, stride=stem), 0)
    for number, (kernel, inside, outputs, stride) in enumerate(TABLE, 1):
        leave_out = stride == 2 and kept > 0
        kept -= leave_out
        layers[f"block{number}"] = inverted_residual(
            channels, scaled(inside, model), scaled(outputs, model), kernel, 1 if leave_out else stride
        )
        channels = scaled(outputs, model)
    layers |= numbered(convolution(channels, scaled(LAST, model), 1), 9)
    return nn.Sequential(layers | image_end(scaled(LAST, model), model))
