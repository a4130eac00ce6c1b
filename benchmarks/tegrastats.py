"""The line that NVIDIA's `tegrastats` prints, of JetPack 4 to 7.

https://docs.nvidia.com/jetson/archives/r36.4/DeveloperGuide/AT/JetsonLinuxDevelopmentTools/TegrastatsUtility.html
The forms differ: power is `POM_5V_IN 933/933` (mW, now/average) up to JetPack 4, `VDD_IN 2763mW/2846mW` from 5 on, and
has the maximum as a third figure on Thor; it may be negative. A temperature of -256 is a sensor that is off. The load
of the GPU stands alone, with a clock, or with one clock per cluster. Rails without a connection are called NC.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_POWER = re.compile(r"(?<![\w@%])([A-Z][A-Z0-9_]*) (-?\d+)(?:mW)?/-?\d+(?:mW)?(?:/-?\d+mW)?(?= |$)")
_TEMPERATURE = re.compile(r"(\w+)@(-?\d+(?:\.\d+)?)C(?=[/ ]|$)")
_GPU = re.compile(r"GR3D_FREQ (?:(\d+)%)?(?:@\[?(\d+(?:,\d+)*)\]?)?")
SENSOR_OFF_C = -256.0


@dataclass(frozen=True)
class Line:
    """One line: `power_w` by rail, `temperature_c` by zone, the GPU's load (0..1) and clock.

    The clock is that of the fastest cluster, and None where the GPU is off.
    """

    power_w: Mapping[str, float]
    temperature_c: Mapping[str, float]
    gpu_load: float | None
    gpu_mhz: float | None


def parse(line: str) -> Line:
    """Read one line; what it does not say is left out or None. A line of something else gives empty mappings."""
    gpu = _GPU.search(line)
    load, clocks = gpu.groups() if gpu else (None, None)
    temperatures = {name: float(value) for name, value in _TEMPERATURE.findall(line)}
    return Line(
        {name: int(milliwatts) / 1e3 for name, milliwatts in _POWER.findall(line) if name != "NC"},
        {name: value for name, value in temperatures.items() if value > SENSOR_OFF_C},
        int(load) / 100 if load else None,
        max(float(mhz) for mhz in clocks.split(",")) or None if clocks else None,
    )
