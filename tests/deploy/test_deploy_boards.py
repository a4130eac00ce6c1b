import importlib.util
from pathlib import Path

import pytest
from board_trees import TREES, build, program, write

from edge.deploy.boards import clocks_locked, power_mode, power_modes, read_board

SHARED = Path(__file__).parents[3] / "shared/device/fixtures/make_sysfs.py"


@pytest.mark.parametrize(
    ("name", "target", "by", "l4t", "jetpack", "mode"),
    [
        ("nano", "jetson-nano", "part number", "32.7.4", "4.6.x", "MAXN"),
        ("xavier-nx", "jetson-xavier-nx", "part number", "35.4.1", "5.1.x", "MODE_15W_6CORE"),
        ("agx-xavier", "jetson-agx-xavier", "part number", "35.2.1", "5.1.x", "MODE_10W"),
        ("orin-nano", "jetson-orin-nano", "part number", "36.4.3", "6.2", "25W"),
        ("orin-nx", "jetson-orin-nx", "memory", "35.3.1", "5.1.x", "25W"),
        ("agx-orin", "jetson-agx-orin", "part number", "39.2.0", "7.2", "30W"),
        ("thor", "jetson-thor", "part number", "38.4.0", "7.1", "120W"),
    ],
)
def test_a_board_is_recognised_with_its_jetpack_and_power_mode(
    tmp_path: Path, name: str, target: str, by: str, l4t: str, jetpack: str, mode: str
) -> None:
    board = read_board(build(tmp_path, name))
    assert board is not None
    assert board.model == TREES[name].model
    assert (board.target, board.recognised_by) == (target, by)
    assert (board.l4t, board.jetpack, board.power_mode) == (l4t, jetpack, mode)
    assert list(board.power_modes) == list(TREES[name].modes)


@pytest.mark.parametrize(
    ("memory_kb", "compatible", "target", "by"),
    [
        (3600000, b"", "jetson-orin-nano-4gb", "memory"),
        (7802880, b"nvidia,tegra234\0", "jetson-orin-nano", "memory"),
        (7802880, b"nvidia,p3767-0004\0", "jetson-orin-nano-4gb", "part number"),
        (0, b"nvidia,p3767-0003\0nvidia,p3767-0004\0", "jetson-orin-nano", "name"),
    ],
)
def test_memory_decides_where_the_part_number_does_not(
    tmp_path: Path, memory_kb: int, compatible: bytes, target: str, by: str
) -> None:
    root = build(tmp_path, "orin-nano")
    write(root / "proc/meminfo", f"MemTotal: {memory_kb} kB" if memory_kb else "")
    (root / "proc/device-tree/compatible").write_bytes(compatible)
    board = read_board(root)
    assert board is not None
    assert (board.target, board.recognised_by) == (target, by)


def test_software_versions_are_those_of_the_system(tmp_path: Path) -> None:
    board = read_board(build(tmp_path, "orin-nano"))
    assert board is not None
    assert (board.cuda, board.tensorrt) == ("12.6.68", "10.3.0.30")
    root = build(tmp_path, "xavier-nx")
    (root / "usr/local/cuda/version.json").unlink()
    write(root / "usr/local/cuda/version.txt", "CUDA Version 10.2.300")
    status = root / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("install ok installed", "deinstall ok config-files"))
    board = read_board(root)
    assert board is not None
    assert (board.cuda, board.tensorrt) == ("10.2.300", None)


def test_a_file_of_cuda_that_says_nothing_is_no_version(tmp_path: Path) -> None:
    root = build(tmp_path, "orin-nano")
    write(root / "usr/local/cuda/version.json", "[1, 2")
    board = read_board(root)
    assert board is not None
    assert board.cuda is None


def test_a_board_that_we_do_not_know_is_a_board_all_the_same(tmp_path: Path) -> None:
    root = build(tmp_path, "thor")
    (root / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson Zephyr\0")
    (root / "proc/device-tree/compatible").write_bytes(b"nvidia,p9999-0000\0")
    write(root / "etc/nv_tegra_release", "# R45 (release), REVISION: 1.0, GCID: 0")
    board = read_board(root)
    assert board is not None
    assert (board.target, board.recognised_by, board.l4t, board.jetpack) == (None, None, "45.1.0", None)


def test_a_plain_machine_is_no_board(tmp_path: Path) -> None:
    assert read_board(tmp_path) is None
    write(tmp_path / "proc/device-tree/model", "Raspberry Pi 5 Model B")
    assert read_board(tmp_path) is None


def test_without_nvpmodel_the_mode_is_read_from_its_state(tmp_path: Path) -> None:
    root = build(tmp_path, "orin-nano")
    (root / "usr/sbin/nvpmodel").unlink()
    assert power_mode(root) == "25W"
    (root / "var/lib/nvpmodel/status").unlink()
    assert power_mode(root) is None


def test_an_nvpmodel_that_fails_is_no_mode(tmp_path: Path) -> None:
    program(tmp_path, "nvpmodel", "#!/bin/sh\necho 'NVPM ERROR: cannot open' >&2; exit 1\n")
    assert power_mode(tmp_path) is None
    assert power_modes(tmp_path) == {}


def test_clocks_are_locked_when_the_lowest_is_the_highest_everywhere(tmp_path: Path) -> None:
    root = build(tmp_path, "orin-nano")
    assert clocks_locked(root) is False
    write(root / "sys/class/devfreq/17000000.gpu/min_freq", 1020000000)
    assert clocks_locked(root) is False, "the processor's are free"
    for core in (0, 1):
        write(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_min_freq", 1728000)
    assert clocks_locked(root) is True
    assert clocks_locked(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("kind", "target", "jetpack", "mode"),
    [
        ("orin_nano_jp6", "jetson-orin-nano", "6.2", "15W"),
        ("agx_orin_jp6", "jetson-agx-orin", "6.2.1", "MAXN"),
        ("thor_jp7", "jetson-thor", "7.1", "120W"),
        ("nano_jp4", "jetson-nano", "4.6.x", "MAXN"),
    ],
)
def test_the_shared_trees_are_recognised_too(tmp_path: Path, kind: str, target: str, jetpack: str, mode: str) -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")
    spec = importlib.util.spec_from_file_location("make_sysfs", SHARED)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build(tmp_path, kind)
    board = read_board(tmp_path)
    assert board is not None
    assert (board.target, board.jetpack, board.power_mode, board.clocks_locked) == (target, jetpack, mode, False)
