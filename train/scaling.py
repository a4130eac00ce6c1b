"""Normalisation: mean and standard deviation of each band, from training samples only.

A missing value becomes 0 after the z-score, which is the band's mean.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.sensors import Modality
from edge.train.mapped import MappedRows
from edge.train.paired import blocks

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation, one for each band, shaped to broadcast against one sample."""

    mean: Array
    std: Array

    def apply(self, values: Array) -> Array:
        """(N, *shape) in sensor units with NaN -> z-scores without NaN."""
        scaled: Array = np.nan_to_num((values - self.mean) / self.std, copy=False, nan=0.0)
        return scaled


def fit_scaling(modality: Modality, values: Array | MappedRows, index: npt.NDArray[np.int64] | None = None) -> Scaling:
    """Statistics of the samples `index` (all without it) of `values` (n, *shape), read in blocks.

    A band that is constant there keeps its values (std 1). Blocks are joined by the update of Chan, Golub and LeVeque
    (1979, Stanford STAN-CS-79-773, eq. 2.1), which loses no digits where the mean is large beside the deviation.
    """
    axes = tuple(axis for axis in range(len(values.shape)) if axis != modality.band_axis + 1)
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    samples = len(values) if index is None else len(index)
    for rows in blocks((samples, *values.shape[1:])):
        block = values[rows if index is None else index[rows]]
        more = np.isfinite(block).sum(axis=axes, keepdims=True)
        block_mean = np.nansum(block, axis=axes, keepdims=True, dtype=np.float64) / np.maximum(more, 1)
        block_squares = np.nansum((block - block_mean) ** 2, axis=axes, keepdims=True, dtype=np.float64)
        total, step = np.maximum(count + more, 1), block_mean - mean
        squares = squares + block_squares + step**2 * (count * (more / total))
        mean, count = mean + step * (more / total), count + more
    std = np.sqrt(squares / np.maximum(count, 1))
    std[std < 1e-12 * np.maximum(np.abs(mean), 1)] = 1.0
    return Scaling(mean[0].astype(np.float32), std[0].astype(np.float32))


def fit_target_scaling(target: Array) -> tuple[float, float]:
    """Mean and standard deviation of a regression target, from training samples."""
    return float(np.mean(target, dtype=np.float64)), float(np.std(target, dtype=np.float64)) or 1.0
