"""Modalities and bands: what a sensor delivers, in which order and unit.

Band names follow the field: `B04` or `VV` as the mission calls it, `common_name` from the STAC eo extension.
"""

import math
from dataclasses import dataclass
from typing import Any

from edge.errors import InputError

MISSING = ("", "NA", "None", "null")  # cells of a table that say that a value is missing; so does NaN
# What the axes of one sample may be, and what we call such a modality.
KINDS = {("band",): "vector", ("time", "band"): "series", ("band", "y", "x"): "image"}


@dataclass(frozen=True)
class Band:
    """One band: `name` as the mission calls it, `unit` of the stored values ("dB", "reflectance x 10000", "1")."""

    name: str
    unit: str = "1"
    common_name: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A dictionary without empty keys."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Modality:
    """What one sensor gives per sample: an array of `shape` whose axes are `dims` (see KINDS).

    Of what it was imported from, so that new samples may come the same way: `columns` of the table, band by band of the
    first step, then of the next; `nodata`, the number that stands for a missing value.
    """

    name: str
    bands: tuple[Band, ...]
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    sensor: str = ""
    times: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    nodata: float | None = None

    def __post_init__(self) -> None:
        if self.dims not in KINDS:
            known = ", ".join(str(list(dims)) for dims in KINDS)
            raise InputError(f"modality {self.name!r}: axes {list(self.dims)} are not known; use one of {known}")
        if len(self.shape) != len(self.dims) or self.shape[self.band_axis] != len(self.bands):
            raise InputError(
                f"modality {self.name!r}: shape {list(self.shape)} does not fit axes {list(self.dims)} "
                f"with {len(self.bands)} bands"
            )
        if self.columns and len(self.columns) != self.values:
            raise InputError(f"modality {self.name!r}: {len(self.columns)} columns for {self.values} values")

    @property
    def kind(self) -> str:
        """`vector`, `series` or `image`."""
        return KINDS[self.dims]

    @property
    def values(self) -> int:
        """Numbers in one sample."""
        return math.prod(self.shape)

    @property
    def band_axis(self) -> int:
        """The axis of the bands in one sample."""
        return self.dims.index("band")

    def to_json(self) -> dict[str, Any]:
        """The entry in dataset.json and in the card."""
        imported = {"columns": list(self.columns), "nodata": self.nodata}
        return {
            "sensor": self.sensor,
            "dims": list(self.dims),
            "shape": list(self.shape),
            "times": list(self.times),
            "bands": [band.to_json() for band in self.bands],
            **{key: value for key, value in imported.items() if value not in ([], None)},
        }

    @classmethod
    def from_json(cls, name: str, entry: dict[str, Any]) -> "Modality":
        """The reverse of `to_json`; InputError names what is missing."""
        try:
            return cls(
                name=name,
                bands=tuple(Band(**band) for band in entry["bands"]),
                dims=tuple(entry["dims"]),
                shape=tuple(int(size) for size in entry["shape"]),
                sensor=entry.get("sensor", ""),
                times=tuple(entry.get("times", ())),
                columns=tuple(entry.get("columns", ())),
                nodata=None if entry.get("nodata") is None else float(entry["nodata"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the description of modality {name!r} is incomplete or wrong: {error}") from None
