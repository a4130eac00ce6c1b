"""The machine that a figure belongs to: read from /proc and /sys, null where it cannot be read."""

import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from edge.deploy.boards import power_mode

# Processor flags of instructions that multiply int8 and add in int32: x86, then ARM.
INT8_FLAGS = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm")
PACKAGES = ("edge-colearn", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")


def machine_facts() -> dict[str, Any]:
    """The report's `machine`: processor, board, clocks, load and versions at this moment."""
    info = _text("/proc/cpuinfo") or ""
    board = _text("/proc/device-tree/model")
    return {
        "cpu": _cpu_model(info) or board or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "int8_flags": [flag for flag in INT8_FLAGS if flag in _cpu_flags(info)],
        "memory_mb": _memory_mb(),
        "gpu": None,
        "board": board,
        "power_mode": power_mode(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load_average": list(os.getloadavg()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": {"python": platform.python_version()}
        | {name: found for name in PACKAGES if (found := version(name))},
    }


def usable_cores() -> int:
    """Cores that this process may use, which a container or taskset can make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OtherLoad:
    """How many cores something else keeps busy from now on; the load average remembers the minutes before, too.

    `cores()` is None without /proc. In a container it counts what /proc/stat counts, usually the whole machine.
    """

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._others_at_begin = _others_seconds()

    def cores(self) -> float | None:
        """Mean over the time since this object was made."""
        now, begin = _others_seconds(), self._others_at_begin
        if now is None or begin is None:
            return None
        return max(0.0, (now - begin) / (time.perf_counter() - self._begin))


def peak_rss_mb() -> float | None:
    """The largest resident memory of this process so far, in MiB (VmHWM); None without /proc.

    Not getrusage: its ru_maxrss of a fresh process still holds the memory of the parent that started it.
    """
    for line in (_text("/proc/self/status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None


def _others_seconds() -> float | None:
    """Processor seconds that all other processes have used so far."""
    line = (_text("/proc/stat") or "").partition("\n")[0].split()
    if len(line) < 9:
        return None
    # cpu user nice system idle iowait irq softirq steal ...: all but idle and iowait, in ticks
    ticks = sum(int(value) for value in line[1:9]) - int(line[4]) - int(line[5])
    own = os.times()
    return ticks / os.sysconf("SC_CLK_TCK") - own.user - own.system


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _cpu_model(info: str) -> str | None:
    for line in info.splitlines():
        if line.lower().startswith("model name"):
            return line.partition(":")[2].strip()
    return None


def _cpu_flags(info: str) -> set[str]:
    for line in info.splitlines():
        if line.startswith(("flags", "Features")):  # x86, ARM
            return set(line.partition(":")[2].split())
    return set()


def _memory_mb() -> int | None:
    for line in (_text("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return None


def version(package: str) -> str | None:
    """Of an installed package; None if it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        # TensorRT of JetPack is not always known to pip; asked only if something has loaded it already.
        return getattr(sys.modules.get(package), "__version__", None)
