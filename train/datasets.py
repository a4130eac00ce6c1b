"""From what the user typed (`--data NAME_OR_FOLDER`) to an opened paired set."""

import os
from pathlib import Path

from edge.errors import InputError
from edge.files import cache_folder
from edge.train.paired import MARKER, PairedSet, open_paired_set
from edge.train.sources import fetch, known, needs_files


def resolve(name_or_folder: str, cache: Path | None = None) -> PairedSet:
    """Open a paired set by folder or by the name of a source.

    A folder with dataset.json is opened. A source is opened from `cache` (default: `edge.files.cache_folder`) if it was
    fetched before; else it is made, or converted from a local copy of its raw files. Nothing is downloaded here.
    InputError: neither a paired set nor a known source, or a source that must be fetched first.
    """
    folder = Path(name_or_folder)
    if (folder / MARKER).is_file():
        return open_paired_set(folder)
    if name_or_folder not in known():
        what = "holds no dataset.json" if folder.is_dir() else "is neither a folder nor a known source"
        raise InputError(
            f"data {name_or_folder!r} {what}; give the folder of a paired set (`edge data import` "
            f"makes one) or one of: {', '.join(known())}"
        )
    fetched = (cache or cache_folder()) / name_or_folder
    if (fetched / MARKER).is_file():
        return open_paired_set(fetched)
    raw = local_copy(name_or_folder)
    if raw is None and needs_files(name_or_folder):
        raise InputError(
            f"data source {name_or_folder!r} is not here yet; run `edge data fetch {name_or_folder}` "
            f"(or `edge data fetch {name_or_folder} --from FOLDER` with a local copy)"
        )
    return fetch(name_or_folder, fetched, raw)


def local_copy(name: str) -> Path | None:
    """The folder of the source `name` in EDGE_DATA, or in ../shared/data where that is not set; None if there is none.

    It has the name of the source, with `_` for `-`, or the front part of it: `worldcereal-crop` and `worldcereal-types`
    are both made from `worldcereal`.
    """
    given = os.environ.get("EDGE_DATA")
    root = Path(given) if given else Path("..") / "shared" / "data"
    parts = name.split("-")
    folders = (root / "_".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((folder for folder in folders if folder.is_dir()), None)
