"""`edge doctor` and `edge devices`."""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from board_trees import build, write
from click.testing import CliRunner, Result

from edge.cli import main
from edge.commands.doctor import as_text
from edge.deploy import doctor
from edge.deploy.doctor import examine


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def installed(monkeypatch: pytest.MonkeyPatch, **packages: str) -> None:
    """Nothing but these packages is installed."""

    def version(name: str) -> str:
        if name in packages:
            return packages[name]
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)


def check(facts: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [entry for entry in facts["checks"] if entry["name"] == name]
    return found


def test_doctor_names_what_is_missing_and_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, numpy="2.0.0")
    result = run("doctor", "--json")
    facts = json.loads(result.stdout)
    assert facts["packages"]["numpy"] == "2.0.0"
    assert facts["packages"]["torch"] is None
    lines = {entry["package"]: entry["install"] for entry in facts["missing"]}
    assert "numpy" not in lines
    assert lines["onnxruntime"] == "pip install 'edge-colearn[cpu]'"
    assert f"missing  torch (train, compress): {lines['torch']}" in run("doctor").stdout


def test_doctor_ends_with_5_where_no_engine_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, numpy="2.0.0")
    assert run("doctor").exit_code == 5
    installed(monkeypatch, numpy="2.0.0", onnxruntime="1.23.2")
    assert run("doctor").exit_code == 0, "a board needs no torch"
    installed(monkeypatch, numpy="2.0.0", **{"onnxruntime-gpu": "1.23.2"})
    assert run("doctor").exit_code == 0, "the same import under another name"
    installed(monkeypatch, numpy="2.0.0", tensorrt="10.3.0")
    assert run("doctor", "--json").exit_code == 0, "one engine is enough"
    installed(monkeypatch, numpy="2.0.0", openvino="2026.4.1")
    assert run("doctor").exit_code == 0


def test_a_board_that_is_ready_has_nothing_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = {"tensorrt": "10.3.0", "cuda-python": "12.6.2", "jsonschema": "4.26.0"}
    installed(monkeypatch, numpy="1.26.4", onnxruntime="1.23.2", **ready)
    root = build(tmp_path, "orin-nano")
    write(root / "sys/class/devfreq/17000000.gpu/min_freq", 1020000000)
    for core in (0, 1):
        write(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_min_freq", 1728000)
    facts = examine(root)
    assert facts["missing"] == []
    assert (facts["exit_code"], facts["target"]) == (0, "jetson-orin-nano")
    assert (facts["l4t"], facts["jetpack"]) == ("36.4.3", "6.2")
    assert facts["flags"] == ["asimd", "asimddp"]
    assert facts["power_modes"] == ["15W", "25W", "MAXN_SUPER", "7W"]
    assert all(entry["ok"] is not False for entry in facts["checks"])
    text = as_text(facts)
    assert "ok  jetpack        L4T 36.4.3 (JetPack 6.2)" in text
    assert "ok  power mode     25W" in text
    assert text.endswith("nothing is missing")


def test_a_bare_jetpack_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, numpy="1.26.4")
    root = build(tmp_path, "thor")  # TensorRT is not in this tree, CUDA is
    facts = examine(root)
    assert facts["exit_code"] == 5
    assert check(facts, "cuda")["value"] == "13.0.48"
    line = "sudo apt-get update && sudo apt-get install -y nvidia-jetpack"
    assert check(facts, "tensorrt")["fix"] == line
    assert {entry["package"]: entry["install"] for entry in facts["missing"]} == {
        "onnxruntime": "pip install 'edge-colearn[cpu]'",
        "tensorrt": line,
        "cuda-python": "pip install 'cuda-python>=13.0,<13.1'",
        "jsonschema": "pip install 'edge-colearn[card]'",
    }
    assert check(facts, "clocks locked")["fix"] == "sudo jetson_clocks"
    assert "better   clocks locked (latency is steadier with locked clocks): sudo jetson_clocks" in as_text(facts)


@pytest.mark.parametrize(("version", "lacks"), [("10.16.2", set()), ("11.4.1", {"onnx"})])
def test_on_a_board_onnx_is_missed_where_tensorrt_wants_fp16_in_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, lacks: set[str]
) -> None:
    ready = {"tensorrt": version, "cuda-python": "13.0.3", "jsonschema": "4.26.0"}
    installed(monkeypatch, numpy="2.0.0", onnxruntime="1.24.0", **ready)
    missing = {entry["package"]: entry["install"] for entry in examine(build(tmp_path, "thor"))["missing"]}
    assert missing == dict.fromkeys(lacks, "pip install 'onnx>=1.19'")


def test_a_virtual_environment_that_hides_tensorrt_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, numpy="1.26.4", onnxruntime="1.23.2")
    facts = examine(build(tmp_path, "orin-nano"))
    assert "--system-site-packages" in {entry["package"]: entry["install"] for entry in facts["missing"]}["tensorrt"]
    found = check(facts, "tensorrt")
    assert found["value"] == "10.3.0.30 of JetPack, not seen by this Python"
    assert found["ok"] is False
    assert "-m venv --system-site-packages" in found["fix"]


def test_a_system_that_is_too_old_ends_with_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, numpy="1.26.4", onnxruntime="1.23.2")
    facts = examine(build(tmp_path, "nano"))
    assert facts["exit_code"] == 4
    assert "Python 3.6" in check(facts, "jetpack")["why"]
    five = examine(build(tmp_path, "xavier-nx"))
    assert five["exit_code"] == 0, "JetPack 5 runs ONNX Runtime under another Python"
    assert "Python 3.8" in check(five, "jetpack")["why"]
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    assert examine(build(tmp_path, "agx-orin"))["exit_code"] == 4


def test_a_small_board_without_swap_and_a_full_disk_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = build(tmp_path, "orin-nano")
    assert check(examine(root), "swap")["ok"] is True
    write(root / "proc/meminfo", "MemTotal: 3600000 kB\nSwapTotal: 0 kB")
    swap = check(examine(root), "swap")
    assert (swap["value"], swap["ok"]) == ("0.0 GiB", False)
    assert "swapon" in swap["fix"]
    assert check(examine(build(tmp_path, "agx-orin")), "swap")["ok"] is None, "it has 64 GB"
    disk = type("Usage", (), {"free": 2**29})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: disk)
    assert check(examine(root), "disk")["ok"] is False


def test_an_unknown_board_and_an_unknown_jetpack_are_said_and_do_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, numpy="1.26.4", onnxruntime="1.23.2", tensorrt="12.0")
    root = build(tmp_path, "thor")
    (root / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson Zephyr\0")
    (root / "proc/device-tree/compatible").write_bytes(b"nvidia,p9999-0000\0")
    write(root / "etc/nv_tegra_release", "# R45 (release), REVISION: 1.0, GCID: 0")
    facts = examine(root)
    assert (facts["target"], facts["jetpack"], facts["exit_code"]) == (None, None, 0)
    assert "newer than what edge was written for" in check(facts, "jetpack")["why"]
    assert "NVIDIA Jetson Zephyr" in as_text(facts)


def test_doctor_on_a_plain_machine_finds_no_board(tmp_path: Path) -> None:
    facts = examine(tmp_path)
    assert (facts["board"], facts["l4t"], facts["jetpack"], facts["flags"]) == (None, None, None, [])
    assert facts["target"] == "cpu"
    assert " -  board" in as_text(facts)
    write(tmp_path / "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06\nGCC 13")
    assert check(examine(tmp_path), "nvidia driver")["value"].endswith("580.65.06")


def test_doctor_says_what_measures_power_here_or_why_nothing_does() -> None:
    power = json.loads(run("doctor", "--json").stdout)["power"]
    assert power["sources"] or power["notes"]
    assert "power    " in run("doctor").stdout


def test_devices_gives_figures_with_their_sources() -> None:
    found = json.loads(run("devices", "--json").stdout)
    boards = {device["target"]: device for device in found["devices"]}
    assert boards["cpu"]["sm"] is None
    assert boards["jetson-orin-nano"]["memory_gb"] == 8
    assert boards["jetson-orin-nano"]["sm"] == "8.7"
    assert boards["jetson-orin-nx"]["dla"] == 2
    assert "DS-10712-001" in boards["jetson-orin-nx"]["sources"]["dla"]
    assert boards["jetson-thor"]["int8_tops"] is None
    assert "int8_tops" not in boards["jetson-thor"]["sources"]


def test_the_table_of_devices_has_a_line_for_each_and_a_dash_for_the_unknown() -> None:
    lines = run("devices").stdout.splitlines()
    rows = {line.split()[0]: line.split() for line in lines[1:] if line.startswith(("cpu ", "jetson"))}
    assert rows["jetson-agx-orin"][:6] == ["jetson-agx-orin", "64", "204.8", "275", "8.7", "2"]
    assert rows["jetson-t4000"][3] == "-"
    assert rows["jetson-thor"][-4:] == ["MAXN", "120W", "90W", "70W"]
