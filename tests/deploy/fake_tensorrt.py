"""A stand-in for `tensorrt` and `cuda`, for control flow only: what is called, in which order, and who frees what.

Memory is real (ctypes), so copies copy; the "engine" adds up each sample. Nothing here says anything about TensorRT.
"""

import ctypes
import json
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

OUT_OF_MEMORY = "Requested amount of GPU memory (1073741824 bytes) could not be allocated"


class Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Layer:
    def __init__(self, name: str, kind: Any, dtype: str = "FLOAT") -> None:
        self.name, self.type, self.num_outputs, self.precision = name, kind, 1, None
        self.output_types: dict[int, Any] = {}
        self._dtype = dtype

    def get_output(self, _: int) -> Any:
        return SimpleNamespace(dtype=self._dtype)

    def set_output_type(self, index: int, dtype: Any) -> None:
        self.output_types[index] = dtype


class FakeTensorRT:
    """The module; `said` is what its logger is told while it builds, `plans` what building gives in turn."""

    ILogger = Logger
    float32 = "FLOAT"

    def __init__(self, version: str = "10.3.0", weak: bool = True) -> None:
        self.__version__ = version
        flags = ["TF32", "GPU_FALLBACK", *(["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"] if weak else [])]
        self.BuilderFlag = IntEnum("BuilderFlag", flags, start=0)
        self.NetworkDefinitionCreationFlag = IntEnum(
            "F", ["EXPLICIT_BATCH", "STRONGLY_TYPED"] if weak else ["STRONGLY_TYPED"], start=0
        )
        self.PreviewFeature = IntEnum("PreviewFeature", ["PROFILE_SHARING_0806"])
        self.MemoryPoolType = IntEnum("MemoryPoolType", ["WORKSPACE"])
        self.ProfilingVerbosity = IntEnum("ProfilingVerbosity", ["DETAILED"])
        self.DeviceType = IntEnum("DeviceType", ["GPU", "DLA"])
        self.LayerType = IntEnum("LayerType", ["CONVOLUTION", "MATRIX_MULTIPLY", "ELEMENTWISE", "CONSTANT", "QUANTIZE"])
        self.TensorIOMode = IntEnum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
        self.LayerInformationFormat = IntEnum("LayerInformationFormat", ["JSON"])
        self.ExecutionContextAllocationStrategy = IntEnum("E", ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"], start=0)
        self.contexts: list[Context] = []
        self.plans: list[bytes | None] = [b"a plan"]
        self.while_building: list[str] = []
        self.while_parsing: list[str] = []
        self.layers = [
            Layer("scale", self.LayerType.ELEMENTWISE),
            Layer("weight", self.LayerType.CONSTANT),
            Layer("conv", self.LayerType.CONVOLUTION),
            Layer("relu", self.LayerType.ELEMENTWISE),
            Layer("head", self.LayerType.MATRIX_MULTIPLY),
            Layer("units", self.LayerType.ELEMENTWISE),
        ]
        self.on_dla = {"conv", "relu"}
        self.configs: list[Any] = []
        self.networks: list[Any] = []
        self.loaded: list[bytes] = []
        self.batch = (1, 4, 8)
        self.captures = True
        self.room: int | None = None  # so many allocations leave no room for a context

    def Builder(self, logger: Any) -> Any:  # noqa: N802
        return Builder(self, logger)

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802
        def parse(_: bytes) -> bool:
            for text in self.while_parsing:
                logger.log(Logger.WARNING, text)
            return True

        return SimpleNamespace(parse=parse, num_errors=0)

    def Runtime(self, _: Any) -> Any:  # noqa: N802
        def load(data: bytes) -> Any:
            self.loaded.append(data)
            return CudaEngine(self)

        return SimpleNamespace(deserialize_cuda_engine=load)


class Builder:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def create_network(self, flags: int) -> Any:
        layers = self.trt.layers
        tensor = SimpleNamespace(name="optical", shape=(-1, 3, 2))
        network = SimpleNamespace(
            flags=flags, num_inputs=1, get_input=lambda _: tensor, num_layers=len(layers), get_layer=layers.__getitem__
        )
        self.trt.networks.append(network)
        return network

    def create_builder_config(self) -> Any:
        self.trt.configs.append(Config(self.trt))
        return self.trt.configs[-1]

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(shapes=shapes, set_shape=lambda name, *sizes: shapes.update({name: sizes}))

    def build_serialized_network(self, _: Any, __: Any) -> bytes | None:
        plan = self.trt.plans.pop(0)
        if plan is None:
            for text in self.trt.while_building:
                self.logger.log(Logger.ERROR, text)
        return plan


class Config:
    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt, self.flags, self.pools, self.profiles = trt, {"TF32"}, {}, []
        self.previews: list[Any] = []
        self.builder_optimization_level = None
        self.cache = b""

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def set_memory_pool_limit(self, kind: Any, size: int) -> None:
        self.pools[kind.name] = size

    def set_preview_feature(self, feature: Any, _: bool) -> None:
        self.previews.append(feature.name)

    def add_optimization_profile(self, profile: Any) -> None:
        self.profiles.append(profile)

    def can_run_on_DLA(self, layer: Layer) -> bool:  # noqa: N802
        return layer.name in self.trt.on_dla

    def create_timing_cache(self, known: bytes) -> Any:
        return SimpleNamespace(known=known, serialize=lambda: bytearray(known + b"+timed"))

    def set_timing_cache(self, cache: Any, _: bool) -> bool:
        self.cache = cache
        return cache.known != b"damaged"

    def get_timing_cache(self) -> Any:
        return self.cache


class CudaEngine:
    """One input `optical` (n, 3, 2), one output `prediction` (n, 1): the sum of each sample."""

    num_io_tensors = 2

    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt = trt
        if tuple(map(int, trt.__version__.split(".")[:2])) >= (10, 1):
            self.device_memory_size_v2 = 1000

    def get_tensor_name(self, index: int) -> str:
        return ("optical", "prediction")[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name == "optical" else self.trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, _: str) -> Any:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        first = self.trt.batch[0] if self.trt.batch[0] == self.trt.batch[2] else -1
        return (first, 3, 2) if name == "optical" else (first, 1)

    def get_tensor_profile_shape(self, _: str, __: int) -> list[tuple[int, ...]]:
        return [(size, 3, 2) for size in self.trt.batch]

    def create_execution_context(self, strategy: Any = None) -> Any:
        if self.trt.room is not None and self.trt.cuda.alive() >= self.trt.room:
            return None
        self.trt.contexts.append(Context(self.trt, strategy))
        return self.trt.contexts[-1]

    def create_engine_inspector(self) -> Any:
        layers = [
            {"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Int8 NC/4HW4"}]},
            {"Name": "reformat", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Float"}]},
        ]
        return SimpleNamespace(get_engine_information=lambda _: json.dumps({"Layers": layers}))


class Context:
    def __init__(self, trt: FakeTensorRT, strategy: Any) -> None:
        self.trt, self.strategy, self.addresses, self.shape = trt, strategy, {}, ()
        self.memory: tuple[int, int] | None = None
        self.profile: int | None = None

    def set_device_memory(self, address: int, size: int) -> None:
        self.memory = address, size

    def set_optimization_profile_async(self, index: int, _: int) -> bool:
        self.profile = index
        return True

    def set_input_shape(self, _: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return self.trt.batch[0] <= shape[0] <= self.trt.batch[2]

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, _: int) -> bool:
        cuda = self.trt.cuda
        if cuda.capturing is not None and not self.trt.captures:
            return False
        cuda.do(self._compute)
        return True

    def _compute(self) -> None:
        n = self.shape[0]
        x = np.ctypeslib.as_array((ctypes.c_float * (n * 6)).from_address(self.addresses["optical"]))
        y = np.ctypeslib.as_array((ctypes.c_float * n).from_address(self.addresses["prediction"]))
        y[:] = x.reshape(n, 6).sum(axis=1)


class FakeCuda:
    """The functions of `cuda.cudart`; `calls` are their names, `live` the addresses that were not freed."""

    cudaStreamNonBlocking, cudaEventRecordExternal = 1, 1  # noqa: N815
    cudaMemcpyKind = IntEnum("K", ["cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"])  # noqa: N815
    cudaDeviceAttr = IntEnum("A", ["cudaDevAttrComputeCapabilityMajor", "cudaDevAttrComputeCapabilityMinor"])  # noqa: N815
    cudaStreamCaptureMode = IntEnum("M", ["cudaStreamCaptureModeThreadLocal"])  # noqa: N815

    def __init__(self, devices: int = 1) -> None:
        self.devices, self.calls, self.live = devices, [], {}
        self.capturing: list[Any] | None = None
        self.clock = 0.0
        self.fail: str | None = None

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            if name == self.fail:
                return (2, None)
            found = getattr(self, f"_{name}", lambda *_: None)(*arguments)
            return (0,) if found is None else (0, found)

        return call

    def alive(self) -> int:
        return len(self.live)

    def do(self, work: Any) -> None:
        if self.capturing is None:
            work()
        else:
            self.capturing.append(work)

    def _cudaGetErrorString(self, _: int) -> bytes:  # noqa: N802
        return b"out of memory"

    def _cudaGetDeviceCount(self) -> int:  # noqa: N802
        return self.devices

    def _cudaDeviceGetAttribute(self, kind: Any, _: int) -> int:  # noqa: N802
        return 8 if kind.name.endswith("Major") else 7

    def _cudaGetDeviceProperties(self, _: int) -> Any:  # noqa: N802
        return SimpleNamespace(name=b"Orin\0\0")

    def _cudaStreamCreateWithFlags(self, _: int) -> int:  # noqa: N802
        return 7

    def _cudaHostAlloc(self, size: int, _: int) -> int:  # noqa: N802
        return self._cudaMalloc(size)

    def _cudaMalloc(self, size: int) -> int:  # noqa: N802
        memory = ctypes.create_string_buffer(size)
        self.live[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def _cudaFree(self, address: int) -> None:  # noqa: N802
        del self.live[address]

    def _cudaFreeHost(self, address: int) -> None:  # noqa: N802
        del self.live[address]

    def _cudaMemcpyAsync(self, to: int, source: int, size: int, _: Any, __: Any) -> None:  # noqa: N802
        self.do(lambda: ctypes.memmove(to, source, size))

    def _cudaStreamBeginCapture(self, _: Any, __: Any) -> None:  # noqa: N802
        self.capturing = []

    def _cudaStreamEndCapture(self, _: Any) -> Any:  # noqa: N802
        graph, self.capturing = self.capturing, None
        return graph

    def _cudaGraphInstantiateWithFlags(self, graph: Any, _: int) -> Any:  # noqa: N802
        return list(graph)

    def _cudaGraphLaunch(self, graph: Any, _: Any) -> None:  # noqa: N802
        for work in graph:
            work()

    def _cudaEventCreate(self) -> dict[str, float]:  # noqa: N802
        return {}

    def _cudaEventRecordWithFlags(self, event: Any, _: Any, flags: int) -> None:  # noqa: N802
        assert bool(flags) == (self.capturing is not None), "external events are for captures, and only for them"

        def record() -> None:
            self.clock += 1.0
            event["ms"] = self.clock

        self.do(record)

    def _cudaEventElapsedTime(self, start: Any, end: Any) -> float:  # noqa: N802
        return end["ms"] - start["ms"]
