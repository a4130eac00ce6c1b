"""What a result depends on, as one hash: a stage whose fingerprint is unchanged need not run again."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import edge
from edge.files import read_json


@functools.cache  # a process runs the code that it loaded, whatever becomes of the files
def code_version(*folders: Path) -> str:
    """The package's version and the content of its Python files in `folders`."""
    digest = hashlib.sha256(edge.__version__.encode())
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def fingerprint(*parts: Any) -> str:
    """SHA-256 over JSON of `parts`."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def is_current(facts: Path, mark: str) -> bool:
    """Whether a stage's JSON file `facts` is there and has this fingerprint."""
    if not facts.exists():
        return False
    found = read_json(facts)
    return isinstance(found, dict) and found.get("fingerprint") == mark
