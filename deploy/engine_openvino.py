"""OpenVINO on the CPU: the other engine for x86, faster than ONNX Runtime on some students and slower on others.

OpenVINO compiles a graph for its shapes; one with free axes is up to 30 % slower on short series. So the first run of a
batch size makes a request for it, which takes 0.1 s for a series and 0.5 s for an image backbone. From then on inputs
are copied into memory that the request owns: to bind the caller's array anew takes 35 microseconds in every run.

It takes the graphs that ONNX Runtime takes (the INT8 placement "cpu") and gives the same codes but for residual sums: a
sum is done inside of the convolution before it, on values that were not rounded to codes yet.

Threads as in edge.deploy.engine_onnxruntime, and none is pinned to a core: two processes would take the same one. What
is float stays FP32: left to itself, OpenVINO computes it in bfloat16 or float16 where the processor has them.
Source: https://docs.openvino.ai/2024/openvino-workflow/running-inference/inference-devices-and-modes/cpu-device.html
"""

import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from edge.deploy.engine import Parts, Tensor, check_inputs
from edge.deploy.onnx_file import read_onnx
from edge.errors import BackendMissing, FitError, InputError

REQUESTS = 8  # batch sizes that are kept ready; the one used longest ago goes first
_SETTINGS = {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32"}
_Shapes = tuple[tuple[int, ...], ...]


class OpenVINOEngine:
    """An Engine (edge.deploy.engine) over one OpenVINO model."""

    def __init__(self, graph: Path, threads: int) -> None:
        runtime = load()
        self._version = runtime.__version__.partition("-")[0]
        self._core = runtime.Core()
        self._settings = _SETTINGS | {"INFERENCE_NUM_THREADS": threads}
        self._graph = graph
        self._model = self._read(read_onnx(graph))
        self._inputs = tuple(_tensor(port) for port in self._model.inputs)
        self._outputs = tuple(_tensor(port) for port in self._model.outputs)
        self._requests: OrderedDict[_Shapes, _Request] = OrderedDict()
        self._threads = threads

    def describe(self) -> dict[str, Any]:
        """See Engine.describe."""
        return {
            "backend": "openvino",
            "version": self._version,
            "threads": self._threads,
            "graph": str(self._graph),
            "providers": ["CPU"],
            "inputs": [tensor.to_json() for tensor in self._inputs],
            "outputs": [tensor.to_json() for tensor in self._outputs],
        }

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See Engine.run."""
        check_inputs(self._inputs, inputs)
        request = self._request(inputs)
        request.infer(inputs)
        return request.outputs()

    def run_in_parts(self, inputs: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Parts]:
        """See Engine: the copies into and out of OpenVINO's memory count as the graph's, as in ONNX Runtime."""
        check_inputs(self._inputs, inputs)
        request = self._request(inputs)
        begin = time.perf_counter()
        request.infer(inputs)
        outputs = request.outputs()
        return outputs, Parts(time.perf_counter() - begin)

    def close(self) -> None:
        """See Engine.close."""
        self._requests.clear()
        del self._model, self._core

    def _request(self, inputs: dict[str, np.ndarray]) -> "_Request":
        """The request for these shapes."""
        shapes = tuple(inputs[tensor.name].shape for tensor in self._inputs)
        request = self._requests.get(shapes)
        if request is not None:
            self._requests.move_to_end(shapes)
            return request
        if len(self._requests) == REQUESTS:
            self._requests.popitem(last=False)
        try:
            self._model.reshape(dict(enumerate(map(list, shapes))))
            compiled = self._core.compile_model(self._model, "CPU", self._settings)
            request = _Request(compiled.create_infer_request(), self._inputs, self._outputs)
        except RuntimeError as error:
            raise FitError(f"OpenVINO {self._version} cannot compile {self._graph}: {_reason(error)}") from None
        self._requests[shapes] = request
        return request

    def _read(self, data: bytes) -> Any:
        """A model of the very bytes that were checked."""
        try:
            return self._core.read_model(data)
        except RuntimeError as error:
            if "OpConversionFailure" in str(error):
                raise FitError(f"OpenVINO {self._version} cannot run {self._graph}: {_reason(error)}") from None
            raise InputError(f"{self._graph} is not a graph that OpenVINO accepts: {_reason(error)}") from None


class _Request:
    """A graph compiled for one batch size, and the memory of its inputs and outputs."""

    def __init__(self, request: Any, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
        self._request = request
        self._inputs = [(tensor.name, request.get_input_tensor(at).data) for at, tensor in enumerate(inputs)]
        self._outputs = [(tensor.name, request.get_output_tensor(at).data) for at, tensor in enumerate(outputs)]

    def infer(self, inputs: dict[str, np.ndarray]) -> None:
        for name, memory in self._inputs:
            memory[...] = inputs[name]
        self._request.infer(share_outputs=True)

    def outputs(self) -> dict[str, np.ndarray]:
        return {name: memory.copy() for name, memory in self._outputs}


def open_graph(graph: Path, threads: int) -> OpenVINOEngine:
    """What `open_engine` calls."""
    return OpenVINOEngine(graph, threads)


def load() -> Any:
    """The module `openvino`; edge/__init__.py keeps its telemetry out. BackendMissing."""
    try:
        import openvino
    except ImportError as error:
        raise BackendMissing(f"openvino is not installed ({error}); pip install 'edge-colearn[openvino]'") from None
    return openvino


def _tensor(port: Any) -> Tensor:
    shape = tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape)
    return Tensor(port.any_name, np.dtype(port.element_type.to_dtype()), shape)


def _reason(error: RuntimeError) -> str:
    """The line that says it: where in OpenVINO's source it was raised stands before, advice for its authors behind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from ", "Check '"))]
    return next((line.removeprefix("-- ") for line in said if line.startswith("-- ")), (said or lines)[0])
