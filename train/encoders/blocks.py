"""What several families are built of. Everything else that an encoder needs is a plain layer of torch.

Names matter here: a residual sum is a module, so that fake quantization, the ONNX graph and the checks on it can all
speak of `layer1_0.add` (compress/quantize.py, compress/placement.py).
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from edge.errors import InputError
from edge.recipe import Model

STEPS = 256  # values of a byte
PUBLISHED_WIDTH = 128  # the `model.width` at which image backbones have the channels of their papers


class FloatPart(nn.Module):
    """Operations that INT8 engines compute in float: softmax and the products around it, sums of float tensors.

    Fake quantization leaves them alone, and the check on fused graphs knows them by name (deploy/rules_onnxruntime.py).
    Normalisations and recurrent layers count as float parts by their type (`float_parts`).
    """


class Add(nn.Module):
    """The sum at the end of a residual block: first the branch with the layers, then the shortcut."""

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        """Two tensors of one shape."""
        return branch + shortcut


class FloatAdd(Add, FloatPart):
    """A sum that feeds a LayerNorm: both sides stay in float."""


class Residual(nn.Module):
    """body(x) + shortcut(x); `shortcut` None is x itself, `after` follows the sum."""

    def __init__(
        self,
        body: nn.Sequential,
        shortcut: nn.Sequential | None = None,
        *,
        add: Add | None = None,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Sequential()
        self.add = add or Add()
        self.after = nn.Sequential() if after is None else nn.Sequential(OrderedDict(relu=after))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that body and shortcut agree on."""
        output: Tensor = self.after(self.add(self.body(x), self.shortcut(x)))
        return output


class Tokens(nn.Module):
    """(N, T, B) -> (N T, B): what treats every time step alike is then a plain Linear, a Gemm with a name in ONNX."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands = bands

    def forward(self, x: Tensor) -> Tensor:
        """A view, nothing is copied."""
        return x.reshape(-1, self.bands)


class Dropout(nn.Dropout):
    """As in torch, in a half to a fifth of the time on a CPU: one draw of 64 bits serves eight values.

    So the share of values that are dropped is `p` rounded to 1/256; what is left is scaled by the share that is kept.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        kept = STEPS - round(STEPS * self.p)
        if not self.training or x.device.type != "cpu" or kept in (0, STEPS):
            return super().forward(x)
        bits = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 8),))
        mask = bits.view(torch.uint8)[: x.numel()].view(x.shape) < kept
        return x * mask.to(x.dtype).mul_(STEPS / kept)


def convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
) -> "OrderedDict[str, nn.Module]":
    """A convolution that keeps the map's size (but for the stride), batch norm, and ReLU unless told otherwise.

    It starts with weights that keep the variance near 1 (He et al. 2015, arXiv 1502.01852), which is what the running
    statistics of a batch norm start with: a small set has few steps to correct them before the first validation.
    """
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv, norm=nn.BatchNorm2d(outputs))
    if relu:
        layers["relu"] = nn.ReLU()
    return layers


def numbered(layers: "OrderedDict[str, nn.Module]", number: int) -> "OrderedDict[str, nn.Module]":
    """The same layers called conv1, norm1, ... so that several can stand in one nn.Sequential."""
    return OrderedDict((f"{name}{number}", layer) for name, layer in layers.items())


def dense_end(features: int, model: Model) -> "OrderedDict[str, nn.Module]":
    """The end of every trunk: (N, features) -> (N, hidden), non-negative."""
    return OrderedDict(
        dense=nn.Linear(features, model.hidden),
        dense_norm=nn.BatchNorm1d(model.hidden),
        dense_relu=nn.ReLU(),
        dense_dropout=Dropout(model.dropout),
    )


def image_end(channels: int, model: Model) -> "OrderedDict[str, nn.Module]":
    """(N, channels, H, W) -> mean over the map -> (N, hidden), non-negative."""
    return OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), **dense_end(channels, model))


def scaled(channels: int, model: Model) -> int:
    """`channels` of a paper times model.width / 128, as a multiple of 8, in which integer kernels work; at least 8."""
    return max(8, round(channels * model.width / PUBLISHED_WIDTH / 8) * 8)


def check_heads(name: str, model: Model, heads: int) -> None:
    """InputError if the attention heads of the encoder `name` cannot share `model.width` evenly."""
    if model.width % heads:
        raise InputError(
            f"model.width is {model.width}; {name} shares it among {heads} heads: use a multiple of {heads}"
        )


def float_parts(model: nn.Module) -> list[str]:
    """Names of the modules inside `model` that stay in float on every engine."""
    kinds = (FloatPart, nn.LayerNorm, nn.GRU)
    return [name for name, part in model.named_modules() if isinstance(part, kinds)]
