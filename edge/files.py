"""Files that are whole or absent: everything is written to a temporary name beside its place, then renamed."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from edge.errors import InputError

_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}(\.\w+)?")  # the names of `replacing`


def cache_folder() -> Path:
    """Where fetched data and engines are kept: the folder in EDGE_CACHE, or ~/.cache/edge-colearn."""
    given = os.environ.get("EDGE_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "edge-colearn"


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path; when the block ends well it becomes `path`, otherwise it is removed.

    `durable`: it is on the disk before it has its name, so that no power cut leaves an empty file behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            _onto_disk(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        _say_what_is_full(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(folder: Path, marker: str, keep: Callable[[Path], bool] = lambda path: False) -> Iterator[Path]:
    """Give a temporary folder that becomes `folder` when the block ends well.

    An existing `folder` is replaced only if it is empty or its file `marker` says that we made it; anything else raises
    InputError and is left alone. What is in it and satisfies `keep` is moved to the new one. All files are on the disk
    before the folder has its name.
    """
    folder = Path(folder)
    check_replaceable(folder, marker)
    if (folder / marker).is_file() and b'"edge' not in (folder / marker).read_bytes():  # a schema, or the card's keys
        raise InputError(f"{folder} holds a {marker} that is none of ours; give a folder that is new or empty")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                _onto_disk(path)
        temporary.chmod(0o755)
        if not folder.exists():
            temporary.replace(folder)
            return
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        folder.replace(old)
        temporary.replace(folder)
        for path in old.iterdir():
            if keep(path) and not (folder / path.name).exists():
                path.replace(folder / path.name)
        shutil.rmtree(old)
    except OSError as error:
        _say_what_is_full(error, folder)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _onto_disk(file: Path) -> None:
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())


def _say_what_is_full(error: OSError, path: Path) -> None:
    """A write that finds no room does not name its file, as one that may not be opened does."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        error.filename = error.filename or str(path)


def check_replaceable(folder: Path, marker: str) -> None:
    """Raise InputError if `folder` exists and is neither empty nor ours (ours holds `marker`)."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder that is new or empty")
    if any(folder.iterdir()) and not (folder / marker).exists():
        raise InputError(f"{folder} holds something else (no {marker} in it); give a folder that is new or empty")


def remove_leftovers(folder: Path) -> None:
    """Remove what `replacing` left in `folder` and below when it was killed; other hidden files stay."""
    for path in folder.rglob(".*"):
        if _LEFTOVER.fullmatch(path.name) and path.is_file():
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN is refused because JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON, or raise InputError that names the file and the line."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from None


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def inside(folder: Path, name: str) -> Path:
    """Join `name` to `folder`; InputError if the result (links followed) leaves the folder."""
    root = Path(folder).resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root) or path == root:
        raise InputError(f"the path {name!r} leaves its folder {folder}; refused")
    return path


def files_ending(folder: Path, endings: Collection[str]) -> list[Path]:
    """The files of a folder with one of the endings (in small letters; capitals count, too), hidden ones left out.

    In the order of their names, numbers in them by size: step-9.tif comes before step-10.tif.
    """
    found = (path for path in folder.iterdir() if path.suffix.lower() in endings and path.name[0] != ".")
    return sorted(found, key=_by_name_and_number)


def _by_name_and_number(path: Path) -> tuple[list[str | int], str]:
    """Texts and numbers in turn; 01 and 1 are told apart by the name as it is."""
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name
