"""ONNX Runtime on the CPU.

Threads are pinned: `threads` inside an operator, one between operators, because a student is a chain and a figure that
depends on how many cores happen to be idle is no figure. Spinning stays as ONNX Runtime has it: one thread has no pool.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from edge.deploy.engine import Parts, Tensor, check_inputs
from edge.deploy.onnx_file import read_onnx
from edge.errors import BackendMissing, FitError, InputError
from edge.files import replacing

_PROVIDERS = ["CPUExecutionProvider"]
_DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
}  # fmt: skip


class OnnxRuntimeEngine:
    """An Engine (edge.deploy.engine) over one ONNX Runtime session."""

    def __init__(self, graph: Path, threads: int) -> None:
        runtime = _runtime()
        self._session = _session(graph, _options(runtime, threads))
        self._inputs = tuple(_tensor(value) for value in self._session.get_inputs())
        self._outputs = tuple(_tensor(value) for value in self._session.get_outputs())
        self._names = [tensor.name for tensor in self._outputs]
        self._about = {
            "backend": "onnxruntime",
            "version": runtime.__version__,
            "threads": threads,
            "graph": str(graph),
        }

    def describe(self) -> dict[str, Any]:
        """See Engine.describe."""
        return {
            **self._about,
            "providers": list(_PROVIDERS),
            "inputs": [tensor.to_json() for tensor in self._inputs],
            "outputs": [tensor.to_json() for tensor in self._outputs],
        }

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See Engine.run."""
        check_inputs(self._inputs, inputs)
        return dict(zip(self._names, self._session.run(self._names, inputs), strict=True))

    def run_in_parts(self, inputs: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Parts]:
        """See Engine. The CPU copies nothing."""
        check_inputs(self._inputs, inputs)
        begin = time.perf_counter()
        outputs = self._session.run(self._names, inputs)
        seconds = time.perf_counter() - begin
        return dict(zip(self._names, outputs, strict=True)), Parts(seconds)

    def close(self) -> None:
        """See Engine.close."""
        del self._session


def open_graph(graph: Path, threads: int) -> OnnxRuntimeEngine:
    """What `open_engine` calls."""
    return OnnxRuntimeEngine(graph, threads)


def optimized_model(graph: Path, out_path: Path, *, threads: int = 1) -> None:
    """Write to `out_path` the graph that ONNX Runtime makes of `graph` on this processor and really runs."""
    with replacing(out_path) as temporary:
        options = _options(_runtime(), threads)
        options.optimized_model_filepath = str(temporary)
        _session(graph, options)


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendMissing(f"onnxruntime is not installed ({error}); pip install 'edge-colearn[cpu]'") from None
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()  # the older switch, for Windows; edge/__init__.py sets the newer one
    return onnxruntime


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # fatal only: what goes wrong comes as an exception
    return options


def _session(graph: Path, options: Any) -> Any:
    """A session over the very bytes that were checked."""
    data = read_onnx(graph)
    runtime = _runtime()
    try:
        return runtime.InferenceSession(data, options, providers=_PROVIDERS)
    except Exception as error:  # its exceptions share no base class
        kind, reason = type(error).__name__, str(error).strip().splitlines()[0]
        if kind == "NotImplemented" or "opset" in reason:
            raise FitError(f"ONNX Runtime {runtime.__version__} cannot run {graph}: {reason}") from None
        raise InputError(f"{graph} is not a graph that ONNX Runtime accepts: {reason}") from None


def _tensor(value: Any) -> Tensor:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Tensor(value.name, np.dtype(_DTYPES[value.type]), shape)
