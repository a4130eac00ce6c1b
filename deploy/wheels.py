"""Wheels of the device runtime for another machine: what `pip` there needs when there is no network.

`pip download` chooses by the other machine's Python and platform; edge's own wheel is built from the sources that this
edge runs from, or fetched when it was installed from an index. pip's own wheel comes along, for a JetPack without
python3-venv and python3-pip, and cuda-python and onnx, which TensorRT engines need and no JetPack has.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge.deploy.cuda import ON_BOARDS
from edge.errors import BackendMissing, InputError

_PYTHON = re.compile(r"3\.\d{1,2}")
_PLATFORM = re.compile(r"manylinux_2_(\d{1,2})_(aarch64|x86_64)")
# glibc 2.17 is the oldest of any manylinux wheel for aarch64 (PEP 599, PEP 600).
_OLDEST_GLIBC = 17
# Which CUDA a board has is told by its Python: 12 with JetPack 6 [1], 13 with JetPack 7 [2, 3]; not tried on a board.
# For aarch64 it needs glibc 2.28 at most. JetPack 7 may have TensorRT 11, for which onnx writes FP16 into the graph.
# [1] 12.6 in 6.1: https://pytorch.org/TensorRT/getting_started/jetpack.html
# [2] 13.0 in 7.1: https://developer.nvidia.com/embedded/jetpack/downloads/archive-7.1
# [3] 13.2 in 7.2: https://github.com/OE4T/meta-tegra/pull/2224
_JETPACK = {"3.10": [ON_BOARDS[12]], "3.12": [ON_BOARDS[13], "onnx>=1.19"]}
_NOT_SOURCE = (".*", "build", "dist", "runs", "tests", "shared", "__pycache__", "*.egg-info", "*.onnx", "*.np[yz]")


@dataclass(frozen=True)
class Device:
    """The Python (3.10) and the platform (manylinux_2_28_aarch64, PEP 600) that wheels are for.

    The default fits JetPack 6 (Python 3.10, glibc 2.35).
    """

    python: str = "3.10"
    platform: str = "manylinux_2_28_aarch64"

    def check(self) -> "Device":
        """Return self, or InputError."""
        if not _PYTHON.fullmatch(self.python) or int(self.python[2:]) < 10:
            raise InputError(f"--python is {self.python!r}; give 3.10 (JetPack 6), 3.12 (JetPack 7) or newer")
        if not _PLATFORM.fullmatch(self.platform):
            raise InputError(f"--platform is {self.platform!r}; give manylinux_2_28_aarch64, or ..._x86_64")
        return self

    @property
    def platforms(self) -> list[str]:
        """The platform and all older ones that run there: pip does not know that they do."""
        found = _PLATFORM.fullmatch(self.platform)
        assert found  # noqa: S101  # check() was there
        glibc, machine = int(found[1]), found[2]
        return [
            *(f"manylinux_2_{n}_{machine}" for n in range(glibc, _OLDEST_GLIBC - 1, -1)),
            f"manylinux2014_{machine}",
        ]

    @property
    def tensorrt(self) -> list[str]:
        """What TensorRT engines need where the device may be a Jetson; nothing for other machines."""
        return _JETPACK.get(self.python, []) if "manylinux_2_28_aarch64" in self.platforms else []


def collect_wheels(folder: Path, device: Device) -> list[Path]:
    """Put wheels of edge, ONNX Runtime, pip and what a Jetson's TensorRT needs into `folder`; return them.

    BackendMissing: no pip here. InputError: pip finds no wheel (its own words), e.g. without a network.
    """
    device.check()
    folder.mkdir(parents=True, exist_ok=True)
    own = f"{_own_wheel(folder)}[cpu]"
    platforms = [word for platform in device.platforms for word in ("--platform", platform)]
    _pip(
        "download", "--only-binary=:all:", "--implementation", "cp", "--python-version", device.python, *platforms,
        "--dest", str(folder), own, "pip", *device.tensorrt,
    )  # fmt: skip
    return sorted(folder.glob("*.whl"))


def _own_wheel(folder: Path) -> Path:
    """Edge's own wheel, from its sources if this edge runs from them (an editable install), else from the index."""
    from edge import __file__ as package
    from edge import __version__

    root = Path(package).resolve().parent.parent
    if (root / "pyproject.toml").is_file() and (root / "deploy").is_dir():
        with tempfile.TemporaryDirectory() as temporary:  # a build folder of an earlier version must not leak into it
            source = Path(temporary) / "edge-colearn"
            shutil.copytree(root, source, ignore=shutil.ignore_patterns(*_NOT_SOURCE))
            _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
    else:
        _pip("download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), f"edge-colearn=={__version__}")
    return next(folder.glob(f"edge_colearn-{__version__}-*.whl"))


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words]
    # The same sources give the same wheel, to the byte: jetson.sh installs again what is another one.
    settings = {**os.environ, "SOURCE_DATE_EPOCH": "1577836800"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    if "No module named pip" in done.stderr:
        raise BackendMissing("pip is not installed here; python -m ensurepip")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise InputError("pip cannot get the wheels: " + " ".join(line.removeprefix("ERROR: ") for line in lines[:3]))
