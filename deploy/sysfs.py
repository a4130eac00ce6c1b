"""Small files that the kernel and NVIDIA's tools keep, under a root that tests put elsewhere."""

import os
import shutil
from pathlib import Path


def text(path: Path) -> str:
    """What the file says, without the NUL and newline at its end; "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def number(path: Path) -> float | None:
    """The one number in the file; None if it cannot be read, as with the sensor of a part that has no power."""
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def executable(name: str, root: Path = Path("/")) -> str | None:
    """The path of a program: on PATH, and where root is not "/", in its usual folders there; None if there is none."""
    if root == Path("/"):
        return shutil.which(name)
    folders = (root / folder for folder in ("usr/sbin", "usr/bin", "sbin", "bin", "usr/local/bin"))
    return shutil.which(name, path=os.pathsep.join(map(str, folders)))
