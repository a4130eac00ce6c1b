"""Execution contexts of one TensorRT engine that share their scratch memory.

By itself each context takes what the largest batch of the profile needs, and there is one for each batch size. Ours run
one after the other in one stream, so they may share it (NVIDIA, IExecutionContext::setDeviceMemoryV2: not for contexts
that run at the same time). Before TensorRT 10.1 each context has its own.
"""

from typing import Any

from edge.deploy.cuda import Cuda
from edge.deploy.tensorrt_api import Api

_LEAST = 256  # bytes; an engine may need none, and an address is wanted all the same


class Contexts:
    """Makes contexts of `engine`; `close` when none of them is in use any more."""

    def __init__(self, api: Api, cuda: Cuda, engine: Any) -> None:
        self.label = api.label
        self._api, self._cuda, self._engine = api, cuda, engine
        self._size = max(engine.device_memory_size_v2, _LEAST) if hasattr(engine, "device_memory_size_v2") else 0
        self._memory = int(cuda.call("cudaMalloc", self._size)) if self._size else None

    def new(self, stream: Any) -> Any:
        """A context, or None if TensorRT cannot make one. `stream`: where it will run."""
        if self._memory is None:
            context = self._engine.create_execution_context()
        else:
            context = self._engine.create_execution_context(self._how())
        if context is None:
            return None
        if self._memory is not None:
            context.set_device_memory(self._memory, self._size)
        if not self._api.rtx and self._api.number < (
            10,
        ):  # there only an engine's first context has profile 0 by itself
            context.set_optimization_profile_async(0, int(stream))
            self._cuda.call("cudaStreamSynchronize", stream)
        return context

    def close(self) -> None:
        """Give the memory back."""
        if self._memory is not None:
            self._cuda.call("cudaFree", self._memory)
            self._memory = None

    def _how(self) -> Any:
        """Memory from us. TensorRT-RTX has kernels for a shape ready at once: by itself it begins with makeshift ones,
        which a CUDA graph would keep for good (NVIDIA, TensorRT-RTX documentation, "Working with CUDA Graphs").
        """
        trt = self._api.trt
        ours = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self._api.rtx:
            return ours
        runtime = self._engine.create_runtime_config()
        runtime.set_execution_context_allocation_strategy(ours)
        runtime.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return runtime
