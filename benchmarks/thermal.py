"""Temperatures, clocks, and signs that the machine slowed itself down, from sysfs.

Thermal zones and cooling devices: https://docs.kernel.org/driver-api/thermal/sysfs-api.html. Clocks: cpufreq and
devfreq. Throttling: `thermal_throttle` counters of x86; on Jetson the over-current counters `oc*_event_cnt` and the
`*-throttle-alert` cooling devices (NVIDIA's Jetson Linux Developer Guide, "Platform Power and Performance").
"""

import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from edge.deploy.sysfs import number, text

# The GPU of a Jetson among the devices with a governor: Nano, TX2, Xavier, Orin; Thor.
GPU = re.compile(r"(\d+\.(gpu|gm20b|gp10b|gv11b|ga10b)|gpu-gpc-0)$")
# Cooling devices that take performance away. Fans take none; others (TCC offset) hold a setting, no event.
SLOWING = re.compile(r"cpufreq|devfreq|throttle|^Processor$")
# A processor's own sensor, where no thermal zone has it: Intel, AMD, a Raspberry Pi.
CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
SENSOR_OFF_C = -256.0
# The PMIC's reading is a constant of the device tree on Nano and Xavier, 100 and 50 °C.
NOT_MEASURED = re.compile(r"pmic", re.IGNORECASE)
DROP = 0.9  # of the highest clock, over a second: boost clocks wander by less
WINDOW_S = 1.0


class Sensors:
    """The files of one machine, looked up once, so that reading them is quick."""

    def __init__(self, root: Path = Path("/")) -> None:
        zones = sorted(root.glob("sys/class/thermal/thermal_zone*"), key=_number_in_name)
        zones = zones or sorted(root.glob("sys/devices/virtual/thermal/thermal_zone*"), key=_number_in_name)
        self._temperatures = [(text(zone / "type") or zone.name, zone / "temp") for zone in zones]
        for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
            if (chip := text(folder / "name")) in CHIPS:
                self._temperatures += [(chip, file) for file in sorted(folder.glob("temp*_input"))]
        self._cpus = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
        gpus = [folder for folder in sorted(root.glob("sys/class/devfreq/*")) if GPU.search(folder.name)]
        self._gpu = gpus[0] if gpus else None
        self._counters = [
            *sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")),
            *sorted(root.glob("sys/class/hwmon/hwmon*/oc*_event_cnt")),
        ]
        cooling = sorted(root.glob("sys/class/thermal/cooling_device*"))
        self._cooling = [folder for folder in cooling if SLOWING.search(text(folder / "type"))]

    def temperatures(self) -> dict[str, float]:
        """Degrees Celsius by zone, the highest where zones share a name. A sensor that is off is left out."""
        found: dict[str, float] = {}
        for name, file in self._temperatures:
            value = number(file)
            if value is not None and value / 1e3 > SENSOR_OFF_C:
                found[name] = max(value / 1e3, found.get(name, value / 1e3))
        return found

    def clocks(self) -> dict[str, float]:
        """Megahertz of the fastest core ("cpu") and of the GPU ("gpu"; left out while it has nothing to do)."""
        found = {}
        cores = [value / 1e3 for file in self._cpus if (value := number(file)) is not None]
        if cores:
            found["cpu"] = max(cores)
        if self._gpu is not None and number(self._gpu / "device/load") != 0:
            hertz = number(self._gpu / "cur_freq")
            if hertz:
                found["gpu"] = hertz / 1e6
        return found

    def events(self) -> int | None:
        """How often the machine has throttled itself since it was switched on; None if it keeps no count."""
        counts = [value for file in self._counters if (value := number(file)) is not None]
        return int(sum(counts)) if counts else None

    def slowed_by(self) -> tuple[str, ...] | None:
        """Cooling devices that take performance away at this moment; None if there is none to ask."""
        states = [(folder, number(folder / "cur_state")) for folder in self._cooling]
        known = [(folder, state) for folder, state in states if state is not None]
        return tuple(sorted({text(folder / "type") for folder, state in known if state > 0})) if known else None


def hottest(temperatures: dict[str, float]) -> float | None:
    """The highest temperature that is a measurement."""
    return max((value for name, value in temperatures.items() if not NOT_MEASURED.match(name)), default=None)


def clock_drop(t_s: Sequence[float], megahertz: Sequence[float]) -> tuple[float, float] | None:
    """(from, to) in MHz if the clock fell below 90 % of where it had been, medians over whole seconds; else None."""
    medians = list(_medians(t_s, megahertz))
    best, worst = 0.0, None
    for value in medians:
        if value < DROP * best and (worst is None or value < worst[1]):
            worst = (best, value)
        best = max(best, value)
    return worst


def _medians(t_s: Sequence[float], values: Sequence[float]) -> Iterable[float]:
    if not t_s:
        return
    windows: dict[int, list[float]] = {}
    for t, value in zip(t_s, values, strict=True):
        windows.setdefault(int((t - t_s[0]) / WINDOW_S), []).append(value)
    for window in windows.values():
        yield statistics.median(window)


def _number_in_name(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name) or 0)
