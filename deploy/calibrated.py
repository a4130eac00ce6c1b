"""Values that an INT8 student was not calibrated for: its first quantizer cuts them off, so they are counted.

A rising count says that the sensor, its processing level or the season has left what calibration saw; the predictions
of such samples deserve less trust. The limits are in the card, `edge:calibration`, in sensor units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.errors import InputError
from edge.sensors import Modality


@dataclass
class Calibrated:
    """The range of each band, shaped to broadcast against one sample, and how many values were outside so far."""

    modality: Modality
    low: np.ndarray
    high: np.ndarray
    outside: np.ndarray  # (bands,)
    values: int = 0

    def count(self, samples: np.ndarray) -> None:
        """Count in `samples` (k, *shape); a missing value (NaN) is inside."""
        beyond = (samples < self.low) | (samples > self.high)
        self.values += samples.size
        if beyond.any():
            axes = tuple(axis for axis in range(samples.ndim) if axis != self.modality.band_axis + 1)
            self.outside += np.count_nonzero(beyond, axis=axes)

    def to_json(self) -> dict[str, Any]:
        """`values` outside, their `share` of all, and the count of each of the `bands` that has any."""
        total = int(self.outside.sum())
        bands = {band.name: int(count) for band, count in zip(self.modality.bands, self.outside, strict=True) if count}
        return {"values": total, "share": total / self.values if self.values else 0.0, "bands": bands}


def calibrated(card: Mapping[str, Any], modality: Modality) -> Calibrated | None:
    """A counter for the students of this card; None if it has no limits, because the input is not quantized.

    InputError: the limits are not one pair of numbers for each band.
    """
    calibration = card["properties"].get("edge:calibration") or {}
    try:
        bands = [calibration["bands"][band.name] for band in modality.bands] if "bands" in calibration else []
        if not bands or "low" not in bands[0]:
            return None
        low, high = (np.array([float(band[key]) for band in bands], np.float32) for key in ("low", "high"))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the card's edge:calibration is not whole: {error}") from None
    shape = [-1 if axis == modality.band_axis else 1 for axis in range(len(modality.shape))]
    return Calibrated(modality, low.reshape(shape), high.reshape(shape), np.zeros(len(bands), np.int64))
