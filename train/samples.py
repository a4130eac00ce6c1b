"""The samples of a paired set as tensors: indexed in batches, no worker processes, no per-sample Python.

A set of up to IN_MEMORY bytes is normalised once and kept. A larger one stays on disk: each batch reads its rows and
normalises them. The order of samples is the same full permutation in both cases and so is every number; what a larger
set needs of the memory is its labels and row numbers (about 50 bytes a sample) and one batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edge.errors import InputError
from edge.train.mapped import MappedRows, rows_of
from edge.train.paired import PairedSet, blocks
from edge.train.scaling import Scaling, fit_scaling, fit_target_scaling
from edge.train.splits import Split

AT_ONCE = 256  # samples that are predicted at a time: what a whole validation part of images needs fits no memory
IN_MEMORY = 1 << 30  # bytes of all chosen modalities together; a process for each fold should fit beside the others


@dataclass
class Batch:
    """Some samples. `inputs[name]` has only the samples that have this modality, `rows[name]` says which those are.

    A modality that fewer than two samples have is left out of `inputs` (batch normalisation and NT-Xent both need two);
    `rows` names every modality, in the order of the model.
    """

    inputs: dict[str, Tensor]
    rows: dict[str, Tensor]
    target: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Values and target on `device`; positions stay on the CPU, from where they can index a tensor anywhere."""
        inputs = {name: x.to(device) for name, x in self.inputs.items()}
        return Batch(inputs, self.rows, self.target.to(device))


@dataclass(frozen=True)
class Streamed:
    """A modality (n, *shape) that stays on disk; indexing it gives normalised samples, as indexing a tensor does."""

    rows: MappedRows
    scaling: Scaling

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, *shape of the modality)."""
        return self.rows.shape

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        values = self.rows[index if isinstance(index, slice) else index.numpy()]
        return torch.from_numpy(self.scaling.apply(values))


@dataclass
class Samples:
    """All samples: normalised inputs (n, *shape), where a modality is present (n,), the target as the loss wants it."""

    inputs: dict[str, Tensor | Streamed]
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

    def pieces(self, name: str, index: Tensor | None = None, size: int = 1024) -> Iterator[Tensor]:
        """The normalised samples `index` (all without it) of one modality, `size` at a time and in order."""
        values = self.inputs[name]
        for start in range(0, len(values if index is None else index), size):
            rows = slice(start, start + size)
            yield values[rows if index is None else index[rows]]


def load_samples(data: PairedSet, modalities: tuple[str, ...], split: Split) -> Samples:
    """The modalities in memory, or on disk if they are large; every statistic comes from the training samples."""
    scaling, inputs, present = {}, dict[str, Tensor | Streamed](), {}
    large = sum(data.arrays[name].nbytes for name in modalities) > IN_MEMORY
    for name in modalities:
        rows = rows_of(data.arrays[name])
        scaling[name] = fit_scaling(data.modalities[name], rows, split.train)
        if large and isinstance(rows, MappedRows):
            inputs[name] = Streamed(rows, scaling[name])
        else:
            inputs[name] = normalised(rows, scaling[name])
        present[name] = torch.tensor(data.present(name))
    target_scaling = (0.0, 1.0)
    target = np.asarray(data.target)
    if data.task.kind == "regression":
        target_scaling = fit_target_scaling(target[split.train])
        target = ((target - target_scaling[0]) / target_scaling[1]).astype(np.float32)
    elif data.task.kind == "multilabel":
        target = target.astype(np.float32)
    return Samples(inputs, present, torch.from_numpy(np.array(target)), scaling, target_scaling)


def normalised(values: np.ndarray | MappedRows, scaling: Scaling) -> Tensor:
    """All rows, scaled block by block: no second copy of a large array exists meanwhile."""
    result = torch.empty(values.shape)
    for rows in blocks(tuple(values.shape)):
        result[rows] = torch.from_numpy(scaling.apply(np.asarray(values[rows], dtype=np.float32)))
    return result


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
