"""Normalisation: mean and standard deviation of each band, from training samples only.

A missing value becomes 0 after the z-score, which is the band's mean.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.sensors import Modality

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


def fit_scaling(modality: Modality, values: Array) -> Scaling:
    """Statistics of the training samples (N, *shape); a band that is constant there keeps its values (std 1)."""
    axes = tuple(axis for axis in range(values.ndim) if axis != modality.band_axis + 1)
    count = np.isfinite(values).sum(axis=axes, keepdims=True)
    mean = np.nansum(values, axis=axes, keepdims=True, dtype=np.float64) / np.maximum(count, 1)
    variance = np.nansum((values - mean) ** 2, axis=axes, keepdims=True, dtype=np.float64) / np.maximum(count, 1)
    std = np.sqrt(variance)
    std[std < 1e-12 * np.maximum(np.abs(mean), 1)] = 1.0
    return Scaling(mean[0].astype(np.float32), std[0].astype(np.float32))


def fit_target_scaling(target: Array) -> tuple[float, float]:
    """Mean and standard deviation of a regression target, from training samples."""
    return float(np.mean(target, dtype=np.float64)), float(np.std(target, dtype=np.float64)) or 1.0
