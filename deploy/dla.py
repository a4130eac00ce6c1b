"""The deep-learning accelerator: which boards and which TensorRT have it, and which layers it cannot take.

From TENSORRT.md 3.4 (NVIDIA's documentation of 11.3 to 11.4.1, and Deep-Learning-Accelerator-SW): TensorRT 8.5 to 10.7
has it, Q/DQ pairs not; 10.8 to 11.3 is without; 11.4.1 has it again, on AGX Orin only. It takes no dynamic shapes.
Experimental: nobody has run this code on a DLA yet.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.deploy.boards import read_board
from edge.deploy.devices import device_named
from edge.deploy.tensorrt_api import Api
from edge.errors import FitError, InputError

LAST_OF_10 = (10, 7)
BACK_IN = (11, 4, 1)


def check(api: Api, precision: str, batch: tuple[int, int, int], core: int | None, root: Path = Path("/")) -> None:
    """Raise FitError with the reason unless the DLA `core` can be asked for; None asks for none."""
    if core is None:
        return
    if reason := why_not(api, precision, core, root):
        raise FitError(f"DLA {core} cannot be used: {reason}; build without --dla")
    if batch[0] != batch[2]:
        raise InputError(
            f"DLA {core} takes one batch size, not {batch[0]} to {batch[2]}: give --min-batch N --max-batch N"
        )


def why_not(api: Api, precision: str, core: int, root: Path = Path("/")) -> str | None:
    """The reason why this board, this TensorRT or this precision has no DLA `core`; None if it may."""
    board = read_board(root)
    if board is None or board.target is None:
        return "this machine is no board that we know" if board else "this machine is no NVIDIA board"
    device = device_named(board.target)
    if not device.dla:
        return f"{device.name} has none"
    if core >= device.dla:
        return f"{device.name} has {device.dla}, counted from 0"
    version = api.number[:3]
    if api.rtx:
        return "TensorRT-RTX has none"
    if version[:2] > LAST_OF_10 and version < BACK_IN:
        return f"TensorRT {api.version} is without it (10.7 was the last, 11.4.1 brings it back on AGX Orin)"
    if version >= BACK_IN and not device.target.startswith("jetson-agx-orin"):
        return f"TensorRT {api.version} has it on AGX Orin only, this is {device.name}"
    if precision == "fp32":
        return "it computes in FP16 and INT8 only"
    if precision == "int8" and version < BACK_IN:
        return (
            f"TensorRT {api.version} takes no Q/DQ pairs on it (NVIDIA's qdq-translator turns them into a calibration "
            "cache, which edge does not); FP16 works"
        )
    return None


def put_in(api: Api, config: Any, network: Any, core: int, notify: Callable[[str], None]) -> tuple[str, ...]:
    """Send all layers to the DLA; those that it cannot take go to the GPU, and are named and returned."""
    trt = api.trt
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    left = tuple(layer.name for layer in layers if not config.can_run_on_DLA(layer))
    for name in left:
        notify(f"not on DLA {core} but on the GPU: {name}")
    if len(left) == len(layers):
        raise FitError(f"DLA {core} cannot run any of the {len(layers)} layers; build without --dla")
    return left
