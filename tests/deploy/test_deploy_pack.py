"""A pack: whole, checked before it is used, and for the platform that was asked for."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_bundles import build

from edge.cli import main
from edge.deploy.pack import write_pack
from edge.deploy.wheels import Device, collect_wheels
from edge.errors import InputError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bundles") / "tiny").folder


def test_a_pack_passes_sha256sum_and_holds_the_bundle_unchanged(bundle: Path, tmp_path: Path) -> None:
    write_pack(tmp_path / "pack", bundle)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path / "pack", check=True)
    for path in bundle.iterdir():
        assert (tmp_path / "pack" / "bundle" / path.name).read_bytes() == path.read_bytes()
    assert json.loads((tmp_path / "pack" / "PACK.json").read_text())["bundle"] == "tiny"


def test_an_archive_holds_one_folder_that_nobody_owns(bundle: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["pack", str(bundle), "-o", str(tmp_path / "field.tar.gz")])
    assert result.exit_code == 0, result.output
    with tarfile.open(tmp_path / "field.tar.gz") as archive:
        entries = archive.getmembers()
    assert {entry.name.partition("/")[0] for entry in entries} == {"field"}
    assert {entry.uid for entry in entries} == {0}
    assert next(entry for entry in entries if entry.name == "field/jetson.sh").mode == 0o755


def test_a_damaged_bundle_is_not_packed(bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    (broken / "model.fp32.onnx").write_bytes(b"none")
    with pytest.raises(InputError, match="fp32"):
        write_pack(tmp_path / "pack", broken)
    assert not (tmp_path / "pack").exists()


def test_a_folder_of_somebody_else_is_left_alone(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("John")
    with pytest.raises(InputError, match="something else"):
        write_pack(tmp_path / "letters", bundle)
    assert (tmp_path / "letters" / "dear.txt").read_text() == "John"


def test_another_kind_of_archive_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a pack is a folder or a file that ends in \.tar\.gz or \.tgz"):
        write_pack(tmp_path / "pack.zip", bundle)
    assert not (tmp_path / "pack.zip").exists()


@pytest.mark.parametrize(
    ("device", "word"),
    [(Device("3.8"), "--python"), (Device("3.1x"), "--python"), (Device("3.10", "linux_aarch64"), "--platform"),
     (Device("3.10", "manylinux_2_28_riscv"), "--platform")],
)  # fmt: skip
def test_a_device_that_edge_cannot_serve_is_refused(bundle: Path, tmp_path: Path, device: Device, word: str) -> None:
    with pytest.raises(InputError, match=word):
        write_pack(tmp_path / "pack", bundle, device=device)
    assert list(tmp_path.iterdir()) == []


def test_older_platforms_are_offered_to_pip_after_the_newest() -> None:
    names = Device("3.10", "manylinux_2_19_aarch64").platforms
    expected = ["manylinux_2_19_aarch64", "manylinux_2_18_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"]
    assert names == expected


def test_the_script_refuses_a_damaged_pack(bundle: Path, tmp_path: Path) -> None:
    write_pack(tmp_path / "pack", bundle)
    (tmp_path / "pack" / "bundle" / "golden.npz").write_bytes(b"")
    done = subprocess.run(["sh", str(tmp_path / "pack" / "jetson.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the pack is damaged" in done.stderr


def test_the_script_refuses_a_word_that_it_does_not_know(bundle: Path, tmp_path: Path) -> None:
    write_pack(tmp_path / "pack", bundle)
    done = subprocess.run(
        ["sh", str(tmp_path / "pack" / "jetson.sh"), "--fast"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--fast" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("python", "there", "absent"),
    [
        ("3.10", {"cuda_python"}, {"cuda_bindings", "onnx"}),  # JetPack 6: 12.6 is one wheel
        ("3.12", {"cuda_python", "cuda_bindings", "onnx"}, set()),  # JetPack 7
    ],
)
def test_wheels_for_a_jetpack_are_all_that_pip_asks_for(
    tmp_path: Path, python: str, there: set[str], absent: set[str]
) -> None:
    try:
        wheels = collect_wheels(tmp_path, Device(python))
    except InputError as error:
        pytest.skip(f"no network: {error.message}")
    names = {path.name.partition("-")[0] for path in wheels}
    assert {"edge_colearn", "numpy", "click", "onnxruntime", "pip"} | there <= names
    assert ({"torch", "nncf"} | absent).isdisjoint(names)
    tags = [path.stem.split("-")[-2:] for path in wheels]
    assert all(platform == "any" or "aarch64" in platform for _, platform in tags)
    assert all(abi in ("none", "abi3", f"cp{python.replace('.', '')}") for abi, _ in tags)
