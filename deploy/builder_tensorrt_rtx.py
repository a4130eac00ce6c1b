"""NVIDIA's own parser and builder on a machine without a GPU: TensorRT for RTX, which compiles ahead of time.

It shows that a graph is legal for TensorRT (the ONNX parser is that of TensorRT 10 and 11, strongly typed) and that it
compiles; it does not run the plan, and Jetson's Orin and Thor are not among its targets. A good graph gives no warning
at all. A uint8 graph does: it is read as int8, which clips half of each range. So a warning about types is an error.

    pip install tensorrt-rtx==1.7.1.116     # 96 MB, proprietary licence: a tool for tests, never shipped
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.deploy.onnx_file import read_onnx
from edge.errors import BackendMissing, InputError

_ABOUT_TYPES = re.compile(r"u?int8|quantiz|zero.?point|precision", re.IGNORECASE)
_NOISE = "cudaError"  # without a driver each error drags one about that along


@dataclass(frozen=True)
class BuildResult:
    """A serialized engine for the GPUs in `capabilities`, seconds of parsing and building, warnings not about types."""

    plan: bytes
    seconds: float
    capabilities: tuple[str, ...]
    warnings: tuple[str, ...]


def build(graph: Path, batch: tuple[int, int, int] = (1, 32, 256)) -> BuildResult:
    """Parse and compile `graph` for every GPU since Ampere; `batch` is the smallest, usual and largest batch.

    InputError with NVIDIA's message if the graph is refused or its types are changed; BackendMissing if it is missing.
    """
    if not 1 <= batch[0] <= batch[1] <= batch[2]:
        raise InputError(f"batch sizes {batch} are not smallest <= usual <= largest, from 1 on")
    data = read_onnx(graph)
    trt = _tensorrt()
    messages: list[tuple[Any, str]] = []
    logger = _logger(trt, messages)
    start = time.perf_counter()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(data):
        raise InputError(f"TensorRT refuses {graph}: {_errors(parser, trt, messages)}")
    config = builder.create_builder_config()
    config.add_optimization_profile(_profile(builder, network, graph, batch))
    capabilities = _target(trt, config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InputError(f"TensorRT cannot build {graph}: {_logged(messages, trt.ILogger.ERROR)}")
    return BuildResult(bytes(plan), time.perf_counter() - start, capabilities, _checked_warnings(graph, trt, messages))


def _tensorrt() -> Any:
    try:
        import tensorrt_rtx
    except ImportError:
        raise BackendMissing("tensorrt_rtx is not installed; pip install tensorrt-rtx==1.7.1.116") from None
    return tensorrt_rtx


def _logger(trt: Any, messages: list[tuple[Any, str]]) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps what the parser and the builder say, and prints nothing."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            messages.append((severity, message))

    return Logger()


def _profile(builder: Any, network: Any, graph: Path, batch: tuple[int, int, int]) -> Any:
    """The batch sizes for each input whose first axis is free."""
    profile = builder.create_optimization_profile()
    for tensor in (network.get_input(index) for index in range(network.num_inputs)):
        first, *rest = tuple(tensor.shape)
        if -1 in rest:
            raise InputError(
                f"{graph}: input {tensor.name!r} has free axes besides the batch: {[first, *rest]}; fix them"
            )
        profile.set_shape(tensor.name, *([size if first == -1 else first, *rest] for size in batch))
    return profile


def _target(trt: Any, config: Any) -> tuple[str, ...]:
    """Ask for each compute capability by name, for the default may depend on the machine; from Ampere (Orin's) on:
    for Turing (SM75) the package has no FP32 Gemm.
    """
    names = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM") and int(name[2:]) >= 80]
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(trt.ComputeCapability.__members__[name], index)
    return tuple(names)


def _errors(parser: Any, trt: Any, messages: list[tuple[Any, str]]) -> str:
    """The parser's own words, with the node that they are about."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    texts = [f"node {error.node_name()!r}: {_clean(error.desc())}" for error in errors]
    return "; ".join(texts) or _logged(messages, trt.ILogger.ERROR)


def _checked_warnings(graph: Path, trt: Any, messages: list[tuple[Any, str]]) -> tuple[str, ...]:
    """The warnings, each once; InputError if one says that types or quantization were changed."""
    warnings = tuple(dict.fromkeys(_clean(text) for severity, text in messages if severity == trt.ILogger.WARNING))
    if changed := [text for text in warnings if _ABOUT_TYPES.search(text)]:
        raise InputError(f"TensorRT would change the types of {graph}: {'; '.join(changed)}")
    return warnings


def _logged(messages: list[tuple[Any, str]], severity: Any) -> str:
    return "; ".join(_clean(text) for level, text in messages if level == severity and _NOISE not in text)


def _clean(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if _NOISE not in line)
