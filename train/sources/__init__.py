"""Known data sets. A source is one file here; adding one is adding a file, its name is the file's with `-` for `_`.

Each says where it comes from and turns its raw files into a paired set:

    TITLE, LICENCE, CITATION   text for dataset.json
    ADDRESSES                  {https address: its SHA-256, or "md5:" and its MD5, or None where none is published}
    BY_HAND                    what to do where files cannot be downloaded directly ("" where none are needed)
    convert(raw, folder)       read the raw files in `raw`, write the paired set to `folder`
"""

import importlib
import pkgutil
from pathlib import Path
from typing import Protocol, cast

from edge.errors import InputError
from edge.files import cache_folder
from edge.train.download import download
from edge.train.paired import PairedSet


class Source(Protocol):
    """What a file in this folder offers."""

    TITLE: str
    LICENCE: str
    CITATION: str
    ADDRESSES: dict[str, str | None]
    BY_HAND: str

    def convert(self, raw: Path | None, folder: Path) -> PairedSet:
        """Write the paired set; InputError names the raw file that is missing or wrong."""


def known() -> tuple[str, ...]:
    """The names of all sources, sorted."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Source:
    """The source `name`; InputError names the known ones."""
    if name not in known():
        raise InputError(f"data source {name!r} is not known; known sources: {', '.join(known())}")
    return cast(Source, importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))


def needs_files(name: str) -> bool:
    """False for a source that is made on the spot."""
    source = load(name)
    return bool(source.ADDRESSES or source.BY_HAND)


def fetch(name: str, folder: Path, from_folder: Path | None = None) -> PairedSet:
    """Write the source `name` as a paired set to `folder`.

    The raw files are those in `from_folder`, or are downloaded into the cache first. InputError: unknown source, no
    such folder, a failed download, a wrong checksum, or a source whose files must be got by hand.
    """
    source = load(name)
    if from_folder is not None and not from_folder.is_dir():
        raise InputError(f"--from {from_folder} is not a folder; give the folder with the raw files of {name}")
    if from_folder is None and source.ADDRESSES:
        from_folder = cache_folder() / "raw" / name
        for address, checksum in source.ADDRESSES.items():
            download(address, from_folder / address.rsplit("/", 1)[-1], checksum)
    if from_folder is None and source.BY_HAND:
        raise InputError(f"the files of {name} cannot be downloaded directly. {source.BY_HAND}")
    return source.convert(from_folder, folder)
