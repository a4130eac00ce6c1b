"""Which board this is, and how it is set up: read from /proc, /sys, /etc and nvpmodel, under a root.

`/proc/device-tree/compatible` holds the module's part number ("nvidia,p3768-0000+p3767-0005"), which tells the
memory sizes of a family apart; where it names several or none, the model's name and the memory decide.
"""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edge.deploy.devices import DEVICES, Device, jetpack_of, l4t_release
from edge.deploy.sysfs import executable, number, text

_MODULE = re.compile(r"p(?:2888|3448|3668|3701|3767|3834)-\d{4}")
_POWER_MODE = re.compile(r"^NV Power Mode: *(\S.*?)\s*$", re.MULTILINE)
_POWER_MODELS = re.compile(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", re.MULTILINE)
# The memory that a board shows is its size less what the firmware keeps, at most a fifth (Orin Nano 4 GB: 3.4).
_KEPT = 0.8


@dataclass(frozen=True)
class Board:
    """An NVIDIA board. None means that the machine does not say, or that we do not know it."""

    model: str
    target: str | None  # a name of edge.deploy.devices
    recognised_by: str | None  # "part number", "memory" or "name"
    l4t: str | None
    jetpack: str | None
    power_mode: str | None
    power_modes: dict[str, int]  # names and numbers in /etc/nvpmodel.conf, which are this board's own
    clocks_locked: bool | None
    cuda: str | None
    tensorrt: str | None  # the library of the system, whether or not this Python sees it


def read_board(root: Path = Path("/")) -> Board | None:
    """The board whose file tree is at `root`; None for a machine that is no NVIDIA board."""
    model = text(root / "proc/device-tree/model")
    l4t = l4t_release(root)
    if not l4t and "nvidia" not in text(root / "proc/device-tree/compatible") and "Jetson" not in model:
        return None
    device, how = _recognise(root, model)
    jetpack = jetpack_of(l4t) if l4t else None
    return Board(
        model=model or "unnamed",
        target=device.target if device else None,
        recognised_by=how,
        l4t=l4t,
        jetpack=jetpack.version if jetpack else None,
        power_mode=power_mode(root),
        power_modes=power_modes(root),
        clocks_locked=clocks_locked(root),
        cuda=cuda_version(root),
        tensorrt=tensorrt_version(root),
    )


def power_mode(root: Path = Path("/")) -> str | None:
    """The NAME of the power mode: from `nvpmodel -q`, or without it from the state that nvpmodel keeps."""
    program = executable("nvpmodel", root)
    if program is not None:
        try:
            asked = subprocess.run([program, "-q"], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            asked = None
        if asked and (found := _POWER_MODE.search(asked.stdout)):
            return found[1]
    state = re.search(r"pmode:(\d+)", text(root / "var/lib/nvpmodel/status"))
    names = {identity: name for name, identity in power_modes(root).items()}
    return names.get(int(state[1])) if state else None


def power_modes(root: Path = Path("/")) -> dict[str, int]:
    """Name -> number of each power mode in /etc/nvpmodel.conf; empty where there is none."""
    return {name: int(identity) for identity, name in _POWER_MODELS.findall(text(root / "etc/nvpmodel.conf"))}


def clocks_locked(root: Path = Path("/")) -> bool | None:
    """Whether lowest and highest allowed clock of the GPU and of all cores are the same, as jetson_clocks makes them.

    None where the clocks cannot be read, as in most virtual machines.
    """
    pairs = [
        (number(folder / "min_freq"), number(folder / "max_freq"))
        for folder in root.glob("sys/class/devfreq/*")
        if re.search(r"gpu|gv11b|gp10b|ga10b", folder.name)
    ]
    pairs += [
        (number(folder / "scaling_min_freq"), number(folder / "scaling_max_freq"))
        for folder in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    ]
    known = [(low, high) for low, high in pairs if low is not None and high is not None]
    return all(low == high for low, high in known) if known else None


def memory_gb(root: Path = Path("/")) -> float | None:
    """Memory that Linux sees, in GiB."""
    return _meminfo(root, "MemTotal")


def swap_gb(root: Path = Path("/")) -> float | None:
    """Swap space, compressed memory (zram) with it, in GiB."""
    return _meminfo(root, "SwapTotal")


def cuda_version(root: Path = Path("/")) -> str | None:
    """The version of the CUDA toolkit or runtime in /usr/local/cuda."""
    said = text(root / "usr/local/cuda/version.json")
    if said:
        try:
            return str(json.loads(said)["cuda"]["version"])
        except (ValueError, KeyError, TypeError):
            return None
    found = re.search(r"CUDA Version ([\d.]+)", text(root / "usr/local/cuda/version.txt"))
    return found[1] if found else None


def tensorrt_version(root: Path = Path("/")) -> str | None:
    """The version of libnvinfer that apt installed, such as "10.3.0.30"."""
    for stanza in text(root / "var/lib/dpkg/status").split("\n\n"):
        if re.match(r"Package: libnvinfer\d+\n", stanza) and "\nStatus: install ok installed" in stanza:
            found = re.search(r"^Version: ([\d.]+)", stanza, re.MULTILINE)
            return found[1] if found else None
    return None


def _recognise(root: Path, model: str) -> tuple[Device | None, str | None]:
    """The device, and what told it."""
    modules = set(_MODULE.findall(text(root / "proc/device-tree/compatible").replace("\0", " ")))
    if len(modules) == 1:
        (module,) = modules
        for device in DEVICES:
            if module.startswith(device.modules or ("-",)):
                return device, "part number"
    family = [device for device in DEVICES if device.family and device.family in model]
    size = memory_gb(root)
    for device in sorted(family, key=lambda device: device.memory_gb or 0):
        if len(family) > 1 and size is not None and _KEPT * (device.memory_gb or 0) <= size <= (device.memory_gb or 0):
            return device, "memory"
    # The larger memory is what developer kits come with; among Orin Nanos and Orin NXs it is not told apart here.
    return (max(family, key=lambda device: device.memory_gb or 0), "name") if family else (None, None)


def _meminfo(root: Path, key: str) -> float | None:
    found = re.search(rf"^{key}: +(\d+) kB", text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) / 2**20 if found else None
