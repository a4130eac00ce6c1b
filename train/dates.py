"""Days and seasons of samples: `date.npy` of a paired set.

A day is a numpy datetime64[D]: eight bytes, days since 1970-01-01, as an int64 would be, but the .npy file itself says
that they are days, NaT ("not a time") is a day that is not known, and nothing is pickled. A season is a quarter of the
meteorological year, named by its months, because summer is JJA on one hemisphere and DJF on the other.
"""

import re
from datetime import date

import numpy as np

from edge.errors import InputError

SEASONS = ("DJF", "MAM", "JJA", "SON")
UNKNOWN = len(SEASONS)  # the season of a day that is not known
_EMPTY = ("", "None", "NA", "null", "nan", "NaT")
_DAY = re.compile(r"(\d{4})(-?)(\d{2})\2(\d{2})([T ][\d:.,+Z-]+)?")  # the time of the day is left out


def dates(values: np.ndarray, name: str) -> np.ndarray:
    """Column `name` as datetime64[D]; an empty cell is NaT.

    `values` (n,): datetime64, or ISO 8601 text such as 2019-06-30, 20190630 or 2019-06-30T10:21:07Z.
    InputError gives the row of what is no day; a month or a year is none.
    """
    if values.dtype.kind == "M":
        unit = np.datetime_data(values.dtype)[0]
        if unit in ("Y", "M", "W"):
            raise InputError(f"column {name!r} holds {values.dtype}, which is no day; give datetime64[D]")
        return values.astype("datetime64[D]")
    return np.array([_day(str(value).strip(), name, row) for row, value in enumerate(values)], "datetime64[D]")


def season_of(days: np.ndarray) -> np.ndarray:
    """Positions (n,) in SEASONS of datetime64[D] (n,); UNKNOWN for NaT."""
    known = ~np.isnat(days)
    seasons = np.full(len(days), UNKNOWN)
    seasons[known] = (months_of(days[known]) % 12) // 3  # December is month 12, with January and February
    return seasons


def months_of(days: np.ndarray) -> np.ndarray:
    """Months 1 .. 12 (n,) of known days (n,)."""
    return days.astype("datetime64[M]").astype(np.int64) % 12 + 1


def season_counts(days: np.ndarray) -> dict[str, int]:
    """How many of `days` (n,) lie in each season, and how many are `unknown`."""
    counts = np.bincount(season_of(days), minlength=UNKNOWN + 1).tolist()
    return dict(zip((*SEASONS, "unknown"), counts, strict=True))


def _day(text: str, name: str, row: int) -> str:
    if text in _EMPTY:
        return "NaT"
    parts = _DAY.fullmatch(text)
    try:
        if parts is None:
            raise ValueError("another form")
        return date(int(parts[1]), int(parts[3]), int(parts[4])).isoformat()
    except ValueError:
        raise InputError(
            f"column {name!r}, data row {row + 1}: {text!r} is not a date; write it as 2019-06-30 (year-month-day), "
            "leave it empty where it is not known"
        ) from None
