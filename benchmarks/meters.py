"""What measures power on this machine: a Jetson's INA sensors, tegrastats, RAPL of x86 processors, NVML of NVIDIA GPUs.

A meter gives watts at a moment, or joules counted so far, which are better: nothing is lost between two readings. The
sensors of a board see the whole module, so nothing is added to them. RAPL sees the processor package and NVML the
card, so they are added up; memory, disks and the power supply's losses are seen by neither.

Sources: INA3221 on Jetson and the rails of each board: NVIDIA's Jetson Linux Developer Guide, "Platform Power and
Performance" (https://docs.nvidia.com/jetson/archives/r36.4.4/DeveloperGuide/SD/PlatformPowerAndPerformance.html);
hwmon's files and units: https://docs.kernel.org/hwmon/sysfs-interface.html; RAPL:
https://docs.kernel.org/power/powercap/powercap.html.
"""

import re
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge.benchmarks import nvml, tegrastats
from edge.deploy.sysfs import executable, text

# Rails that carry the whole module; where a board has none, the rails that make it up (each of them if it is there).
WHOLE = ("VDD_IN", "VIN", "POM_5V_IN")
PARTS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin; VDDQ_VDD2_1V8AO, the memory's, hangs on VIN_SYS_5V0
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
NO_RAIL = ("", "NC", "sum of shunt voltages")
TEGRASTATS_MS = 100


@dataclass(frozen=True)
class Meter:
    """`read()` gives watts, or joules so far if `counts`; None if there is no (new) reading. A counter starts again at
    0 after `wraps_at_j` joules.
    """

    source: str
    read: Callable[[], float | None]
    counts: bool = False
    wraps_at_j: float | None = None
    close: Callable[[], None] = lambda: None


@dataclass
class Found:
    """Meters whose readings are added up, and sentences about what could not be read."""

    meters: list[Meter] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_meters(root: Path = Path("/")) -> Found:
    """The meters of the machine whose file tree is at `root`; `close()` each of them."""
    found = Found()
    if (board := board_meter(root, found.notes)) or (board := tegrastats_meter(root)):
        found.meters.append(board)
        return found
    found.meters += rapl_meters(root, found.notes)
    if root == Path("/"):  # the driver is asked, not a file
        found.meters += nvml_meters(found.notes)
    if not found.meters and not found.notes:
        found.notes.append("no power sensor was found: neither INA3221 or INA238, tegrastats, RAPL, nor NVML")
    return found


def board_rails(names: Collection[str]) -> tuple[str, ...]:
    """Those of the rails whose sum is the power of the module; none if we do not know the board."""
    for name in WHOLE:
        if name in names:
            return (name,)
    for parts in PARTS:
        if set(parts[:3]) <= set(names):
            return tuple(part for part in parts if part in names)
    return ()


def board_meter(root: Path, notes: list[str]) -> Meter | None:
    """INA3221 and INA238 sensors (JetPack 5, 6 and 7); bus and hwmon numbers differ by board and boot."""
    rails: dict[str, Callable[[], float]] = {}
    chips = {}
    for folder in sorted(root.glob("sys/bus/i2c/devices/*/hwmon/hwmon*")):
        chip = text(folder / "name")
        if chip.startswith("ina"):
            for name, read in _rails(folder).items():
                rails[name], chips[name] = read, chip
    chosen = board_rails(rails)
    if rails and not chosen:
        notes.append(f"the rails {', '.join(sorted(rails))} are not of a board that we know; power was not read")
    if not chosen:
        return None
    meter = Meter(f"{chips[chosen[0]]}:{'+'.join(chosen)}", _sum_or_none([rails[name] for name in chosen]))
    if meter.read() is None:
        notes.append(f"{meter.source} is there but cannot be read")
        return None
    return meter


def tegrastats_meter(root: Path) -> Meter | None:
    """The fallback: NVIDIA's tool, where it is installed and prints a rail that we know within two seconds."""
    program = executable("tegrastats", root)
    if program is None:
        return None
    process = subprocess.Popen(
        [program, "--interval", str(TEGRASTATS_MS)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    latest: list[Mapping[str, float]] = []
    first = threading.Event()

    def follow() -> None:
        for line in process.stdout or ():
            latest[:] = [tegrastats.parse(line).power_w]
            first.set()
        first.set()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()

    def close() -> None:
        process.terminate()
        process.wait(timeout=10)
        follower.join(timeout=10)
        if process.stdout:
            process.stdout.close()

    first.wait(2.0)
    chosen = board_rails(latest[0]) if latest else ()
    if not chosen:
        close()
        return None

    def read() -> float | None:
        try:
            power = latest.pop()
        except IndexError:
            return None  # no new line since
        return sum(power[name] for name in chosen) if set(chosen) <= set(power) else None

    return Meter(f"tegrastats:{'+'.join(chosen)}", read, close=close)


def rapl_meters(root: Path, notes: list[str]) -> list[Meter]:
    """Energy counters of the processor packages (Intel, and AMD since Linux 5.8)."""
    meters = []
    for zone in sorted(root.glob("sys/class/powercap/intel-rapl:*")):
        name = text(zone / "name")
        if not name.startswith("package"):
            continue  # cores and memory are inside a package or not to be had everywhere
        counter, limit = zone / "energy_uj", text(zone / "max_energy_range_uj")
        try:
            counter.read_text(encoding="ascii")
        except PermissionError:
            # Readable by root alone since CVE-2020-8694, an attack that reads secrets out of the counter.
            notes.append(
                f"{counter} may be read by root only; for this boot: sudo chmod a+r /sys/class/powercap/*/energy_uj"
            )
            return []
        except OSError as error:
            notes.append(f"{counter} cannot be read: {error.strerror}")
            continue
        wraps_at = int(limit) / 1e6 if limit.isdecimal() else None
        meters.append(Meter(f"rapl:{name}", _sum_or_none([_joules(counter)]), counts=True, wraps_at_j=wraps_at))
    if meters:
        notes.append("RAPL is the processor package alone: without disks, network and the power supply's losses")
    return meters


def nvml_meters(notes: list[str]) -> list[Meter]:
    """The NVIDIA card that CUDA uses; its energy counter (Volta and newer), or else its power."""
    card = nvml.open_card(notes)
    if card is None:
        return []
    if card.joules() is not None:
        return [Meter("nvml", card.joules, counts=True, close=card.close)]
    if card.watts() is not None:
        return [Meter("nvml", card.watts, close=card.close)]
    notes.append("NVML does not give the power of this card")
    card.close()
    return []


def _rails(folder: Path) -> dict[str, Callable[[], float]]:
    """Rails of one chip in watts: a power in microwatts, or a voltage in millivolts times a current in milliamperes."""
    rails: dict[str, Callable[[], float]] = {}
    if (label := text(folder / "label")) and (folder / "power1_input").exists():
        rails[label] = lambda: _read(folder / "power1_input") / 1e6
    for file in sorted(folder.glob("in*_label")):
        label, number = text(file), re.sub(r"\D", "", file.name)
        voltage, current = folder / f"in{number}_input", folder / f"curr{number}_input"
        if label not in NO_RAIL and current.exists():
            rails[label] = _product(voltage, current)
    return rails


def _product(voltage: Path, current: Path) -> Callable[[], float]:
    return lambda: _read(voltage) * _read(current) / 1e6


def _joules(counter: Path) -> Callable[[], float]:
    return lambda: _read(counter) / 1e6


def _sum_or_none(reads: Collection[Callable[[], float]]) -> Callable[[], float | None]:
    """The sum of all readings, or None if one of them fails: a part of the power would be taken for all of it."""

    def read() -> float | None:
        try:
            return sum(one() for one in reads)
        except (OSError, ValueError):
            return None

    return read


def _read(path: Path) -> float:
    return float(path.read_text(encoding="ascii"))
