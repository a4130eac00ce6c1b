"""Downloads for `edge data fetch`, the only command that uses the network."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from edge.errors import BackendMissing, InputError
from edge.files import replacing, sha256


def download(address: str, path: Path, checksum: str | None) -> None:
    """Bring `address` to `path`, whole or not at all; a file that is there already and has the checksum is kept.

    `checksum` is a SHA-256, or `md5:` and an MD5 where the publisher gives no other (Zenodo).
    InputError: no connection, an answer that is no file, or bytes with another checksum.
    """
    if not address.startswith(("https://", "http://")):
        raise InputError(f"{address} is no http address")
    if checksum is not None and path.is_file() and _digest(path, checksum) == checksum:
        return
    with replacing(path) as temporary:
        try:
            with urllib.request.urlopen(address, timeout=60) as answer, open(temporary, "wb") as file:  # noqa: S310  http(s) only, see above
                _copy(answer, file, int(answer.headers.get("Content-Length") or 0), path.name)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise InputError(
                f"{address} could not be downloaded ({error}); check the connection, or get the file yourself and give "
                "its folder with --from FOLDER"
            ) from None
        if checksum is not None and (found := _digest(temporary, checksum)) != checksum:
            raise InputError(
                f"{address} has checksum {found}, expected {checksum}: the file changed or the download was "
                "disturbed; try again, or give a folder with the right file with --from FOLDER"
            )


def _digest(path: Path, checksum: str) -> str:
    """The checksum of `path` of the kind of `checksum`; MD5 finds disturbed downloads, not forged ones."""
    if not checksum.startswith("md5:"):
        return sha256(path)
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"md5:{digest.hexdigest()}"


def _copy(answer: BinaryIO, file: BinaryIO, size: int, name: str) -> None:
    try:
        from tqdm import tqdm
    except ImportError:
        raise BackendMissing("tqdm is not installed; pip install 'edge-colearn[train]'") from None
    with tqdm(total=size or None, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        while block := answer.read(1 << 20):
            file.write(block)
            bar.update(len(block))
