from pathlib import Path

import pytest
from board_trees import build, write

from edge.benchmarks.thermal import Sensors, clock_drop, hottest


def test_temperatures_are_those_of_the_zones_that_are_on(tmp_path: Path) -> None:
    assert Sensors(build(tmp_path, "orin-nano")).temperatures() == {
        "cpu-thermal": 48.0, "gpu-thermal": 49.0, "tj-thermal": 49.0,
    }  # fmt: skip
    assert Sensors(build(tmp_path, "orin-nx")).temperatures() == {"tj-therm": 45.5}, "-256 is a sensor that is off"


def test_the_constant_of_the_pmic_is_not_the_hottest() -> None:
    assert hottest({"PMIC-Die": 100.0, "CPU-therm": 42.0}) == 42.0
    assert hottest({}) is None


def test_a_processor_without_zones_is_read_through_its_own_sensor(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/hwmon/hwmon2"
    for name, value in {"name": "k10temp", "temp1_input": 61500, "temp3_input": 58000}.items():
        write(folder / name, value)
    write(tmp_path / "sys/class/hwmon/hwmon3/name", "nvme")
    write(tmp_path / "sys/class/hwmon/hwmon3/temp1_input", 80000)
    assert Sensors(tmp_path).temperatures() == {"k10temp": 61.5}


@pytest.mark.parametrize("name", ["nano", "xavier-nx", "orin-nano", "thor"])
def test_clocks_are_those_of_the_fastest_core_and_of_a_busy_gpu(tmp_path: Path, name: str) -> None:
    root = build(tmp_path, name)
    write(root / "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", 1510400)
    assert Sensors(root).clocks() == {"cpu": 1510.4, "gpu": 612.0}
    (load,) = root.glob("sys/class/devfreq/*/device/load")
    write(load, 0)
    assert Sensors(root).clocks() == {"cpu": 1510.4}, "an idle GPU's clock says nothing"


def test_cooling_devices_that_slow_down_are_named_and_fans_are_not(tmp_path: Path) -> None:
    root = build(tmp_path, "orin-nano")
    assert Sensors(root).slowed_by() == ()
    write(root / "sys/class/thermal/cooling_device2/cur_state", 2)
    assert Sensors(root).slowed_by() == ("gpu-throttle-alert",)
    assert Sensors(tmp_path / "nowhere").slowed_by() is None


def test_throttling_is_counted_on_jetson_and_x86(tmp_path: Path) -> None:
    root = build(tmp_path, "orin-nano")
    assert Sensors(root).events() == 0
    write(root / "sys/class/hwmon/hwmon0/oc3_event_cnt", 7)
    assert Sensors(root).events() == 7
    write(tmp_path / "pc/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", 3)
    assert Sensors(tmp_path / "pc").events() == 3
    assert Sensors(tmp_path / "nowhere").events() is None


@pytest.mark.parametrize(
    ("clocks", "drop"),
    [
        ([1020.0] * 8, None),
        ([1020, 1020, 1020, 1020, 612, 612, 612, 612], (1020, 612)),
        ([306, 306, 1020, 1020, 1020, 1020, 1020, 1020], None),  # it sped up
        ([1000, 1000, 950, 950, 960, 960, 955, 955], None),  # a boost clock wanders
        ([1000, 1000, 1000, 1000, 500, 1000, 1000, 1000], (1000, 750)),  # for half a second of a whole one
        ([1000, 1000, 700, 700, 500, 500, 1100, 1100], (1000, 500)),  # the deepest is told
        ([], None),
    ],
)
def test_a_clock_that_falls_by_a_tenth_for_a_second_is_a_drop(
    clocks: list[float], drop: tuple[float, float] | None
) -> None:
    assert clock_drop([i / 2 for i in range(len(clocks))], clocks) == drop
