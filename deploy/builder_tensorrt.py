"""From an ONNX graph to a TensorRT plan: one builder for TensorRT 8.5 to 11 and for TensorRT for RTX.

TensorRT builds on the board that will run the plan. TensorRT-RTX also builds on a machine without a GPU, for the GPUs
that it names; that shows that a graph is legal (its parser is that of TensorRT 10 and 11) and compiles, and says
nothing about a Jetson: Orin and Thor are not among its targets. A result therefore says which builder ran.

Weakly typed networks (TensorRT 8.5 to 10) get the flags FP16 and INT8, never a calibrator, and FP32 layers in front of
the first and behind the last one with weights, where sensor values and units are too large for FP16. Strongly typed
networks get no flags: FP16 is in the graph (edge.deploy.half). FP32 means FP32, not TF32.

A warning of the parser about types is an error. A uint8 graph gives one: it is read as int8, which clips half of each
range. It has nothing to say about a good graph.

Where the graph declares sparse layers, TensorRT may use kernels for 2:4 sparsity (flag SPARSE_WEIGHTS). It takes them
only where they are faster; what it says about that is handed on.
"""

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.deploy import dla, timing_cache
from edge.deploy.onnx_file import read_onnx
from edge.deploy.progress import Progress, monitor
from edge.deploy.sparsity import PATTERN, SPARSE_LAYERS
from edge.deploy.tensorrt_api import Api, Messages, load
from edge.errors import FitError, InputError

PRECISIONS = ("fp32", "fp16", "int8")
USUAL_BATCH = 32
SMALLEST_WORKSPACE_MB = 16
_FIRST_RETRY_MB = 1024  # without a limit TensorRT may take all that the GPU has, which on a board is everything
_ABOUT_TYPES = re.compile(r"u?int8|quantiz|zero.?point|precision", re.IGNORECASE)
_WITH_WEIGHTS = ("CONVOLUTION", "DECONVOLUTION", "FULLY_CONNECTED", "MATRIX_MULTIPLY", "RNN_V2", "EINSUM")
_WITHOUT_TYPE = ("CONSTANT", "SHAPE", "QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True)
class Options:
    """How to build. None leaves the choice to TensorRT."""

    precision: str = "fp32"  # of PRECISIONS; int8 means INT8 where the graph has Q/DQ pairs, and FP16 elsewhere
    batch: tuple[int, int, int] = (
        1,
        USUAL_BATCH,
        256,
    )  # smallest, usual (tuned for), largest; all the same: a fixed batch
    workspace_mb: int | None = None  # scratch memory that kernels may use, in MiB
    level: int | None = None  # builder optimisation level, 0 (quick to build) to 5 (searches longest)
    strongly_typed: bool = False  # ask for it where it is a choice
    dla: int | None = None  # number of the deep-learning accelerator

    def check(self) -> "Options":
        """Raise InputError for what cannot be; return self."""
        low, usual, high = self.batch
        if self.precision not in PRECISIONS:
            raise InputError(f"the precision {self.precision!r} is not known; use one of {', '.join(PRECISIONS)}")
        if not 1 <= low <= usual <= high:
            raise InputError(f"batch sizes {self.batch} are not smallest <= usual <= largest, from 1 on")
        if self.workspace_mb is not None and self.workspace_mb < SMALLEST_WORKSPACE_MB:
            raise InputError(f"the workspace is {self.workspace_mb} MiB; it must be at least {SMALLEST_WORKSPACE_MB}")
        if self.level is not None and not 0 <= self.level <= 5:
            raise InputError(f"the builder's level is {self.level}; it must be from 0 to 5")
        if self.dla is not None and self.dla < 0:
            raise InputError(f"the DLA's number is {self.dla}; it must be 0 or more")
        return self

    def to_json(self) -> dict[str, Any]:
        """For a plan's key and a report."""
        return {**asdict(self), "batch": list(self.batch)}


def options_from_json(values: Any) -> Options:
    """The reverse of Options.to_json; InputError for anything else."""
    try:
        return Options(**{**values, "batch": tuple(values["batch"])}).check()
    except (TypeError, KeyError, ValueError):
        raise InputError(f"{values!r} are no build options") from None


@dataclass(frozen=True)
class BuildResult:
    """A serialized engine and how it came about."""

    plan: bytes
    builder: str  # which one ran, such as "tensorrt 10.3.0"
    typed: str  # "strongly" or "weakly"
    seconds: float  # of parsing and building
    capabilities: tuple[str, ...]  # GPUs that it was built for; empty: the one that is here
    workspace_mb: int | None
    warnings: tuple[str, ...]  # of parser and builder, none about types
    on_gpu: tuple[str, ...]  # layers that were meant for the DLA and run on the GPU
    sparsity: tuple[str, ...] = ()  # of a graph with sparse layers: what became of them

    def to_json(self) -> dict[str, Any]:
        """All but the plan."""
        return {name: value for name, value in asdict(self).items() if name != "plan"}


def build(
    graph: Path,
    options: Options | None = None,
    *,
    backend: str = "tensorrt_rtx",
    notify: Callable[[str], None] = lambda message: None,
    progress: Progress | None = None,
) -> BuildResult:
    """Parse and compile `graph` with the module `backend`.

    `notify` gets a line for each thing that is not as asked (a smaller workspace, a layer that leaves the DLA), and
    what becomes of sparse layers.
    InputError with NVIDIA's message if the graph is refused or its types would be changed; BackendMissing if the module
    is missing, or onnx where FP16 must be written into the graph; FitError if this machine cannot build it.
    """
    options, api = (options or Options()).check(), load(backend)
    strong = api.strongly_typed(options.strongly_typed)
    data = _typed(graph, options.precision, strong)
    dla.check(api, options.precision, options.batch, options.dla)
    workspace = options.workspace_mb
    start = time.perf_counter()
    while True:
        messages = Messages()
        attempt = _Attempt(api, graph, options, strong, workspace, messages, notify, progress)
        plan = attempt.build(data)
        if plan is not None:
            break
        if not messages.out_of_memory():
            raise InputError(f"{api.label} cannot build {graph}: {attempt.errors()}")
        smaller = _FIRST_RETRY_MB if workspace is None else workspace // 4
        if smaller < SMALLEST_WORKSPACE_MB:
            raise FitError(
                f"{api.label} is out of memory while building {graph}, with {workspace} MiB of workspace, too: close "
                "other programs, add swap (`edge doctor` has the line), or build with a smaller --max-batch"
            )
        notify(f"out of memory while building {graph.name}; trying again with {smaller} MiB of workspace")
        workspace = smaller
    for line in (sparsity := attempt.sparsity()):
        notify(line)
    return BuildResult(
        plan, api.label, "strongly" if strong else "weakly", time.perf_counter() - start, attempt.capabilities,
        workspace, messages.of(api.trt.ILogger.WARNING), attempt.on_gpu, sparsity,
    )  # fmt: skip


def _typed(graph: Path, precision: str, strong: bool) -> bytes:
    """The graph's bytes; in a strongly typed network FP16 is written into it."""
    data = read_onnx(graph)
    quantized = b"QuantizeLinear" in data  # the name of an operator stands in the file as it is
    if quantized != (precision == "int8"):
        found = "has Q/DQ pairs" if quantized else "has no Q/DQ pairs"
        raise InputError(f"{graph} {found} and cannot be built in {precision}; take the bundle's other graph")
    from edge.deploy.half import HALF, half_graph

    if HALF.encode() in data:
        if strong and precision == "fp16":
            return data
        raise InputError(f"{graph} has FP16 inside, for strongly typed networks alone; take the bundle's fp32 graph")
    if not strong or precision == "fp32":
        return data
    from edge.deploy.onnx_graph import load_graph

    return bytes(half_graph(load_graph(graph)).SerializeToString())


class _Attempt:
    """One go at building; what TensorRT says goes to `messages`."""

    def __init__(
        self, api: Api, graph: Path, options: Options, strong: bool, workspace_mb: int | None,
        messages: Messages, notify: Callable[[str], None], progress: Progress | None,
    ) -> None:  # fmt: skip
        self.api, self.graph, self.options, self.strong = api, graph, options, strong
        self.workspace_mb, self.messages, self.notify, self.progress = workspace_mb, messages, notify, progress
        self.capabilities: tuple[str, ...] = ()
        self.on_gpu: tuple[str, ...] = ()
        self.sparse = False

    def build(self, data: bytes) -> bytes | None:
        """The plan, or None if the builder failed."""
        self.sparse = SPARSE_LAYERS.encode() in data  # a key of the metadata stands in the file as it is
        trt, logger = self.api.trt, self.api.logger(self.messages)
        builder = _made(trt.Builder, logger, self)
        network = builder.create_network(self._network_flags())
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(data):
            raise InputError(f"TensorRT refuses {self.graph}: {_parser_errors(parser) or self.errors()}")
        self._check_types()
        config = self._config(builder, network)
        cache = timing_cache.put_in(self.api, config)
        watched = monitor(trt, self.progress)
        if watched is not None:
            config.progress_monitor = watched
        plan = builder.build_serialized_network(network, config)
        if watched is not None:
            watched.raise_if_stopped()
        if plan is None:
            return None
        timing_cache.keep(config, cache)
        return bytes(plan)

    def errors(self) -> str:
        """What TensorRT logged as an error."""
        return "; ".join(self.messages.of(self.api.trt.ILogger.ERROR)) or "it does not say why"

    def sparsity(self) -> tuple[str, ...]:
        """What became of the sparse layers; nothing for a graph without."""
        if not self.sparse:
            return ()
        if not self._has_sparse_kernels():
            return (f"{self.api.label} has no kernels for {PATTERN} sparsity: it computes with the zeros",)
        said = tuple(text for text in self.messages.of(self.api.trt.ILogger.INFO) if "sparsity" in text.lower())
        return said or (f"{PATTERN} sparsity: {self.api.label} may use sparse kernels; it does not say where it does",)

    def _has_sparse_kernels(self) -> bool:
        return "SPARSE_WEIGHTS" in self.api.trt.BuilderFlag.__members__

    def _network_flags(self) -> int:
        flags, bits = self.api.trt.NetworkDefinitionCreationFlag, 0
        if not self.api.rtx and self.api.number < (10,):
            bits |= 1 << int(flags.EXPLICIT_BATCH)
        if self.strong and "STRONGLY_TYPED" in flags.__members__:  # its number differs between 10 and 11
            bits |= 1 << int(flags.STRONGLY_TYPED)
        return bits

    def _check_types(self) -> None:
        """InputError if the parser changed types or quantization."""
        if changed := [text for text in self.messages.of(self.api.trt.ILogger.WARNING) if _ABOUT_TYPES.search(text)]:
            raise InputError(f"TensorRT would change the types of {self.graph}: {'; '.join(changed)}")

    def _config(self, builder: Any, network: Any) -> Any:
        trt, options = self.api.trt, self.options
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector tells precisions, at no cost
        config.clear_flag(trt.BuilderFlag.TF32)
        if self.workspace_mb is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self.workspace_mb << 20)
        if options.level is not None:
            if not hasattr(config, "builder_optimization_level"):
                raise InputError(f"TensorRT {self.api.version} has no builder level (8.6 brought it): leave it out")
            config.builder_optimization_level = options.level
        if not self.api.rtx and self.api.number < (10,) and "PROFILE_SHARING_0806" in trt.PreviewFeature.__members__:
            config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)  # a context per batch size
        _set_batch(builder, network, config, self.graph, options.batch)
        if not self.strong and options.precision != "fp32":
            config.set_flag(trt.BuilderFlag.FP16)
            if options.precision == "int8":
                config.set_flag(trt.BuilderFlag.INT8)
            keep_ends_in_fp32(trt, network, config)
        if self.sparse and self._has_sparse_kernels():
            config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
        if self.api.rtx:
            self.capabilities = _target(trt, config)
            if "REQUIRE_USER_ALLOCATION" in trt.BuilderFlag.__members__:  # a run that allocates fits in no CUDA graph
                config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        if options.dla is not None:
            self.on_gpu = dla.put_in(self.api, config, network, options.dla, self.notify)
        return config


def keep_ends_in_fp32(trt: Any, network: Any, config: Any) -> None:
    """Hold the layers in front of the first and behind the last one with weights at FP32, in a weakly typed network.

    TensorRT keeps the parser's order, so what comes before the first in it cannot lie behind it.
    """
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    members = trt.LayerType.__members__
    weighted = {members[name] for name in _WITH_WEIGHTS if name in members}
    skipped = {members[name] for name in _WITHOUT_TYPE if name in members}
    places = [place for place, layer in enumerate(layers) if layer.type in weighted]
    for place, layer in enumerate(layers):
        between = places and places[0] <= place <= places[-1]
        if between or layer.type in skipped or layer.get_output(0).dtype != trt.float32:
            continue
        layer.precision = trt.float32
        for index in range(layer.num_outputs):
            layer.set_output_type(index, trt.float32)


def _made(kind: Any, logger: Any, attempt: _Attempt) -> Any:
    """`kind(logger)`; TensorRT's own way to say that there is no GPU is to return nothing."""
    try:
        made = kind(logger)
    except (TypeError, RuntimeError) as error:  # pybind11: "factory function returned nullptr"
        raise FitError(f"{attempt.api.label} cannot build here ({error}): {attempt.errors()}") from None
    return made


def _set_batch(builder: Any, network: Any, config: Any, graph: Path, batch: tuple[int, int, int]) -> None:
    """A fixed first axis, or one profile with the batch sizes, for each input whose first axis is free."""
    profile, used = builder.create_optimization_profile(), False
    for tensor in (network.get_input(index) for index in range(network.num_inputs)):
        first, *rest = tuple(tensor.shape)
        if -1 in rest:
            raise InputError(
                f"{graph}: input {tensor.name!r} has free axes besides the batch: {[first, *rest]}; fix them"
            )
        if first == -1 and batch[0] == batch[2]:
            tensor.shape = (batch[0], *rest)
        elif first == -1:
            profile.set_shape(tensor.name, *((size, *rest) for size in batch))
            used = True
    if used:
        config.add_optimization_profile(profile)


def _target(trt: Any, config: Any) -> tuple[str, ...]:
    """The GPU that is here, or without one every GPU since Ampere (Orin's generation) that TensorRT-RTX can name;
    for Turing (SM75) it has no FP32 Gemm.
    """
    from edge.deploy.gpu import gpu_here

    known = trt.ComputeCapability.__members__
    ahead = [name for name in known if name.startswith("SM") and int(name[2:]) >= 80]
    names = ["CURRENT"] if gpu_here() else ahead
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(known[name], index)
    return tuple(names)


def _parser_errors(parser: Any) -> str:
    """The parser's own words, with the node that they are about."""
    from edge.deploy.tensorrt_api import clean

    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return "; ".join(f"node {_node(error)!r}: {clean(error.desc())}" for error in errors)


def _node(error: Any) -> str:
    """The node's name; TensorRT 8 knows its number alone."""
    return error.node_name() if hasattr(error, "node_name") else f"number {error.node()}"
