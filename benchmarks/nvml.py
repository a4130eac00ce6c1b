"""One NVIDIA card seen through NVML: energy, power, temperature, clock and why the clock is held down.

The functions: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html. From Ampere on (but GA100) NVML's
power is a mean over a second; the energy counter has no such memory.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Bits of nvmlDeviceGetCurrentClocksEventReasons (before: ThrottleReasons) that slow a busy card down.
REASONS = {
    0x04: "software power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
IDLE = 0x01


class Card:
    """Readings of one card; None for what it does not give."""

    def __init__(self, pynvml: Any, handle: Any) -> None:
        self._nvml, self._handle = pynvml, handle

    def joules(self) -> float | None:
        """Energy since the driver was loaded."""
        return _scaled(self._ask("nvmlDeviceGetTotalEnergyConsumption"), 1e-3)

    def watts(self) -> float | None:
        """Power now."""
        return _scaled(self._ask("nvmlDeviceGetPowerUsage"), 1e-3)

    def celsius(self) -> float | None:
        """Temperature of the chip."""
        return _scaled(self._ask("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU), 1.0)

    def megahertz(self) -> float | None:
        """Clock of the multiprocessors; None while the card is idle, when its clock says nothing."""
        if (self._reasons() or 0) & IDLE:
            return None
        return _scaled(self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM), 1.0)

    def slowed_by(self) -> tuple[str, ...] | None:
        """What holds the clock down at this moment; None if the card does not say."""
        reasons = self._reasons()
        return None if reasons is None else tuple(text for bit, text in REASONS.items() if reasons & bit)

    def close(self) -> None:
        """Let go of NVML; it counts how often it was opened."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _reasons(self) -> int | None:
        for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            if (found := self._ask(name)) is not None:
                return int(found)
        return None

    def _ask(self, name: str, *arguments: Any) -> Any:
        function: Callable[..., Any] | None = getattr(self._nvml, name, None)
        if function is None:
            return None
        try:
            return function(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None


def open_card(notes: list[str], root: Path = Path("/")) -> Card | None:
    """The card that CUDA uses first; None where there is none, with a note if only the Python package is missing."""
    try:
        import pynvml
    except ImportError:
        if (root / "proc/driver/nvidia/version").exists():
            notes.append("the NVIDIA card's power needs NVML: pip install nvidia-ml-py")
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None  # no driver, so no card
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    try:
        if visible.startswith("GPU-"):
            return Card(pynvml, pynvml.nvmlDeviceGetHandleByUUID(visible))
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(visible) if visible.isdecimal() else 0)
        if pynvml.nvmlDeviceGetCount() > 1:
            notes.append(f"there are several NVIDIA cards; card {visible or 0} in the order of their PCI bus was read")
        return Card(pynvml, handle)
    except pynvml.NVMLError as error:
        notes.append(f"NVML: {error}")
        pynvml.nvmlShutdown()
        return None


def _scaled(value: Any, factor: float) -> float | None:
    return None if value is None else float(value) * factor
