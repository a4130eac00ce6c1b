"""The boards that we know, as a table; "cpu" is the target that needs none.

The figures were read second-hand in public sources: NVIDIA's pages and forum, the README of its DLA software, field
reports of Jetson users. One that could not be verified there is None and named in `unverified`. TOPS are the vendor's
peak with sparsity: they predict no latency.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SOURCE = "public sources, read second-hand: NVIDIA's pages and forum, its DLA software, field reports"


@dataclass(frozen=True)
class Device:
    """One board. None means unknown, or nothing that we could verify."""

    target: str  # what `--target` takes
    name: str
    memory_gb: int | None = None
    bandwidth_gb_s: float | None = None
    int8_tops: float | None = None  # with sparsity
    gpu: str | None = None
    sm: str | None = None  # CUDA compute capability
    dla: int | None = None  # deep-learning accelerators
    jetpack: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class JetPack:
    """What one JetPack brings. `l4t`: the first numbers of /etc/nv_tegra_release that it stands for."""

    version: str
    l4t: tuple[str, ...]
    python: str
    tensorrt: str | None


_ORIN = ("5.1.x", "6.0", "6.1/6.2", "7.2")

DEVICES = (
    Device("cpu", "any CPU with ONNX Runtime", note="INT8 is fast with AVX512-VNNI, AVX-VNNI, AMX or ARM dotprod"),
    Device("jetson-nano", "Jetson Nano", 4, 25.6, None, "Maxwell, 128 cores", "5.3", 0, ("4.6.x",),
           note="no INT8 hardware; JetPack 4 has Python 3.6: not supported"),
    Device("jetson-xavier-nx", "Jetson Xavier NX", 8, 59.7, 21, "Volta, 384 cores", "7.2", 2, ("4.6.x", "5.1.x")),
    Device("jetson-agx-xavier", "Jetson AGX Xavier", 32, 136.5, 32, "Volta, 512 cores", "7.2", 2, ("4.6.x", "5.1.x")),
    Device("jetson-orin-nano-4gb", "Jetson Orin Nano 4 GB", 4, None, 34, "Ampere, 512 cores", "8.7", 0, _ORIN,
           ("bandwidth_gb_s",)),
    Device("jetson-orin-nano", "Jetson Orin Nano 8 GB (Super)", 8, 102, 67, "Ampere, 1024 cores", "8.7", 0, _ORIN,
           note="without Super mode 68 GB/s and 40 TOPS"),
    Device("jetson-orin-nx-8gb", "Jetson Orin NX 8 GB", 8, None, None, "Ampere, 1024 cores", "8.7", None, _ORIN,
           ("bandwidth_gb_s", "int8_tops", "dla")),
    Device("jetson-orin-nx", "Jetson Orin NX 16 GB", 16, 102.4, 157, "Ampere, 1024 cores", "8.7", None, _ORIN, ("dla",),
           note="without Super mode 100 TOPS"),
    Device("jetson-agx-orin-32gb", "Jetson AGX Orin 32 GB", 32, None, None, None, "8.7", 2, _ORIN,
           ("bandwidth_gb_s", "int8_tops", "gpu")),
    Device("jetson-agx-orin", "Jetson AGX Orin 64 GB", 64, 204.8, 275, "Ampere, 2048 cores", "8.7", 2,
           (*_ORIN, "7.2.2")),
    Device("jetson-thor", "Jetson AGX Thor T5000", 128, None, None, "Blackwell", "11.0", 0, ("7.0/7.1", "7.2", "7.2.2"),
           ("bandwidth_gb_s", "int8_tops"), note="2070 TFLOPS FP4 with sparsity"),
)  # fmt: skip

JETPACKS = (
    JetPack("4.6.x", ("32.6", "32.7"), "3.6", "8.0 - 8.2"),
    JetPack("5.1.x", ("35",), "3.8", "8.5.2"),
    JetPack("6.0", ("36.2", "36.3"), "3.10", "8.6.2.3"),
    JetPack("6.1/6.2", ("36.4", "36.5"), "3.10", "10.3.0"),
    JetPack("7.0/7.1", ("38.2", "38.4"), "3.12", None),
    JetPack("7.2", ("39",), "3.12", "10.16.2.10"),
    JetPack("7.2.2", (), "3.12", "11.4.1"),
)


def table() -> dict[str, Any]:
    """What `edge devices --json` prints."""
    return {
        "devices": [{**asdict(device), "source": SOURCE} for device in DEVICES],
        "jetpacks": [{**asdict(jetpack), "source": SOURCE} for jetpack in JETPACKS],
    }


def l4t_release(root: Path = Path("/")) -> str | None:
    """The L4T version, such as "36.4.3", from etc/nv_tegra_release; None where there is no such file."""
    try:
        text = (root / "etc/nv_tegra_release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else None


def jetpack_of(l4t: str) -> JetPack | None:
    """The JetPack that an L4T version belongs to; None for one that we do not know."""
    return next((jetpack for jetpack in JETPACKS for first in jetpack.l4t if f"{l4t}.".startswith(f"{first}.")), None)
