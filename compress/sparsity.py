"""2:4 structured sparsity of a student: two of any four weights in a row become 0 and stay 0 while it is fine-tuned.

Of each four weights along the input channels the two of largest magnitude stay (Mishra et al. 2021, arXiv 2104.08378),
which keeps the largest weight of a layer and with it its INT8 range. Fine-tuning under fake quantization then moves
the others; quantization maps 0 to 0, so that both INT8 graphs have the pattern (deploy/sparsity.py checks it).

Only layers of a size that sparse kernels take are touched (`pays`): the trunks and the shared projection. The heads
are merged with other layers when they are exported, and stay dense.
"""

import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edge.compress.fold import WEIGHTED, FoldedStudent
from edge.deploy.sparsity import GROUP, KEPT, pays
from edge.errors import InputError

PARTS = ("specific.", "shared.", "to_shared.")


def prune(students: Mapping[str, FoldedStudent]) -> None:
    """Bring the layers that sparse kernels take to the pattern; `student.sparse` says which. InputError for none."""
    for student in students.values():
        layers = {
            name: layer
            for name, layer in student.named_modules()
            if name.startswith(PARTS) and isinstance(layer, WEIGHTED)
            and pays(tuple(layer.weight.shape), getattr(layer, "groups", 1))
        }  # fmt: skip
        for layer in layers.values():
            layer.weight.data.mul_(largest(layer.weight.data))
        student.sparse = tuple(layers)
    if not any(student.sparse for student in students.values()):
        raise InputError(
            "no layer is of a size that sparse kernels take (outputs a multiple of 8, inputs of 16, no groups); leave "
            "--sparsity out, or train wider students"
        )


def largest(weight: Tensor) -> Tensor:
    """1 where one of the two largest magnitudes of four along axis 1 of [out, in, ...] stands, else 0."""
    rows = weight.movedim(1, -1)  # (out, ..., in)
    groups = rows.abs().reshape(-1, GROUP)
    kept = torch.zeros_like(groups).scatter_(1, groups.topk(KEPT, dim=1).indices, 1.0)
    return kept.reshape(rows.shape).movedim(-1, 1)


def hold(students: nn.ModuleDict) -> None:
    """Give weights that are 0 in the sparse layers no gradient, so that an optimiser without weight decay leaves them
    alone.
    """
    for student in students.values():
        for name in student.sparse:  # type: ignore[union-attr]  # torch types every attribute as a tensor
            weight = student.get_parameter(f"{name}.weight")
            weight.register_hook(functools.partial(torch.mul, weight.detach() != 0))  # type: ignore[no-untyped-call]
