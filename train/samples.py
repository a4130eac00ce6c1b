"""The samples of a paired set as tensors: normalised once, indexed in batches, no worker processes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edge.errors import InputError
from edge.train.paired import PairedSet
from edge.train.scaling import Scaling, fit_scaling, fit_target_scaling
from edge.train.splits import Split


@dataclass
class Batch:
    """Some samples. `inputs[name]` has only the samples that have this modality, `rows[name]` says which those are.

    A modality that fewer than two samples have is left out of `inputs` (batch normalisation and NT-Xent both need two);
    `rows` names every modality, in the order of the model.
    """

    inputs: dict[str, Tensor]
    rows: dict[str, Tensor]
    target: Tensor


@dataclass
class Samples:
    """All samples: normalised inputs (n, *shape), where a modality is present (n,), the target as the loss wants it."""

    inputs: dict[str, Tensor]
    present: dict[str, Tensor]
    target: Tensor
    scaling: dict[str, Scaling]
    target_scaling: tuple[float, float]

    def batch(self, index: Tensor) -> Batch:
        """The samples of `index` (N,), in its order."""
        inputs, rows = {}, {}
        for name, values in self.inputs.items():
            rows[name] = self.present[name][index].nonzero()[:, 0]
            if len(rows[name]) > 1:
                inputs[name] = values[index[rows[name]]]
        return Batch(inputs, rows, self.target[index])


def load_samples(data: PairedSet, modalities: tuple[str, ...], split: Split) -> Samples:
    """Read the modalities into memory; every statistic comes from the training samples of `split`."""
    scaling, inputs, present = {}, {}, {}
    for name in modalities:
        values, train = data.arrays[name], data.arrays[name][split.train]
        scaling[name] = fit_scaling(data.modalities[name], train)
        inputs[name] = torch.from_numpy(scaling[name].apply(np.array(values, dtype=np.float32)))
        present[name] = torch.from_numpy(data.present(name))
    target_scaling = (0.0, 1.0)
    target = np.asarray(data.target)
    if data.task.kind == "regression":
        target_scaling = fit_target_scaling(target[split.train])
        target = ((target - target_scaling[0]) / target_scaling[1]).astype(np.float32)
    elif data.task.kind == "multilabel":
        target = target.astype(np.float32)
    return Samples(inputs, present, torch.from_numpy(np.array(target)), scaling, target_scaling)


def usable(samples: Samples, split: Split) -> tuple[Tensor, Tensor]:
    """The training and the validation samples that have any modality, as indices.

    InputError for a modality that fewer than two samples of either part have.
    """
    parts = []
    for part, index in (
        ("training", torch.from_numpy(split.train)),
        ("validation", torch.from_numpy(split.validation)),
    ):
        for name, present in samples.present.items():
            count = int(present[index].sum())
            if count < 2:
                raise InputError(
                    f"modality {name!r}: {count} of {len(index)} samples of the {part} part have it, at least 2 must; "
                    "use another fold or leave the modality out"
                )
        parts.append(index[torch.stack([present[index] for present in samples.present.values()]).any(dim=0)])
    return parts[0], parts[1]


def batches(index: Tensor, size: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Cut `index` into pieces of `size`, shuffled if a generator is given; a last piece of one sample is left out."""
    if generator is not None:
        index = index[torch.randperm(len(index), generator=generator)]
    for start in range(0, len(index), size):
        piece = index[start : start + size]
        if len(piece) > 1:
            yield piece
