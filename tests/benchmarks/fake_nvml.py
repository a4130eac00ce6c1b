"""Stands in for the module pynvml (nvidia-ml-py): the names are the real ones, the card is not."""

from types import ModuleType
from typing import Any


class NVMLError(Exception):
    pass


def make(**readings: Any) -> ModuleType:
    """A module with one card; a reading that is not given is not supported, as pynvml says it."""
    module: Any = ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.NVML_TEMPERATURE_GPU, module.NVML_CLOCK_SM = 0, 1
    module.opened = 0

    def init() -> None:
        module.opened += 1

    def shutdown() -> None:
        module.opened -= 1

    module.nvmlInit, module.nvmlShutdown = init, shutdown
    module.nvmlDeviceGetCount = lambda: readings.get("count", 1)
    module.nvmlDeviceGetHandleByIndex = lambda index: ("index", index)
    module.nvmlDeviceGetHandleByUUID = lambda uuid: ("uuid", uuid)

    def ask(name: str, **arguments: Any) -> Any:
        def answer(_handle: Any, *given: Any) -> Any:
            assert list(given) == list(arguments.values())
            if name not in readings:
                raise NVMLError("Not Supported")
            value = readings[name]
            return value() if callable(value) else value

        return answer

    module.nvmlDeviceGetTotalEnergyConsumption = ask("millijoules")
    module.nvmlDeviceGetPowerUsage = ask("milliwatts")
    module.nvmlDeviceGetTemperature = ask("celsius", sensor=0)
    module.nvmlDeviceGetClockInfo = ask("megahertz", kind=1)
    module.nvmlDeviceGetCurrentClocksThrottleReasons = ask("reasons")
    return module
