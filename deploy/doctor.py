"""What this machine has, what it lacks for each stage, and the exact line that installs it."""

import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edge.deploy.boards import Board, memory_gb, read_board, swap_gb
from edge.deploy.cuda import ON_BOARDS
from edge.deploy.sysfs import text

# Package -> (what it is for, the line that installs it). Asked by name only: nothing is imported.
PACKAGES = {
    "numpy": ("everything", "pip install edge-colearn"),
    "onnxruntime": ("predict, verify, bench on a CPU", "pip install 'edge-colearn[cpu]'"),
    "openvino": ("another engine for x86, often the faster one", "pip install 'edge-colearn[openvino]'"),
    "tensorrt": (
        "engines on NVIDIA boards",
        "on Jetson it comes with JetPack; else pip install 'edge-colearn[tensorrt]'",
    ),
    "cuda-python": ("buffers and CUDA graphs of TensorRT engines", "pip install 'edge-colearn[tensorrt]'"),
    "torch": ("train, compress", "pip install 'edge-colearn[train]'"),
    "nncf": ("compress", "pip install 'edge-colearn[compress]'"),
    "onnx": ("compress, layers in inspect, TensorRT 11", "pip install 'onnx>=1.19'"),
    "jsonschema": ("card schemas in verify", "pip install 'edge-colearn[card]'"),
}
# Packages for training, and the engine for x86: on a board they are no loss.
HOST_ONLY = ("torch", "nncf", "onnx", "openvino")
# Instructions that decide how fast INT8 is, and the float baseline: x86, then ARM.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
JETPACK_LINE = "sudo apt-get update && sudo apt-get install -y nvidia-jetpack"
SWAP_LINE = (
    "sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
)
VENV_LINE = "python3 -m venv --system-site-packages VENV, and edge in there"
# The runtime with ONNX Runtime takes 130 MB; bundles, TensorRT plans and its timing cache come to that.
DISK_GB = 1.0


@dataclass(frozen=True)
class Check:
    """One line of the report. `ok` is None where nothing is expected; `fatal` if no engine runs without it."""

    name: str
    value: str | None
    ok: bool | None = None
    why: str = ""
    fix: str | None = None
    fatal: bool = False


def examine(root: Path = Path("/")) -> dict[str, Any]:
    """Facts about the machine whose file tree is at `root`; Python and its packages are those that run this.

    `checks` is a list of `Check`; `missing` the packages that are not installed; `exit_code` 0, 4 if the system is too
    old for edge, or 5 if no engine can run.
    """
    from edge import __version__

    cpu = text(root / "proc/cpuinfo")
    flags = set((_value(cpu, "flags") or _value(cpu, "Features") or "").split())
    board = read_board(root)
    versions = {name: _version(name) for name in PACKAGES}
    checks = [*_board_checks(board, root), *_engine_checks(board, versions), *_machine_checks(board, root)]
    return {
        "edge": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "cpu": _value(cpu, "model name") or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "board": board and board.model,
        "target": board.target if board else "cpu",
        "l4t": board and board.l4t,
        "jetpack": board and board.jetpack,
        "power_modes": list(board.power_modes) if board else [],
        "checks": [asdict(check) for check in checks],
        "missing": [
            {"package": name, "for": PACKAGES[name][0], "install": _line(name, board)}
            for name, version in versions.items()
            if version is None and not (board and _needless(name, versions))
        ],
        "exit_code": exit_code(checks),
    }


def exit_code(checks: list[Check]) -> int:
    """0, 4 (this system is too old) or 5 (a backend is missing) from the checks that are fatal."""
    failed = [check.name for check in checks if check.fatal and check.ok is False]
    return 0 if not failed else 4 if "jetpack" in failed or "python" in failed else 5


def _board_checks(board: Board | None, root: Path) -> list[Check]:
    if board is None:
        driver = text(root / "proc/driver/nvidia/version").partition("\n")[0]
        return [Check("board", None), *([Check("nvidia driver", driver, True)] if driver else [])]
    known = board.target is not None
    return [
        Check("board", f"{board.model} = {board.target}" if known else board.model, known,
              "" if known else "not in `edge devices`: --target cpu still works"),
        _jetpack_check(board),
        Check("cuda", board.cuda, board.cuda is not None, "TensorRT engines need it", JETPACK_LINE),
        Check("power mode", board.power_mode, board.power_mode is not None,
              "a latency means nothing without it", f"sudo nvpmodel -m ID ({_modes(board)})"),
        Check("clocks locked", _yes_no(board.clocks_locked), board.clocks_locked,
              "latency is steadier with locked clocks", "sudo jetson_clocks"),
    ]  # fmt: skip


def _jetpack_check(board: Board) -> Check:
    value = f"L4T {board.l4t} (JetPack {board.jetpack or 'unknown'})" if board.l4t else None
    major = int(board.l4t.partition(".")[0]) if board.l4t else 0
    if value is None:
        return Check(
            "jetpack", None, False, "/etc/nv_tegra_release is missing", "sudo apt-get install -y nvidia-l4t-core"
        )
    if major < 35:
        return Check("jetpack", value, False, "JetPack 4 has Python 3.6 and TensorRT 8.2; edge needs Python 3.10 and "
                     "JetPack 6, which the first Jetson Nano cannot run", None, fatal=True)  # fmt: skip
    if major == 35:
        return Check("jetpack", value, False, "its TensorRT is for Python 3.8, too old for edge: engines of ONNX "
                     "Runtime only; JetPack 6 brings TensorRT for Python 3.10")  # fmt: skip
    return Check(
        "jetpack", value, board.jetpack is not None, "" if board.jetpack else "newer than what edge was written for"
    )


def _engine_checks(board: Board | None, versions: dict[str, str | None]) -> list[Check]:
    """TensorRT, ONNX Runtime, OpenVINO: one of them must be there."""
    tensorrt, ort = versions["tensorrt"], versions["onnxruntime"]
    checks = []
    if board and board.tensorrt and not tensorrt:
        checks.append(
            Check("tensorrt", f"{board.tensorrt} of JetPack, not seen by this Python", False,
                  "a virtual environment hides JetPack's packages",
                  VENV_LINE)
        )  # fmt: skip
    elif board:
        checks.append(Check("tensorrt", tensorrt, tensorrt is not None, "engines on this board", JETPACK_LINE))
    else:
        checks.append(Check("tensorrt", tensorrt))
    fatal = tensorrt is None and versions["openvino"] is None
    checks.append(
        Check("onnxruntime", ort, ort is not None, PACKAGES["onnxruntime"][0], PACKAGES["onnxruntime"][1], fatal)
    )
    return checks


def _machine_checks(board: Board | None, root: Path) -> list[Check]:
    memory, swap, free = memory_gb(root), swap_gb(root), shutil.disk_usage(root).free / 2**30
    small = board is not None and memory is not None and memory < 8
    return [
        Check("memory", _gib(memory)),
        Check("swap", _gib(swap), bool(swap) if small else None,
              "building a TensorRT engine can need more than a small board has", SWAP_LINE),
        Check("disk", f"{free:.1f} GiB free", free >= DISK_GB, "the runtime, a bundle and its engines need a GiB",
              "sudo apt-get clean && pip cache purge"),
        Check("python", platform.python_version(), sys.version_info >= (3, 10), "edge needs 3.10 or newer",
              "sudo apt-get install -y python3.10 python3.10-venv", fatal=True),
    ]  # fmt: skip


def _needless(package: str, versions: dict[str, str | None]) -> bool:
    """Whether a board does without; TensorRT 11 wants FP16 written into the graph, which onnx does."""
    strong = package == "onnx" and int((versions["tensorrt"] or "0").partition(".")[0]) >= 11
    return package in HOST_ONLY and not strong


def _line(package: str, board: Board | None) -> str:
    if package == "tensorrt" and board:
        return VENV_LINE if board.tensorrt else JETPACK_LINE
    if package == "cuda-python" and board and board.cuda:  # its major version is CUDA's
        major = int(board.cuda.partition(".")[0])
        return f"pip install '{ON_BOARDS.get(major, 'cuda-python')}'"
    return PACKAGES[package][1]


def _modes(board: Board) -> str:
    return ", ".join(f"{identity} = {name}" for name, identity in board.power_modes.items()) or "see /etc/nvpmodel.conf"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _version("onnxruntime-gpu") if package == "onnxruntime" else None  # the same import under another name


def _value(info: str, key: str) -> str | None:
    """The first `key : value` of /proc/cpuinfo."""
    for line in info.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _gib(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f} GiB"


def _yes_no(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"
