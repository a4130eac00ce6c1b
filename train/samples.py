"""The samples of a paired set as tensors: normalised once, indexed in batches, no worker processes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edge.train.paired import PairedSet
from edge.train.scaling import Scaling, fit_scaling, fit_target_scaling
from edge.train.splits import Split


@dataclass
class Batch:
    """Some samples. `inputs[name]` has only the samples that have this modality, `rows[name]` says which those are."""

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
            here = self.present[name][index]
            rows[name] = here.nonzero()[:, 0]
            inputs[name] = values[index if here.all() else index[here]]
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


def batches(index: Tensor, size: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Cut `index` into pieces of `size`, shuffled if a generator is given. A last piece of one sample is left out:
    batch normalisation and NT-Xent both need two."""
    if generator is not None:
        index = index[torch.randperm(len(index), generator=generator)]
    for start in range(0, len(index), size):
        piece = index[start : start + size]
        if len(piece) > 1:
            yield piece
