"""Lines in the forms that boards print (tests/board_trees.py says where they come from), with values of our own."""

import json
from pathlib import Path

import pytest

from edge.benchmarks.tegrastats import parse

SHARED = Path(__file__).parents[3] / "shared/device/fixtures/tegrastats.json"
NANO_JP4 = (
    "RAM 900/3964MB (lfb 300x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [10%@102,off,6%@204,3%@518] "
    "EMC_FREQ 5%@204 GR3D_FREQ 12%@76 APE 25 PLL@25C CPU@29.5C PMIC@100C GPU@27C AO@34C thermal@28C "
    "POM_5V_IN 1500/1400 POM_5V_GPU 0/20 POM_5V_CPU 200/201"
)
XAVIER_JP4 = "RAM 1/2MB GR3D_FREQ 0%@318 AO@38C GPU@39.5C GPU 120/100 CPU 468/450 SOC 937/900 CV 0/0 VDDRQ 312/234 SYS5V 1458/1400"  # noqa: E501
XAVIER_NX_JP5 = (
    "02-03-2025 13:31:31 RAM 3000/6851MB (lfb 2x4MB) SWAP 161/3426MB (cached 0MB) CPU [23%@1397,17%@1192] "
    "EMC_FREQ 2%@204 GR3D_FREQ 40%@[114] VIC_FREQ 115 APE 150 AUX@45C CPU@46.5C VDD_IN 2700mW/2800mW "
    "VDD_CPU_GPU_CV 650mW/670mW VDD_SOC 610mW/711mW"
)
AGX_ORIN_JP5 = (
    "GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C CPU@44.5C GPU@-256C tj@44.25C VDD_GPU_SOC 2300mW/2300mW "
    "VDD_CPU_CV 400mW/400mW VIN_SYS_5V0 4000mW/4000mW NC 0mW/0mW VDDQ_VDD2_1V8AO 300mW/300mW NC 0mW/0mW"
)
ORIN_JP6 = (
    "RAM 1/2MB EMC_FREQ 61%@2133 GR3D_FREQ 99%@[1300,1020] NVENC 79%@166 NVDEC off NVJPG off VIC 36%@115 OFA off "
    "PVA0_FREQ off APE 200 cpu@57.125C tj@58.25C VDD_IN 16000mW/11204mW VDD_SOC 3120mW/3659mW"
)
THOR_JP7 = (
    "RAM 8353/125749MB CPU [90%@2601,off] EMC_FREQ 34%@4266 GR3D_FREQ @[1574,1574,1575] NVENC0_FREQ @1691 VIC off "
    "cpu@58.25C/61.75C tj@66.5C/66.5C VDD_GPU -392mW/8660mW/37939mW VIN 124486mW/36487mW/124486mW"
)


@pytest.mark.parametrize(
    ("line", "power"),
    [
        (NANO_JP4, {"POM_5V_IN": 1.5, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.2}),
        (XAVIER_JP4, {"GPU": 0.12, "CPU": 0.468, "SOC": 0.937, "CV": 0.0, "VDDRQ": 0.312, "SYS5V": 1.458}),
        (XAVIER_NX_JP5, {"VDD_IN": 2.7, "VDD_CPU_GPU_CV": 0.65, "VDD_SOC": 0.61}),
        (AGX_ORIN_JP5, {"VDD_GPU_SOC": 2.3, "VDD_CPU_CV": 0.4, "VIN_SYS_5V0": 4.0, "VDDQ_VDD2_1V8AO": 0.3}),
        (ORIN_JP6, {"VDD_IN": 16.0, "VDD_SOC": 3.12}),
        (THOR_JP7, {"VDD_GPU": -0.392, "VIN": 124.486}),
    ],
)
def test_power_is_the_first_figure_of_each_rail_in_watts(line: str, power: dict[str, float]) -> None:
    assert parse(line).power_w == pytest.approx(power)


@pytest.mark.parametrize(
    ("line", "temperatures"),
    [
        (NANO_JP4, {"PLL": 25, "CPU": 29.5, "PMIC": 100, "GPU": 27, "AO": 34, "thermal": 28}),
        (AGX_ORIN_JP5, {"CPU": 44.5, "tj": 44.25}),
        (THOR_JP7, {"cpu": 58.25, "tj": 66.5}),
    ],
)
def test_sensors_that_are_off_have_no_temperature(line: str, temperatures: dict[str, float]) -> None:
    assert parse(line).temperature_c == temperatures


@pytest.mark.parametrize(
    ("line", "load", "mhz"),
    [
        (NANO_JP4, 0.12, 76),
        (XAVIER_NX_JP5, 0.4, 114),
        (AGX_ORIN_JP5, 0.0, None),
        (ORIN_JP6, 0.99, 1300),
        (THOR_JP7, None, 1575),
        ("GR3D_FREQ 7% VIC_FREQ 115", 0.07, None),
        ("GR3D_FREQ off", None, None),
    ],
)
def test_load_and_clock_of_the_gpu_come_in_many_forms(line: str, load: float | None, mhz: float | None) -> None:
    assert (parse(line).gpu_load, parse(line).gpu_mhz) == (load, mhz)


@pytest.mark.parametrize("line", ["", "tegrastats: permission denied", "VDD_IN", "VDD_IN 12", "RAM 5/6MB SWAP 0/1MB"])
def test_a_line_of_something_else_holds_nothing(line: str) -> None:
    found = parse(line)
    assert (found.power_w, found.temperature_c, found.gpu_load, found.gpu_mhz) == ({}, {}, None, None)


def test_recorded_lines_give_the_power_of_the_board() -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")
    lines = {entry["id"]: parse(entry["line"]) for entry in json.loads(SHARED.read_text())}
    assert lines["nano_jp4_shape"].power_w["POM_5V_IN"] == 1.532
    assert lines["xavier_nx_jp5.1.2"].power_w["VDD_IN"] == 2.763
    assert set(lines["agx_orin_jp5"].power_w) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    assert "CV0" not in lines["agx_orin_jp5"].temperature_c
    assert lines["orin_nano_super_jp6.2_busy"].gpu_mhz == 612
    assert lines["thor_jp7.0_negative"].power_w["VDD_GPU"] == -0.392
    assert lines["thor_r39_busy"].power_w["VIN"] == 124.486
    assert lines["thor_r39_idle"].gpu_load is None
