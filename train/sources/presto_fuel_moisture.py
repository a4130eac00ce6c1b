"""Live fuel moisture, western USA, inputs of the Presto paper: 2,313 samples of 150 sites, 3 months each.

The modalities are those of `edge.train.sources.presto_algae_blooms`, with 3 months. Target: water per dry mass,
percent. Groups: sites; `fold5` becomes the published folds (the official test sites, `is_test`, are not used).

The labels are those of the source `lfmc`, at the same sites: never train on one and test on the other.
"""

from pathlib import Path

from edge.tasks import Task
from edge.train.paired import PairedSet
from edge.train.raw_files import raw_file
from edge.train.sources.presto_algae_blooms import LICENCE, convert_presto

TITLE = "live fuel moisture content, Presto version"
CITATION = "Tseng et al. 2023, Presto, arXiv 2304.14065; labels: Rao et al. 2020, Remote Sens. Environ. 245, 111797"
ADDRESSES: dict[str, str | None] = {}
BY_HAND = (
    "Give a folder that holds fuel_moisture.npz (made from data/fuel_moisture/npy of "
    "https://github.com/nasaharvest/presto) with --from FOLDER"
)


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """Convert `fuel_moisture.npz` in `raw`."""
    path = raw_file(raw, "fuel_moisture.npz", BY_HAND)
    source = {"title": TITLE, "licence": LICENCE, "citation": CITATION}
    return convert_presto(
        path, folder, "presto-fuel-moisture", Task("regression", "live fuel moisture", unit="%"), 3, source
    )
