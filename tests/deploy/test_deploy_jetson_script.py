"""jetson.sh where JetPack's TensorRT is: a Python tree of its own with a fake `tensorrt` among the system's packages.

Order and what is installed only: `edge`, cuda-python and `tensorrt` are stand-ins, pip and venv are real.
"""

import ensurepip
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "jetson.sh"
# It notes what it was called with and what it could import, and writes what it was to write.
EDGE = """
import importlib.util, json, pathlib, sys

def main():
    words = sys.argv[1:]
    here = {name: importlib.util.find_spec(name) is not None for name in ("tensorrt", "cuda_python")}
    with open("calls", "a") as file:
        file.write(json.dumps([words, here]) + "\\n")
    for option in ("--out", "--html"):
        if option in words:
            pathlib.Path(words[words.index(option) + 1]).write_text("{}")
"""


def wheel(folder: Path, name: str, version: str, code: str = "", more: str = "", entry: str = "") -> None:
    """A package of one module."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name.removesuffix('_colearn')}/__init__.py": f"__version__ = {version!r}\n{code}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n{more}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entry,
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in {**files, f"{info}/RECORD": "".join(f"{path},,\n" for path in files)}.items():
            archive.writestr(path, content)


def pip_wheel() -> Path:
    places = (Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels"))
    found = sorted(path for place in places for path in place.glob("pip-*.whl"))
    if not found:
        pytest.skip("no wheel of pip here: apt-get install python3-pip-whl")
    return found[0]


class Board:
    """A folder with an unpacked pack (`pack`), a system Python (`python`) and a folder for pip to find wheels in."""

    def __init__(self, folder: Path, *, tensorrt: bool) -> None:
        system = Path("/usr/bin/python3").resolve()
        self.pack, self.home, self.wheels = folder / "pack", folder / "home", folder / "wheels"
        (self.pack / "bundle").mkdir(parents=True)
        (self.pack / "bundle" / "card.json").write_text("{}")
        shutil.copyfile(SCRIPT, self.pack / "jetson.sh")
        self.wheels.mkdir()
        wheel(
            self.wheels, "edge_colearn", "9.9", EDGE, entry="[console_scripts]\nedge = edge:main\n",
            more="Provides-Extra: cpu\nRequires-Dist: onnxruntime ; extra == 'cpu'\n",
        )  # fmt: skip
        wheel(self.wheels, "onnxruntime", "1.30")
        for version in ("12.6.2", "12.9.10", "13.0.3", "13.4.4"):
            wheel(self.wheels, "cuda_python", version)
        wheel(self.wheels, "onnx", "1.20")
        # The prefix of a Python is where its library is: a copy of the binary and links make a system of our own.
        library = folder / "usr" / "lib" / system.name
        self.packages = library / "dist-packages"
        self.packages.mkdir(parents=True)
        for path in (Path("/usr/lib") / system.name).glob("*"):
            if path.name != "dist-packages":
                (library / path.name).symlink_to(path)
        self.python = folder / "usr" / "bin" / "python3"
        self.python.parent.mkdir()
        shutil.copy(system, self.python)
        if tensorrt:
            self.install_tensorrt()
        found = subprocess.run([self.python, "-c", "import sys; print(*sys.version_info[:2])"],
                               capture_output=True, text=True, check=True)  # fmt: skip
        self.version = ".".join(found.stdout.split())
        new = tuple(map(int, found.stdout.split())) >= (3, 12)
        self.tensorrt = {"cuda_python-13.0.3", "onnx-1.20"} if new else {"cuda_python-12.6.2"}

    def install_tensorrt(self) -> None:
        """As python3-libnvinfer does."""
        (self.packages / "tensorrt").mkdir()
        (self.packages / "tensorrt" / "__init__.py").write_text("__version__ = '10.3.0'\n")

    def carry_wheels(self) -> None:
        """As `edge pack --wheels` does: one cuda-python, and pip."""
        (self.pack / "wheels").mkdir()
        kept = [path for path in self.wheels.glob("*.whl") if not path.name.startswith(("cuda_python", "onnx-"))]
        kept += [path for name in self.tensorrt for path in self.wheels.glob(f"{name}-*")]
        for path in (*kept, pip_wheel()):
            shutil.copy(path, self.pack / "wheels")

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        own = {"PYTHON": str(self.python), "EDGE_HOME": str(self.home), "HOME": str(self.home), "PATH": os.defpath}
        own |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}  # the online branch's index
        command = ["sh", str(self.pack / "jetson.sh"), *words]
        return subprocess.run(command, env=own, capture_output=True, text=True, check=False)

    def calls(self) -> list[tuple[str, bool]]:
        """What `edge` was called for, and whether it saw both tensorrt and cuda-python; forgotten afterwards."""
        lines = [json.loads(line) for line in (self.pack / "calls").read_text().splitlines()]
        (self.pack / "calls").unlink()
        return [(" ".join(words), all(here.values())) for words, here in lines]

    def installed(self) -> set[str]:
        """The packages of the virtual environment itself."""
        return {path.name.removesuffix(".dist-info") for path in self.home.glob("venv/lib/*/site-packages/*.dist-info")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    system = Path("/usr/bin/python3").resolve()
    if not (Path("/usr/lib") / system.name / "os.py").is_file() or not Path("/etc/debian_version").is_file():
        pytest.skip("no python3 of Debian or Ubuntu here, as a JetPack has it")
    return tmp_path


ORDER = [
    "doctor", "doctor --json", "verify bundle", "verify bundle --json",
    "bench bundle --seconds 2 --out results/report.json --html results/report.html",
    "engine bundle --seconds 2 --out results/engine.json",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("online", [False, True])
def test_with_jetpacks_tensorrt_cuda_python_is_installed_and_engines_built_and_nothing_twice(
    folder: Path, online: bool
) -> None:
    board = Board(folder, tensorrt=True)
    if online:
        zipfile.ZipFile(pip_wheel()).extractall(board.packages)  # python3-pip
    else:
        board.carry_wheels()
    done = board.run("--seconds", "2")
    assert done.returncode == 0, done.stderr
    assert board.installed() == {"edge_colearn-9.9", "onnxruntime-1.30"} | board.tensorrt
    assert board.calls() == [(words, True) for words in ORDER]
    results = sorted(path.name for path in (board.pack / "results").iterdir())
    assert results == ["doctor.json", "engine.json", "report.html", "report.json", "verify.json"]
    again = board.run("--seconds", "2")
    assert (again.returncode, "installing" in again.stderr) == (0, False)
    assert [words for words, _ in board.calls()] == ORDER


@pytest.mark.slow
def test_tensorrt_that_comes_later_brings_cuda_python_and_engines(folder: Path) -> None:
    board = Board(folder, tensorrt=False)
    board.carry_wheels()
    done = board.run("--seconds", "2")
    assert (done.returncode, "no TensorRT here" in done.stderr) == (0, True), done.stderr
    assert board.installed() == {"edge_colearn-9.9", "onnxruntime-1.30"}
    assert board.calls() == [(words, False) for words in ORDER[:5]]
    board.install_tensorrt()
    done = board.run("--seconds", "2")
    assert (done.returncode, "installing" in done.stderr) == (0, True)
    assert board.tensorrt <= board.installed()
    assert board.calls() == [(words, True) for words in ORDER]


@pytest.mark.slow
def test_what_is_installed_survives_a_pack_that_cannot_be(folder: Path) -> None:
    board = Board(folder, tensorrt=False)
    board.carry_wheels()
    assert board.run().returncode == 0
    installed = board.installed()
    (board.pack / "PACK.json").write_text('{"python": "3.99"}')
    done = board.run()
    assert done.returncode == 4
    assert f"wheels are for Python 3.99, this is {board.version}: edge pack BUNDLE --wheels --python" in done.stderr
    (board.pack / "PACK.json").write_text(json.dumps({"python": board.version}))
    for place in (board.pack / "wheels", board.wheels):
        next(place.glob("onnxruntime-*")).unlink()
    done = board.run()
    assert (done.returncode, "what was there before is as it was" in done.stderr) == (5, True), done.stderr
    assert board.installed() == installed
    assert (board.home / "venv" / "bin" / "edge").is_file()
    assert not (board.home / "venv.old").exists()


def test_without_pip_and_wheels_the_line_that_installs_pip_is_named(folder: Path) -> None:
    board = Board(folder, tensorrt=True)
    done = board.run()
    assert (done.returncode, "sudo apt-get install -y python3-pip" in done.stderr) == (5, True), done.stderr
    assert not (board.pack / "results").exists()
