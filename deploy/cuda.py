"""The few CUDA calls that a TensorRT engine needs, through NVIDIA's package cuda-python and nothing else.

cuda-python renamed its module: `cuda.cudart` up to 12.6, `cuda.bindings.runtime` since. Both give each function's
error code first and then its values; `Cuda` turns the code into a FitError. A machine without the package gets a
BackendMissing with the line that installs it, one without a driver or a GPU a FitError.
"""

import contextlib
import ctypes
import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import BackendMissing, FitError

# CUDA's major version -> what pip installs on a board. A runtime that is newer than the driver may not run there
# ("driver version is insufficient"), and cuda-python from 12.9 on carries a runtime of its version: so the oldest that
# has our calls. JetPack 6 has the driver of CUDA 12.2 to 12.6, JetPack 7 that of 13.0 to 13.2.
ON_BOARDS = {12: "cuda-python>=12.6,<12.7", 13: "cuda-python>=13.0,<13.1"}
MODULES = ("cuda.bindings.runtime", "cuda.cudart")  # the newer name first: the older one warns where both exist


class Cuda:
    """The CUDA runtime on GPU 0, the only one that a board has."""

    def __init__(self) -> None:
        self._runtime = _runtime()
        if self.call("cudaGetDeviceCount") < 1:
            raise FitError("this machine has no NVIDIA GPU that CUDA can use")

    def call(self, name: str, *arguments: Any) -> Any:
        """The value (or values) of a CUDA function; FitError with CUDA's own words if it fails."""
        try:
            code, *values = getattr(self._runtime, name)(*arguments)
        except RuntimeError as error:  # cuda-python 12 looks for the driver's library on the first call
            raise FitError(f"CUDA cannot be used here: {error}") from None
        if int(code):
            _, words = self._runtime.cudaGetErrorString(code)
            text = words.decode() if isinstance(words, bytes) else str(words)
            raise FitError(f"CUDA cannot be used here: {name}: {text}")
        return values[0] if len(values) == 1 else values

    def device(self) -> dict[str, str]:
        """`name` and `capability` ("8.7") of the GPU."""
        kinds = self._runtime.cudaDeviceAttr
        numbers = [
            self.call("cudaDeviceGetAttribute", kind, 0)
            for kind in (kinds.cudaDevAttrComputeCapabilityMajor, kinds.cudaDevAttrComputeCapabilityMinor)
        ]
        name = self.call("cudaGetDeviceProperties", 0).name
        words = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        return {"name": words.strip("\0 "), "capability": ".".join(map(str, numbers))}

    def stream(self) -> Any:
        """A stream that does not wait for the default stream."""
        return self.call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking)

    def event(self) -> Any:
        """An event that keeps its time."""
        return self.call("cudaEventCreate")

    def copy(self, target: int, source: int, size: int, stream: Any, *, to_device: bool) -> None:
        """Put a copy of `size` bytes into the stream."""
        kinds = self._runtime.cudaMemcpyKind
        kind = kinds.cudaMemcpyHostToDevice if to_device else kinds.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", target, source, size, kind, stream)

    def begin_capture(self, stream: Any) -> None:
        """From here on the stream's work is recorded, not done; other threads are left alone."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: Any) -> Any:
        """What was recorded, ready for cudaGraphLaunch."""
        graph = self.call("cudaStreamEndCapture", stream)
        try:
            return self.call("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self.call("cudaGraphDestroy", graph)

    def abandon_capture(self, stream: Any) -> None:
        """End a capture that went wrong, and forget its error, which the next caller of CUDA would take for its own."""
        with contextlib.suppress(FitError):
            self.call("cudaGraphDestroy", self.call("cudaStreamEndCapture", stream))
        self._runtime.cudaGetLastError()

    def mark(self, event: Any, stream: Any, *, in_graph: bool) -> None:
        """Record `event`; `in_graph`: in a stream that is being captured, so that each launch sets it anew."""
        flags = self._runtime.cudaEventRecordExternal if in_graph else 0
        self.call("cudaEventRecordWithFlags", event, stream, flags)


class Buffer:
    """The same bytes twice: page-locked memory of the host, which copies need to be asynchronous, and of the device.

    `array` is the host's side, of the given shape; `device` the other's address.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._cuda = cuda
        self.size = int(np.prod(shape)) * dtype.itemsize
        self.host = int(cuda.call("cudaHostAlloc", self.size, 0))
        try:
            self.device = int(cuda.call("cudaMalloc", self.size))
        except FitError:
            cuda.call("cudaFreeHost", self.host)
            raise
        memory = (ctypes.c_byte * self.size).from_address(self.host)
        self.array: npt.NDArray[Any] = np.frombuffer(memoryview(memory), dtype).reshape(shape)

    def to_device(self, stream: Any) -> None:
        """Host to device, in the stream."""
        self._cuda.copy(self.device, self.host, self.size, stream, to_device=True)

    def to_host(self, stream: Any) -> None:
        """Device to host, in the stream."""
        self._cuda.copy(self.host, self.device, self.size, stream, to_device=False)

    def close(self) -> None:
        """Give both back; `array` must not be touched afterwards."""
        del self.array
        self._cuda.call("cudaFree", self.device)
        self._cuda.call("cudaFreeHost", self.host)


def _runtime() -> Any:
    for name in MODULES:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise BackendMissing(
        f"cuda (NVIDIA's cuda-python) is not installed; pip install '{ON_BOARDS[12]}' for JetPack 6, "
        f"'{ON_BOARDS[13]}' for JetPack 7, cuda-python for other machines"
    )
