"""TensorRT's Python module, whichever there is: `tensorrt` (JetPack, or x86) or `tensorrt_rtx` (GeForce, or no GPU).

Both have one API in several versions. What differs is asked here, by feature and not by number where that can be, for
TensorRT-RTX counts its versions by itself:

    weakly typed    TensorRT 8.5 to 10: FP32 graph with Q/DQ, the flags FP16 and INT8 say what kernels may be used
    strongly typed  TensorRT 10.12 on request, 11 and TensorRT-RTX always: types are those of the graph
"""

import importlib
import re
from dataclasses import dataclass, field
from typing import Any

from edge.errors import BackendMissing, FitError, InputError

MODULES = ("tensorrt", "tensorrt_rtx")
INSTALL = {
    "tensorrt": "on Jetson it comes with JetPack: sudo apt-get install -y python3-libnvinfer, and make the virtual "
    "environment with --system-site-packages; on x86: pip install tensorrt --extra-index-url https://pypi.nvidia.com",
    "tensorrt_rtx": "pip install tensorrt-rtx==1.7.1.116",
}
OLDEST = (8, 5)
STRONG_ON_REQUEST = (10, 12)
_NOISE = re.compile(r"cudaError", re.IGNORECASE)  # without a driver each error drags one about that along
_OUT_OF_MEMORY = re.compile(r"out.?of.?memory|could not be allocated|MemoryAllocation|bad_alloc", re.IGNORECASE)


@dataclass
class Messages:
    """What TensorRT said: (severity, text), in order."""

    all: list[tuple[Any, str]] = field(default_factory=list)

    def of(self, severity: Any) -> tuple[str, ...]:
        """Texts of one severity, each once, without the lines that only say that there is no GPU."""
        texts = (clean(text) for level, text in self.all if level == severity)
        return tuple(dict.fromkeys(text for text in texts if text))

    def out_of_memory(self) -> bool:
        """Whether one of them says so."""
        return any(_OUT_OF_MEMORY.search(text) for _, text in self.all)


@dataclass(frozen=True)
class Api:
    """One of the modules. `version` as it says it, such as "10.3.0"."""

    name: str
    trt: Any
    version: str

    @property
    def label(self) -> str:
        """Which builder ran, for a report: "tensorrt 10.3.0"."""
        return f"{self.name} {self.version}"

    @property
    def number(self) -> tuple[int, ...]:
        """(10, 3, 0)."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version))

    @property
    def rtx(self) -> bool:
        """Whether this is TensorRT-RTX, which builds ahead of time and without a GPU."""
        return self.name == "tensorrt_rtx"

    def strongly_typed(self, asked: bool) -> bool:
        """Whether a network will be strongly typed; InputError if that was asked of a version that cannot."""
        if self.rtx or "INT8" not in self.trt.BuilderFlag.__members__:
            return True
        if asked and self.number < STRONG_ON_REQUEST:
            wanted = ".".join(map(str, STRONG_ON_REQUEST))
            raise InputError(f"strongly typed networks need TensorRT {wanted}; this is {self.version}: leave it out")
        return asked

    def logger(self, messages: Messages) -> Any:
        """A logger that keeps what is said, and prints nothing."""
        base: Any = self.trt.ILogger

        class Logger(base):  # type: ignore[misc]
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                messages.all.append((severity, message))

        return Logger()


def load(name: str) -> Api:
    """The module `name` of MODULES. BackendMissing with the line that installs it; FitError for one that is too old."""
    try:
        trt = importlib.import_module(name)
    except ImportError as error:
        raise BackendMissing(f"{name} is not installed ({error}); {INSTALL[name]}") from None
    if not hasattr(trt, "Builder"):
        raise BackendMissing(f"{name} is there without its libraries; {INSTALL[name]}")
    api = Api(name, trt, str(trt.__version__))
    if not api.rtx and api.number < OLDEST:
        raise FitError(f"TensorRT {api.version} is older than {'.'.join(map(str, OLDEST))}: use JetPack 6 or newer")
    return api


def clean(text: str) -> str:
    """One line, without what is only about a driver that is not there."""
    return " ".join(line.strip() for line in text.splitlines() if not _NOISE.search(line))
