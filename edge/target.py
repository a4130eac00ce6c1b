"""What a build is for: the machine that it is measured on, or a board whose engines are built on the board."""

import shlex
from pathlib import Path

from edge.deploy.devices import DEVICES, JETPACKS, Device, device_named
from edge.errors import InputError

CPU = "cpu"
TARGETS = tuple(device.target for device in DEVICES)


def target_named(name: str) -> Device:
    """The device of `--target`. InputError, with the nearest name, for one that is not known or too old for edge."""
    device = device_named(name)
    if device.target != CPU and not any(_python(version) >= (3, 10) for version in device.jetpack):
        raise InputError(
            f"{device.name} has no JetPack with Python 3.10 or newer, which edge needs (it ends with JetPack "
            f"{device.jetpack[-1]}); use another --target"
        )
    return device


def default_precision(target: str) -> str:
    """With TensorRT the fastest is found out on the board; on a CPU INT8 is asked for."""
    return "fp32" if target == CPU else "auto"


def bundle_name(modality: str, precision: str, target: str) -> str:
    """The bundle's folder in RUN/bundles: optical-int8, optical-int8-jetson-orin-nano."""
    return "-".join([modality, precision, *([] if target == CPU else [target])])


def next_command(folder: Path, modality: str, precision: str, target: str) -> str | None:
    """What to type on the board, beside the bundle and its test samples; None for a CPU, where all is done.

    INT8 is timed beside FP16 and FP32, or nobody would know whether it pays.
    """
    if target == CPU:
        return None
    alone = ["--precision", precision] if precision in ("fp32", "fp16") else []
    return shlex.join(["edge", "engine", folder.name, "--data", f"{modality}.npz", *alone])


def _python(version: str) -> tuple[int, ...]:
    known = {jetpack.version: jetpack.python for jetpack in JETPACKS}
    return tuple(map(int, known[version].split("."))) if version in known else ()
