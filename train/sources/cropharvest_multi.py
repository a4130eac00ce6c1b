"""Ten crop groups, the whole world (CropHarvest): points of `edge.train.sources.cropharvest_binary` with a crop group.

Target: `classification_label`, nine groups of the FAO's indicative crop classification and "non_crop"; about 29,642
points have one. Groups that do not occur are no classes. Modalities, raw files and groups for splitting as there.
"""

from pathlib import Path

import numpy as np

from edge.errors import InputError
from edge.tasks import Task
from edge.train.paired import PairedSet
from edge.train.sources.cropharvest_binary import (
    ADDRESSES,
    BY_HAND,
    CITATION,
    LICENCE,
    read_arrays,
    read_points,
    write,
)

__all__ = ["ADDRESSES", "BY_HAND", "CITATION", "LICENCE", "TITLE", "convert"]

TITLE = "CropHarvest, crop groups"
CROPS = (
    "non_crop",
    "cereals",
    "vegetables_melons",
    "fruits_nuts",
    "oilseeds",
    "root_tuber",
    "beverage_spice",
    "leguminous",
    "sugar",
    "other",
)


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """Convert `labels.geojson` and the features in `raw`; rows are sorted by data set and index."""
    points = read_points(raw, lambda point: point["classification_label"] is not None)
    names, arrays = read_arrays(raw, points)
    labels = [points[name]["classification_label"] for name in names]
    unknown = sorted({str(label) for label in labels if label not in CROPS})
    if unknown:
        raise InputError(f"labels.geojson: classification_label {unknown[0]!r} is not one of {', '.join(CROPS)}")
    classes = tuple(crop for crop in CROPS if crop in labels)
    target = np.array([classes.index(label) for label in labels])
    task = Task("multiclass", "crop group", classes)
    return write(folder, [points[name] for name in names], arrays, task, target, "cropharvest-multi", TITLE)
