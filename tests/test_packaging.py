"""What is in the wheel: every module of the five folders under `edge`, the schemas, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("edge", "train", "compress", "deploy", "benchmarks")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    # From the sources as git has them: a build folder of an earlier version must not leak into the wheel.
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    source = out / "source"
    for name in files.stdout.decode().splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def expected_modules():
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            relative = path.relative_to(ROOT).as_posix()
            yield relative if folder == "edge" else f"edge/{relative}"


def test_the_wheel_holds_every_module_and_schema_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    schemas = {path.relative_to(ROOT).as_posix() for path in (ROOT / "edge" / "schemas").glob("*.json")}
    assert names == {*expected_modules(), *schemas, "edge/py.typed", "edge/deploy/jetson.sh"}


def test_the_wheel_asks_for_numpy_and_click_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    needs = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert sorted(line.split()[1].split(">")[0] for line in needs) == ["click", "numpy"]
    assert "Requires-Python: >=3.10" in metadata
