"""Images turned and mirrored while a model is trained: seen from above, nothing says which side is up.

Each sample is shown in one of the eight ways in which a square fits onto itself, four for a rectangle, drawn anew in
each epoch. All images of a sample are shown the same way, so that they still agree pixel by pixel. Series and vectors
stay as they are. `training.augment = false` is for images in which a direction means something that the field keeps,
such as the look direction of one orbit's SAR.

Chosen on validation samples, benchmarks/RESULTS.md.
"""

import zlib

import torch
from torch import Tensor

from edge.train.samples import Batch


def turned(batch: Batch, index: Tensor, seed: int) -> dict[str, Tensor]:
    """The inputs of `batch`, the samples `index` (N,), with images (n, B, H, W) turned sample by sample.

    What is drawn depends on the batch and the seed alone: the same in every process of a training that several share,
    and when an epoch is done again.
    """
    images = {name for name, x in batch.inputs.items() if x.dim() == 4}
    if not images:
        return batch.inputs
    generator = torch.Generator().manual_seed(zlib.crc32(index.numpy().tobytes(), seed))
    draws = torch.rand(3, len(index), generator=generator) < 0.5
    return {
        name: _turned(x, draws[:, batch.rows[name], None, None, None]) if name in images else x
        for name, x in batch.inputs.items()
    }


def _turned(x: Tensor, draws: Tensor) -> Tensor:
    """Mirrored along x, along y, and if square across the diagonal, where `draws` (3, n, 1, 1, 1) says so."""
    x = torch.where(draws[0], x.flip(3), x)
    x = torch.where(draws[1], x.flip(2), x)
    return torch.where(draws[2], x.transpose(2, 3), x) if x.shape[2] == x.shape[3] else x
