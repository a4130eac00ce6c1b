"""The boards that we know, as a table with a source for each figure; "cpu" is the target that needs none.

Nothing here was measured by us. A figure is in the table only if a public source was found that gives it, named by a
key of `SOURCES`; None is unknown. TOPS are the vendor's peak with sparsity, of the GPU and the DLA together: they
predict no latency. Orin Nano and Orin NX: figures of Super mode (JetPack 6.2 and newer) where `note` says so.
"""

import difflib
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge.deploy.sysfs import text
from edge.errors import InputError

# Where figures were found. "Through": read in a document that quotes the named one with its page, not in it.
SOURCES = {
    "nano-sheet": "NVIDIA Jetson Orin Nano Series Data Sheet DS-11105-001, "
    "https://connecttech.com/ftp/pdf/nvidia_jetson_orin_datasheet.pdf (through a quotation)",
    "nano-guide": "NVIDIA Jetson Orin Nano Developer Kit User Guide, "
    "https://docs.nvidia.com/jetson/orin-nano-devkit/user-guide/latest/index.html (through a quotation)",
    "nx-sheet": "NVIDIA Jetson Orin NX Series Data Sheet DS-10712-001 v1.7, "
    "https://developer.nvidia.com/downloads/jetson-orin-nx-module-series-data-sheet (through a quotation)",
    "agx-sheet": "NVIDIA Jetson AGX Orin Series Data Sheet DS-10662-001 v1.8, "
    "https://static.generation-robots.com/media/Jetson-AGX-Orin-Data-Sheet.pdf (through a quotation)",
    "power-guide": "NVIDIA Jetson Linux Developer Guide r36.4.4, Platform Power and Performance, "
    "https://docs.nvidia.com/jetson/archives/r36.4.4/DeveloperGuide/SD/PlatformPowerAndPerformance/"
    "JetsonOrinNanoSeriesJetsonOrinNxSeriesAndJetsonAgxOrinSeries.html (through a quotation)",
    "super-blog": "NVIDIA, JetPack 6.2 Brings Super Mode, https://developer.nvidia.com/blog/"
    "nvidia-jetpack-6-2-brings-super-mode-to-nvidia-jetson-orin-nano-and-jetson-orin-nx-modules/ (through a quotation)",
    "modules": "NVIDIA Jetson Linux Developer Guide r36.5, Quick Start, "
    "https://docs.nvidia.com/jetson/archives/r36.5/DeveloperGuide/IN/QuickStart.html (through a quotation)",
    "eeprom": "NVIDIA L4T 32.7.5 Development Guide, Jetson EEPROM layout, "
    "https://docs.nvidia.com/jetson/archives/l4t-archived/l4t-3275/",
    "thor-som": "RidgeRun, SoM Overview to NVIDIA Jetson AGX Thor, "
    "https://developer.ridgerun.com/wiki/index.php/NVIDIA_Jetson_AGX_Thor/Introduction/SoM_Overview",
    "t4000-blog": "NVIDIA, Jetson T4000 and JetPack 7.1, https://developer.nvidia.com/blog/"
    "accelerate-ai-inference-for-edge-and-robotics-with-nvidia-jetson-t4000-and-nvidia-jetpack-7-1/ "
    "(through a quotation)",
    "field": "field reports in public repositories: configurations and outputs of nvpmodel, tables of modules",
    "cuda": "NVIDIA, CUDA GPUs, https://developer.nvidia.com/cuda-gpus (through second-hand tables)",
}


@dataclass(frozen=True)
class Device:
    """One board. None means unknown. `sources` has a key of SOURCES for each figure that is not None."""

    target: str  # what `--target` takes
    name: str
    memory_gb: int | None = None
    bandwidth_gb_s: float | None = None
    int8_tops: float | None = None  # with sparsity
    gpu: str | None = None
    sm: str | None = None  # CUDA compute capability
    dla: int | None = None  # deep-learning accelerators
    power_modes: tuple[str, ...] | None = None  # names of nvpmodel; their numbers differ by board and JetPack
    jetpack: tuple[str, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    family: str = ""  # how /proc/device-tree/model names it
    modules: tuple[str, ...] = ()  # part numbers in /proc/device-tree/compatible
    note: str = ""


@dataclass(frozen=True)
class JetPack:
    """What one JetPack brings. `l4t`: the first numbers of /etc/nv_tegra_release that it stands for."""

    version: str
    l4t: tuple[str, ...]
    python: str
    tensorrt: str | None
    cuda: str | None


FIGURES = ("memory_gb", "bandwidth_gb_s", "int8_tops", "gpu", "sm", "dla", "power_modes", "modules")


def _sources(everything: str, **others: str) -> dict[str, str]:
    """The source of every figure, with the exceptions."""
    return dict.fromkeys(FIGURES, everything) | {"sm": "cuda"} | others


_JP5, _JP6 = ("4.6.x", "5.1.x"), ("5.1.x", "6.0", "6.1", "6.2", "6.2.1", "6.2.2", "7.2", "7.2.1")

DEVICES = (
    Device(
        "cpu", "any CPU with ONNX Runtime",
        note="INT8 is fast with AVX512-VNNI, AVX-VNNI, AMX or ARM dotprod; on x86 without them some sums are cut off "
        "at 16 bits, and `edge verify` says whether it matters",
    ),
    Device(
        "jetson-nano", "Jetson Nano", 4, 25.6, None, "Maxwell, 128 cores", "5.3", 0, ("MAXN", "5W"), ("4.6.x",),
        _sources("field", modules="eeprom"), family="Jetson Nano", modules=("p3448",),
        note="no INT8 hardware; JetPack 4 has Python 3.6: not supported",
    ),
    Device(
        "jetson-xavier-nx", "Jetson Xavier NX 8 GB", 8, 59.7, 21, "Volta, 384 cores", "7.2", 2,
        ("MODE_15W_2CORE", "MODE_15W_4CORE", "MODE_15W_6CORE", "MODE_10W_2CORE", "MODE_10W_4CORE", "MODE_10W_DESKTOP",
         "MODE_20W_2CORE", "MODE_20W_4CORE", "MODE_20W_6CORE"),
        _JP5, _sources("field", modules="eeprom"), family="Xavier NX", modules=("p3668-0000", "p3668-0001"),
    ),
    Device(
        "jetson-xavier-nx-16gb", "Jetson Xavier NX 16 GB", 16, 59.7, 21, "Volta, 384 cores", "7.2", 2, None,
        _JP5, _sources("field", modules="eeprom"), family="Xavier NX", modules=("p3668-0003",),
    ),
    Device(
        "jetson-agx-xavier", "Jetson AGX Xavier 32 GB", 32, 136.5, 32, "Volta, 512 cores", "7.2", 2,
        ("MAXN", "MODE_10W", "MODE_15W", "MODE_30W_ALL", "MODE_30W_6CORE", "MODE_30W_4CORE", "MODE_30W_2CORE",
         "MODE_15W_DESKTOP"),
        _JP5, _sources("field", modules="eeprom"), family="AGX Xavier", modules=("p2888",),
    ),
    Device(
        "jetson-orin-nano-4gb", "Jetson Orin Nano 4 GB", 4, 34, 34, "Ampere, 512 cores", "8.7", 0,
        ("10W", "25W", "MAXN_SUPER"), _JP6,
        _sources("nano-sheet", int8_tops="super-blog", power_modes="super-blog", modules="modules"),
        family="Orin Nano", modules=("p3767-0004",),
        note="TOPS and modes of Super mode, bandwidth without it; without it 20 TOPS and 10W, 7W_AI, 7W_CPU",
    ),
    Device(
        "jetson-orin-nano", "Jetson Orin Nano 8 GB (Super)", 8, 102, 67, "Ampere, 1024 cores", "8.7", 0,
        ("15W", "25W", "MAXN_SUPER", "7W"), _JP6,
        _sources("nano-sheet", bandwidth_gb_s="nano-guide", int8_tops="nano-guide", power_modes="power-guide",
                 modules="modules"),
        aliases=("jetson-orin-nano-8gb",), family="Orin Nano", modules=("p3767-0003", "p3767-0005"),
        note="Super mode; without it 68 GB/s, 40 TOPS and 15W, 7W",
    ),
    Device(
        "jetson-orin-nx-8gb", "Jetson Orin NX 8 GB", 8, 102, 117, "Ampere, 1024 cores", "8.7", 1,
        ("MAXN_SUPER", "10W", "15W", "20W", "40W"), _JP6,
        _sources("nx-sheet", power_modes="super-blog", modules="modules"),
        family="Orin NX", modules=("p3767-0001",), note="Super mode; without it 70 TOPS and MAXN, 10W, 15W, 20W",
    ),
    Device(
        "jetson-orin-nx", "Jetson Orin NX 16 GB", 16, 102, 157, "Ampere, 1024 cores", "8.7", 2,
        ("MAXN_SUPER", "10W", "15W", "25W", "40W"), _JP6,
        _sources("nx-sheet", power_modes="super-blog", modules="modules"),
        aliases=("jetson-orin-nx-16gb",), family="Orin NX", modules=("p3767-0000",),
        note="Super mode; without it 100 TOPS and MAXN, 10W, 15W, 25W",
    ),
    Device(
        "jetson-agx-orin-32gb", "Jetson AGX Orin 32 GB", 32, 204.8, 200, "Ampere, 1792 cores", "8.7", 2,
        ("MAXN", "15W", "30W", "40W"), _JP6, _sources("agx-sheet", power_modes="power-guide", modules="modules"),
        family="AGX Orin", modules=("p3701-0004",),
    ),
    Device(
        "jetson-agx-orin", "Jetson AGX Orin 64 GB", 64, 204.8, 275, "Ampere, 2048 cores", "8.7", 2,
        ("MAXN", "15W", "30W", "50W"), (*_JP6, "7.2.2"),
        _sources("agx-sheet", power_modes="power-guide", modules="modules"),
        aliases=("jetson-agx-orin-64gb",), family="AGX Orin", modules=("p3701-0005", "p3701-0000"),
        note="the first developer kits (p3701-0000) have this GPU and 32 GB",
    ),
    Device(
        "jetson-t4000", "Jetson T4000", 64, 273, None, "Blackwell, 1536 cores", "11.0", 0, None,
        ("7.1", "7.2", "7.2.1", "7.2.2"), _sources("t4000-blog", dla="thor-som"), family="T4000",
        note="1200 TFLOPS FP4 with sparsity, 40-70 W",
    ),
    Device(
        "jetson-thor", "Jetson AGX Thor (T5000)", 128, 273, None, "Blackwell, 2560 cores", "11.0", 0,
        ("MAXN", "120W", "90W", "70W"), ("7.0", "7.1", "7.2", "7.2.1", "7.2.2"),
        _sources("thor-som", power_modes="field", modules="field"),
        aliases=("jetson-agx-thor", "jetson-t5000"), family="Thor", modules=("p3834-0008",),
        note="2070 TFLOPS FP4 with sparsity, 40-130 W",
    ),
)  # fmt: skip

JETPACK_SOURCE = "L4T and package versions as field reports and the documents of JetPack and Torch-TensorRT give them"
JETPACKS = (
    JetPack("4.6.x", ("32.6", "32.7"), "3.6", "8.0 - 8.2", "10.2"),
    JetPack("5.1.x", ("35",), "3.8", "8.5.2", "11.4"),
    JetPack("6.0", ("36.2", "36.3"), "3.10", "8.6.2.3", "12.2"),
    JetPack("6.1", ("36.4.0",), "3.10", "10.3.0", "12.6"),
    JetPack("6.2", ("36.4.3",), "3.10", "10.3.0", "12.6"),
    JetPack("6.2.1", ("36.4.4", "36.4.7"), "3.10", "10.3.0", "12.6"),
    JetPack("6.2.2", ("36.5",), "3.10", "10.3.0", "12.6"),
    JetPack("7.0", ("38.2",), "3.12", None, "13.0"),
    JetPack("7.1", ("38.4",), "3.12", None, "13.0"),
    JetPack("7.2", ("39",), "3.12", "10.16.2.10", "13.2"),
    JetPack("7.2.1", ("39.2.1",), "3.12", "10.16.2", "13.2"),
    JetPack("7.2.2", (), "3.12", "11.4.1", None),
)


def device_named(target: str) -> Device:
    """The device that `--target` means, by its name or an alias; InputError, with the nearest name, for another."""
    for device in DEVICES:
        if target in (device.target, *device.aliases):
            return device
    names = [name for device in DEVICES for name in (device.target, *device.aliases)]
    near = difflib.get_close_matches(target, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else "see `edge devices`"
    raise InputError(f"the target {target!r} is not known; {hint}")


def table() -> dict[str, Any]:
    """What `edge devices --json` prints."""
    return {"devices": [_row(device) for device in DEVICES], "jetpacks": [_jetpack(jetpack) for jetpack in JETPACKS]}


def l4t_release(root: Path = Path("/")) -> str | None:
    """The L4T version, such as "36.4.3", from etc/nv_tegra_release; None where there is no such file."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text(root / "etc/nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else None


def jetpack_of(l4t: str) -> JetPack | None:
    """The JetPack that an L4T version belongs to, by the longest match; None for one that we do not know."""
    found = [
        (len(first), jetpack) for jetpack in JETPACKS for first in jetpack.l4t if f"{l4t}.".startswith(f"{first}.")
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _row(device: Device) -> dict[str, Any]:
    """A device with the full text of its sources; figures that are unknown have none."""
    row = asdict(device)
    row["sources"] = {name: SOURCES[key] for name, key in device.sources.items() if row[name] not in (None, ())}
    return row


def _jetpack(jetpack: JetPack) -> dict[str, Any]:
    return {**asdict(jetpack), "source": JETPACK_SOURCE}
