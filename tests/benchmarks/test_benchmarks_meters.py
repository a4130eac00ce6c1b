import importlib.util
import sys
from pathlib import Path

import fake_nvml
import pytest
from board_trees import build, program, write

from edge.benchmarks.meters import board_rails, find_meters
from edge.benchmarks.nvml import open_card

SHARED = Path(__file__).parents[3] / "shared/device/fixtures/make_sysfs.py"
LINE = "RAM 1/2MB GR3D_FREQ 0%@76 POM_5V_IN 1500/1400 POM_5V_GPU 0/20 POM_5V_CPU 200/201"


@pytest.fixture(autouse=True)
def _no_real_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


def rapl(root: Path, zone: str, name: str, microjoules: int, limit: int = 262143328850) -> Path:
    folder = root / "sys/class/powercap" / zone
    write(folder / "name", name)
    write(folder / "energy_uj", microjoules)
    write(folder / "max_energy_range_uj", limit)
    return folder / "energy_uj"


@pytest.mark.parametrize(
    ("name", "source", "watts"),
    [
        ("xavier-nx", "ina3221:VDD_IN", 3.0),
        ("agx-xavier", "ina3221:GPU+CPU+SOC+CV+VDDRQ+SYS5V", 0.19 + 0.38 + 0.95 + 0 + 0.38 + 2.0),
        ("orin-nano", "ina3221:VDD_IN", 5.0),
        ("orin-nx", "ina3221:VDD_IN", 4.9),
        ("agx-orin", "ina3221:VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0", 2.0 + 1.0 + 5.0),
        ("thor", "ina238:VIN", 30.5),
    ],
)
def test_the_power_of_the_whole_module_is_read_on_each_board(
    tmp_path: Path, name: str, source: str, watts: float
) -> None:
    found = find_meters(build(tmp_path, name))
    assert [meter.source for meter in found.meters] == [source]
    assert found.meters[0].read() == pytest.approx(watts)
    assert not found.meters[0].counts


def test_the_sensor_of_a_board_is_not_added_to_another(tmp_path: Path) -> None:
    root = build(tmp_path, "orin-nano")
    rapl(root, "intel-rapl:0", "package-0", 1)
    assert [meter.source for meter in find_meters(root).meters] == ["ina3221:VDD_IN"]


def test_a_rail_that_fails_gives_no_reading_instead_of_a_part_of_the_power(tmp_path: Path) -> None:
    root = build(tmp_path, "agx-orin")
    (meter,) = find_meters(root).meters
    (root / "sys/bus/i2c/devices/1-0040/hwmon/hwmon3/curr2_input").unlink()
    assert meter.read() is None


def test_a_sensor_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = build(tmp_path, "orin-nano")
    write(root / "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/curr1_input", "")
    found = find_meters(root)
    assert found.meters == []
    assert found.notes == ["ina3221:VDD_IN is there but cannot be read"]


def test_rails_of_an_unknown_board_are_named_and_not_guessed(tmp_path: Path) -> None:
    write(tmp_path / "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/name", "ina3221")
    for file, value in {"in1_label": "VDD_MOTOR", "in1_input": 5000, "curr1_input": 10}.items():
        write(tmp_path / "sys/bus/i2c/devices/1-0040/hwmon/hwmon1" / file, value)
    found = find_meters(tmp_path)
    assert found.meters == []
    assert "VDD_MOTOR are not of a board that we know" in found.notes[0]


def test_rails_are_chosen_by_board() -> None:
    assert board_rails(["VDD_SOC", "VDD_IN"]) == ("VDD_IN",)
    assert board_rails(["VDD_GPU", "VIN_SYS_5V0", "VIN"]) == ("VIN",)
    assert board_rails(["VDD_CPU_CV", "VDD_GPU_SOC", "VIN_SYS_5V0"]) == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    assert board_rails(["VDD_CPU_CV", "VIN_SYS_5V0"]) == ()


def test_tegrastats_is_the_fallback_and_is_stopped_afterwards(tmp_path: Path) -> None:
    root = build(tmp_path, "nano")  # JetPack 4 keeps its rails elsewhere
    program(
        root,
        "tegrastats",
        f'#!/bin/sh\necho "$$" > {root}/pid\necho "{LINE}"\nsleep 0.3\necho "{LINE}"\nexec sleep 60\n',
    )
    (meter,) = find_meters(root).meters
    assert meter.source == "tegrastats:POM_5V_IN"
    assert meter.read() == 1.5
    assert meter.read() is None, "the same line is not two readings"
    meter.close()
    process = Path("/proc") / (root / "pid").read_text().strip()
    assert not process.exists()


def test_a_tegrastats_without_power_is_no_meter(tmp_path: Path) -> None:
    program(tmp_path, "tegrastats", "#!/bin/sh\necho 'RAM 1/2MB CPU [1%@102]'\n")
    found = find_meters(tmp_path)
    assert found.meters == []
    assert found.notes == ["no power sensor was found: neither INA3221 or INA238, tegrastats, RAPL, nor NVML"]


def test_packages_are_counted_and_their_parts_are_not_counted_again(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    rapl(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    rapl(tmp_path, "intel-rapl:0:0", "core", 1_000_000)
    rapl(tmp_path, "intel-rapl-mmio:0", "package-0", 9_000_000)
    found = find_meters(tmp_path)
    assert [(meter.source, meter.read()) for meter in found.meters] == [
        ("rapl:package-0", 5.0),
        ("rapl:package-1", 7.0),
    ]
    assert all(meter.counts and meter.wraps_at_j == pytest.approx(262143.32885) for meter in found.meters)
    assert "processor package alone" in found.notes[0]


def test_a_counter_for_root_only_is_said_with_the_line_that_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = rapl(tmp_path, "intel-rapl:0", "package-0", 5)
    read = Path.read_text

    def refuse(path: Path, *given: str, **named: str) -> str:
        if path == counter:  # tests may run as root, whom no mode keeps out
            raise PermissionError(13, "Permission denied")
        return read(path, *given, **named)

    monkeypatch.setattr(Path, "read_text", refuse)
    found = find_meters(tmp_path)
    assert found.meters == []
    assert "sudo chmod a+r /sys/class/powercap/*/energy_uj" in found.notes[0]


def test_the_card_is_read_by_its_counter_or_else_its_power(monkeypatch: pytest.MonkeyPatch) -> None:
    for readings, counts, value in (
        ({"millijoules": 2500, "milliwatts": 9}, True, 2.5),
        ({"milliwatts": 70500}, False, 70.5),
    ):
        module = fake_nvml.make(**readings)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        (meter,) = [meter for meter in find_meters().meters if meter.source == "nvml"]
        assert (meter.counts, meter.read()) == (counts, value)
        meter.close()
        assert module.opened == 0


def test_a_card_says_what_slows_it_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml.make(reasons=0x44, megahertz=1200, celsius=81))
    card = open_card([])
    assert card is not None
    assert card.slowed_by() == ("software power cap", "hardware thermal slowdown")
    assert (card.megahertz(), card.celsius(), card.watts()) == (1200.0, 81.0, None)
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml.make(reasons=0x01, megahertz=210))
    idle = open_card([])
    assert idle is not None
    assert (idle.slowed_by(), idle.megahertz()) == ((), None)


def test_the_card_that_cuda_sees_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml.make(count=4))
    for visible, handle in (("2,3", ("index", 2)), ("GPU-8a7b", ("uuid", "GPU-8a7b")), ("", ("index", 0))):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        notes: list[str] = []
        card = open_card(notes)
        assert card is not None
        assert card._handle == handle
        assert bool(notes) is (handle[0] == "index")


def test_a_driver_without_the_python_package_is_said(tmp_path: Path) -> None:
    notes: list[str] = []
    assert open_card(notes, tmp_path) is None
    assert notes == []
    write(tmp_path / "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65")
    assert open_card(notes, tmp_path) is None
    assert notes == ["the NVIDIA card's power needs NVML: pip install nvidia-ml-py"]


@pytest.mark.parametrize(
    ("kind", "source", "watts"),
    [
        ("orin_nano_jp6", "ina3221:VDD_IN", 5.25),
        ("agx_orin_jp6", "ina3221:VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0", 8.7216),
        ("thor_jp7", "ina238:VIN", 15.004),
    ],
)
def test_the_shared_trees_give_their_power(tmp_path: Path, kind: str, source: str, watts: float) -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")
    spec = importlib.util.spec_from_file_location("make_sysfs", SHARED)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build(tmp_path, kind)
    (meter,) = find_meters(tmp_path).meters
    assert (meter.source, meter.read()) == (source, pytest.approx(watts))
