"""The regression variant of the simulated set (`edge.train.sources.simulated`): crop yield in t/ha."""

from pathlib import Path

from edge.train.paired import PairedSet
from edge.train.sources.simulated import ADDRESSES, BY_HAND, CITATION, LICENCE, TITLE, simulate

__all__ = ["ADDRESSES", "BY_HAND", "CITATION", "LICENCE", "TITLE", "convert"]


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """The set with its default size and seed; `raw` is not needed."""
    return simulate(folder, task="regression")
