"""Exact folding: the same function with fewer parameters, multiplications and nodes.

- Batch norm goes into the layer before it, also inside residual blocks; dropout and the unused half go away.
- Linear hidden -> d, Linear d -> h and batch norm become one Linear hidden -> h, if no LayerNorm stands between them.
- Linear hidden -> h (specific) and the head become one Linear at export (`DeployedStudent`).
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from edge.train.model import Branch, SingleBranch

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Linear)


class FoldedStudent(nn.Module):
    """A student with batch norms folded and nothing in it that its prediction does not need.

    Fine-tuning needs the features, so the specific projection is kept apart from the head until export.
    """

    def __init__(self, branch: Branch) -> None:
        super().__init__()
        self.excluded: tuple[str, ...] = ()  # layers that stay in float on purpose (compress/exclude.py)
        self.sparse: tuple[str, ...] = ()  # layers whose weights have the pattern 2:4 (compress/sparsity.py)
        half = branch.head.in_features // 2
        specific, shared = (OrderedDict(part.named_children()) for part in (branch.specific, branch.shared))
        self.specific = fold_sequential(specific.pop("trunk"))
        self.shared = fold_sequential(shared.pop("trunk"))
        if "layer_norm" in specific:  # it mixes all d units: nothing behind it can be dropped or merged
            parts = OrderedDict(**specific, first=FirstHalf(half))
            self.to_specific: nn.Sequential | nn.Linear = copy.deepcopy(nn.Sequential(parts))
        else:
            self.to_specific = first_rows(cast("nn.Linear", specific["project"]), half)
        self.to_shared = fold_sequential(nn.Sequential(OrderedDict(**shared, then=branch.to_shared)))
        self.head = copy.deepcopy(branch.head)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, *shape), normalised -> prediction (N, K), specific (N, h), shared (N, h), trunk features (N, hidden)."""
        trunk = self.specific(x)
        specific = self.to_specific(trunk)
        shared = self.to_shared(self.shared(x))
        return self.head(torch.cat([specific, shared], dim=1)), specific, shared, trunk


class FoldedSingle(nn.Module):
    """The plain single-modality model, folded the same way."""

    def __init__(self, branch: SingleBranch) -> None:
        super().__init__()
        self.encoder = fold_sequential(nn.Sequential(OrderedDict(encoder=branch.encoder, head=branch.head)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, *shape), normalised -> prediction (N, K)."""
        output: Tensor = self.encoder(x)
        return output


class FirstHalf(nn.Module):
    """Keeps the first `size` units: the specific features."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, z: Tensor) -> Tensor:
        """(N, d) -> (N, size)."""
        return z[:, : self.size]


class DeployedStudent(nn.Module):
    """What is exported: trunks, shared projection, and one Linear over [trunk features, shared features]."""

    def __init__(self, student: FoldedStudent) -> None:
        super().__init__()
        self.specific, self.shared, self.to_shared = student.specific, student.shared, student.to_shared
        self.to_specific: nn.Sequential | None = None
        if isinstance(student.to_specific, nn.Sequential):
            self.to_specific = cast("nn.Sequential", student.to_specific[:-1])
            self.head = ignore_second_half(student.head)
        else:
            self.head = fold_into_head(student.to_specific, student.head)

    def forward(self, x: Tensor) -> Tensor:
        """(N, *shape), normalised -> prediction (N, K)."""
        specific = self.specific(x)
        if self.to_specific is not None:
            specific = self.to_specific(specific)
        output: Tensor = self.head(torch.cat([specific, self.to_shared(self.shared(x))], dim=1))
        return output


def fold_sequential(layers: nn.Module) -> nn.Sequential:
    """A copy of nested nn.Sequential in which batch norms and linear chains are merged and dropout is gone.

    The layers must be in evaluation mode's meaning: batch norms use their running statistics.
    """
    folded: dict[str, nn.Module] = {}
    for name, layer in _flatten(layers):
        last = next(reversed(folded), None)
        previous = folded[last] if last else None
        if isinstance(layer, nn.Dropout):
            continue
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and isinstance(
            previous, nn.Conv1d | nn.Conv2d | nn.Linear
        ):
            folded[last] = fold_batch_norm(previous, layer)  # type: ignore[index]
        elif isinstance(layer, nn.Linear) and isinstance(previous, nn.Linear):
            folded[last] = merge_linear(previous, layer)  # type: ignore[index]
        else:
            folded[name] = layer
    result = nn.Sequential()
    for name, layer in folded.items():
        result.add_module(name, _fold_inside(copy.deepcopy(layer)))
    return result.eval()


def _fold_inside(block: nn.Module) -> nn.Module:
    """Fold every nn.Sequential inside a block that is none itself, such as the body of a residual block."""
    for name, part in block.named_children():
        setattr(block, name, fold_sequential(part) if isinstance(part, nn.Sequential) else _fold_inside(part))
    return block


def fold_batch_norm(layer: nn.Conv1d | nn.Conv2d | nn.Linear, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    """Both as one layer: y = gamma (W x + b - mean) / sqrt(var + eps) + beta; computed in float64."""
    folded = copy.deepcopy(layer)
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()  # type: ignore[union-attr]
    bias = layer.bias.double() if layer.bias is not None else torch.zeros_like(scale)
    weight = layer.weight.double() * scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
    folded.weight = nn.Parameter(weight.float())
    folded.bias = nn.Parameter(((bias - norm.running_mean.double()) * scale + norm.bias.double()).float())  # type: ignore[union-attr]
    return folded


def merge_linear(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """second(first(x)) as one layer."""
    weight, bias = second.weight.double(), second.bias.double()
    return _linear(weight @ first.weight.double(), weight @ first.bias.double() + bias)


def first_rows(layer: nn.Linear, rows: int) -> nn.Linear:
    """The layer that computes only the first `rows` outputs."""
    return _linear(layer.weight[:rows], layer.bias[:rows])


def fold_into_head(to_specific: nn.Linear, head: nn.Linear) -> nn.Linear:
    """head([to_specific(u), s]) as one Linear over [u, s]: the specific features never stand alone on the device."""
    half = to_specific.out_features
    specific, shared = head.weight[:, :half].double(), head.weight[:, half:].double()
    weight = torch.cat([specific @ to_specific.weight.double(), shared], dim=1)
    return _linear(weight, specific @ to_specific.bias.double() + head.bias.double())


def ignore_second_half(head: nn.Linear) -> nn.Linear:
    """head([z_specific, s]) as one Linear over [z, s]: weights of 0 for z_unused cost less than cutting it off."""
    specific, shared = head.weight.chunk(2, dim=1)
    return _linear(torch.cat([specific, torch.zeros_like(specific), shared], dim=1), head.bias)


@dataclass(frozen=True)
class Cost:
    """What a model costs for one sample."""

    parameters: int
    macs: int  # multiply-accumulates of convolutions, linear and recurrent layers

    def to_json(self) -> dict[str, int]:
        """For training facts and the card."""
        return {"parameters": self.parameters, "macs": self.macs}


def cost(model: nn.Module, sample: Tensor) -> Cost:
    """Count parameters, and multiply-accumulates during one forward of `sample` (1, *shape)."""
    macs = 0

    def count(layer: nn.Module, given: tuple[Tensor], output: Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.GRU):
            macs += given[0].shape[1] * sum(weight.numel() for weight in layer.parameters() if weight.dim() > 1)
        else:
            macs += output.numel() * layer.weight[0].numel()  # type: ignore[index]

    counted = (*WEIGHTED, nn.GRU)
    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, counted)]
    with torch.no_grad():
        model.eval()(sample)
    for hook in hooks:
        hook.remove()
    return Cost(sum(parameter.numel() for parameter in model.parameters()), macs)


def _flatten(layers: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    found = []
    for name, layer in layers.named_children():
        if isinstance(layer, nn.Sequential):
            found += _flatten(layer, f"{prefix}{name}_")
        else:
            found.append((prefix + name, layer))
    return found


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = (nn.Parameter(values.detach().float().clone()) for values in (weight, bias))
    return layer
