"""Eight crop types, Canada 2017: the samples of `edge.train.sources.worldcereal_crop` (see there for the modalities).

Target: `class_main`, the crop types with 75 samples or more. The 558 samples of rarer types ("other", which is no type)
are left out, 3,063 stay. Groups and folds as there.
"""

from pathlib import Path

import numpy as np

from edge.tasks import Task
from edge.train.paired import PairedSet
from edge.train.sources.worldcereal_crop import ADDRESSES, BY_HAND, CITATION, LICENCE, read, write

__all__ = ["ADDRESSES", "BY_HAND", "CITATION", "LICENCE", "TITLE", "convert"]

TITLE = "WorldCereal monthly series with crop types, Canada 2017"


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """Convert `can_aafc_2017_monthly.npz` in `raw`."""
    table = read(raw, {"class_main": ()})
    typed = table["class_main"] != "other"
    kept = {name: array[typed] for name, array in table.items()}
    classes, target = np.unique(kept["class_main"], return_inverse=True)
    task = Task("multiclass", "crop type", tuple(str(name) for name in classes))
    return write(folder, kept, task, target, "worldcereal-types", TITLE)
