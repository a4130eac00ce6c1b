"""NNCF puts fake quantization into a folded student; this file says where, and reads the trained ranges back.

Symmetric, signed, one range for each tensor: what TensorRT accepts. One range for all output channels of a weight loses
nothing here that fine-tuning does not bring back, and ONNX Runtime rescales faster by one number than by 512
(benchmarks/RESULTS.md). A depthwise convolution is the exception: each of its channels is a filter of its own, and
their sizes lie far apart once batch norm is folded in, so each has its own range.

In float stay the heads (quantization ends with the trunk features and the shared features) and the parts of the trunk
that its family declares (`float_parts`). Residual sums and the mean over a map get ranges too; which of them are used
is the target's affair (compress/placement.py).
"""

import contextlib
import copy
import io
import logging
import os
import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from edge.compress.fold import FoldedStudent
from edge.train.encoders.blocks import float_parts

# NNCF reads these when it is imported: nothing of a user's model leaves the machine, and its C++ extension, which is
# compiled on first use, may take its time on a small computer.
os.environ.setdefault("NNCF_CI", "1")
os.environ.setdefault("NNCF_EXTENSION_LOAD_TIMEOUT", "600")

# Operations through which a range travels unchanged, and those that keep a tensor non-negative.
PASS_THROUGH = ("transpose", "flatten", "reshape", "view", "permute", "max_pool2d", "cat")
KEEPS_SIGN = (*PASS_THROUGH, "adaptive_avg_pool2d", "symmetric_quantize")
LAYERS = ("conv1d", "conv2d", "linear")
OPERATORS = ("add", "adaptive_avg_pool2d")

# Smallest range of a depthwise filter, relative to the largest: what is below is 0 in any sum that matters, and with a
# range of 0 the bias, in steps of input times weight, would not fit into 32 bits.
SMALLEST_FILTER = 2.0**-10


@dataclass(frozen=True)
class InputRange:
    """The trained range of what one layer or operator reads: [-limit, limit].

    `non_negative` says that it is behind a ReLU, so that only [0, limit] is used.
    """

    input_limit: float
    non_negative: bool


@dataclass(frozen=True)
class LayerRange(InputRange):
    """The trained ranges of one layer: of its input, and [-limit, limit] of its weights, or of each output channel."""

    weight_limit: float | tuple[float, ...]

    @property
    def weight_scale(self) -> npt.NDArray[np.float64]:
        """Step of the int8 weights: one number, or one for each output channel."""
        return np.asarray(self.weight_limit, np.float64) / 127


def range_from_json(entry: dict[str, Any]) -> InputRange:
    """The reverse of dataclasses.asdict, also after JSON, which knows no tuples."""
    if "weight_limit" not in entry:
        return InputRange(**entry)
    limit = entry["weight_limit"]
    return LayerRange(**{**entry, "weight_limit": tuple(limit) if isinstance(limit, list) else limit})


def quantize(student: FoldedStudent, calibration: Iterable[Tensor]) -> nn.Module:
    """A copy of `student` with fake quantizers whose ranges come from the batches of `calibration`.

    The model is called like the student and gives the same tuple. A student with a layer that has no INT8 form (a GRU)
    is only copied.
    """
    if any(isinstance(part, nn.GRU) for part in student.modules()):
        return copy.deepcopy(student)
    nncf, advanced, scheme = _nncf()
    parameters = advanced.QuantizationParameters
    batches = list(calibration)
    in_float = ["to_specific/.*", "to_specific_.*", "head/.*"]
    if not isinstance(student.to_specific, nn.Linear):
        in_float.append("to_shared/.*")  # LayerNorm stands between: integers would have to stop and start again
    in_float += [f"{name.replace('.', '/')}/.*" for name in float_parts(student)]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # NNCF draws its own progress bar
        warnings.simplefilter("ignore")
        quantized: nn.Module = nncf.quantize(
            student,
            nncf.Dataset(batches),
            subset_size=len(batches),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            ignored_scope=nncf.IgnoredScope(patterns=in_float, validate=False),
            advanced_parameters=advanced.AdvancedQuantizationParameters(
                overflow_fix=advanced.OverflowFix.DISABLE,  # it halves the range for CPUs without VNNI
                disable_bias_correction=True,  # fine-tuning follows
                activations_quantization_params=parameters(mode=scheme.SYMMETRIC, per_channel=False),
                weights_quantization_params=parameters(mode=scheme.SYMMETRIC, per_channel=False),
            ),
        )
    for quantizer in quantizers(quantized).values():
        quantizer.signed = True
    _ranges_by_filter(quantized, batches[0][:1])
    return quantized


def quantizers(quantized: nn.Module) -> dict[str, Any]:
    """NNCF's quantizer modules by hook name; one that is shared appears under each of its names."""
    return {
        name: module
        for name, module in quantized.named_modules(remove_duplicate=False)
        if type(module).__name__ == "SymmetricQuantizer"
    }


@dataclass(frozen=True)
class LayerQuantizers:
    """NNCF's quantizers of a layer's input and weights (None: no weights); whether the input is behind a ReLU."""

    activation: Any
    weight: Any
    non_negative: bool


def layer_quantizers(quantized: nn.Module, sample: Tensor) -> dict[str, LayerQuantizers]:
    """The quantizers of each quantized layer by its module name, found by walking NNCF's graph upwards; of a layer that
    was excluded (`leave_in_float`) the one of its input, if it has kept that.

    An operator without weights has one entry for each of its inputs that is quantized: `layer1_0.add.0` is the branch
    and `layer1_0.add.1` the shortcut.
    """
    modules = quantizers(quantized)
    if not modules:
        return {}
    into = _sources(quantized, sample)
    found = {}
    for name, sources in into.items():
        layer, _, kind = name.rpartition("/")[0].rpartition("/")
        layer = layer.replace("/", ".")
        if kind in LAYERS and "symmetric_quantize" in sources.get(1, ""):
            node = _walk_up(into, sources[0])
            of_input, of_weight = (_quantizer(modules, into, each) for each in (node, sources[1]))
            found[layer] = LayerQuantizers(of_input, of_weight, _behind_relu(into, node))
        elif kind in LAYERS and layer in getattr(quantized, "excluded", ()):
            if (above := _quantizer_above(into, sources[0])) is not None:
                found[layer] = LayerQuantizers(_quantizer(modules, into, above), None, _behind_relu(into, above))
        elif kind in OPERATORS:
            for port, source in sorted(sources.items()):
                if (above := _quantizer_above(into, source)) is not None:
                    of_input = _quantizer(modules, into, above)
                    found[f"{layer}.{port}"] = LayerQuantizers(of_input, None, _behind_relu(into, above))
    return found


def layer_ranges(quantized: nn.Module, sample: Tensor) -> dict[str, InputRange]:
    """The trained ranges by the names of `layer_quantizers`."""
    ranges: dict[str, InputRange] = {}
    for name, layer in layer_quantizers(quantized, sample).items():
        limit = float(layer.activation.scale.detach().abs())
        if layer.weight is None:
            ranges[name] = InputRange(limit, layer.non_negative)
        else:
            limits = layer.weight.scale.detach().abs().flatten().tolist()
            ranges[name] = LayerRange(limit, layer.non_negative, limits[0] if len(limits) == 1 else tuple(limits))
    return ranges


def leave_in_float(quantized: nn.Module, sample: Tensor, names: Collection[str], kept: Collection[str]) -> None:
    """From now on the layers `names` compute in float; those also in `kept` still read their input on its grid."""
    layers = layer_quantizers(quantized, sample)
    needed = [each.activation for name, each in layers.items() if name not in names or name in kept]
    for name in names:
        layers[name].weight.disable_quantization()
        if not any(layers[name].activation is other for other in needed):
            layers[name].activation.disable_quantization()
    quantized.excluded = tuple(sorted(names))  # type: ignore[assignment]  # torch types every attribute as a tensor


@contextlib.contextmanager
def float_layers(quantized: nn.Module, sample: Tensor, names: set[str]) -> Iterator[None]:
    """Within the block the layers and operators `names` compute in float, as on a target that leaves them alone."""
    layers = layer_quantizers(quantized, sample)
    needed = [layer.activation for name, layer in layers.items() if name not in names]
    off = [layers[name].weight for name in names if layers[name].weight is not None]
    off += [layers[name].activation for name in names if not any(layers[name].activation is other for other in needed)]
    for quantizer in off:
        quantizer.disable_quantization()
    try:
        yield
    finally:
        for quantizer in off:
            quantizer.enable_quantization()


@contextlib.contextmanager
def uint8_behind_relu(quantized: nn.Module, sample: Tensor) -> Iterator[None]:
    """Within the block, what is behind a ReLU has 255 steps from 0 to its limit, as on a target with uint8 activations;
    otherwise it has 127, like int8.
    """
    layers = layer_quantizers(quantized, sample).values()
    changed = [layer.activation for layer in layers if layer.non_negative]
    for quantizer in changed:
        quantizer.signed = False
    try:
        yield
    finally:
        for quantizer in changed:
            quantizer.signed = True


def _ranges_by_filter(quantized: nn.Module, sample: Tensor) -> None:
    """Give the weights of depthwise convolutions one range for each filter."""
    depthwise = {
        name
        for name, part in quantized.named_modules()
        if isinstance(part, nn.Conv1d | nn.Conv2d) and part.groups == part.in_channels > 1
    }
    if not depthwise:
        return
    for name, layer in layer_quantizers(quantized, sample).items():
        if name in depthwise:
            weight = quantized.get_parameter(f"{name}.weight").detach()
            limits = weight.abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True)  # (channels, 1, 1)
            limits = limits.clamp_min(float(limits.max()) * SMALLEST_FILTER)
            layer.weight.scale = nn.Parameter(limits)


def _sources(quantized: nn.Module, sample: Tensor) -> dict[str, dict[int, str]]:
    """NNCF's graph: node -> input port -> the node that feeds it."""
    from nncf.torch.function_hook.nncf_graph.nncf_graph_builder import build_nncf_graph

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = build_nncf_graph(quantized, sample)
    into: dict[str, dict[int, str]] = {}
    for edge in graph.get_all_edges():
        into.setdefault(edge.to_node.node_name, {})[edge.input_port_id] = edge.from_node.node_name
    return into


def _kind(name: str) -> str:
    return name.rpartition("/")[0].rpartition("/")[2]


def _quantizer_above(into: dict[str, dict[int, str]], name: str) -> str | None:
    """From an input upwards to its quantizer, through what only moves data."""
    while "symmetric_quantize" not in name:
        if _kind(name) not in PASS_THROUGH:
            return None
        name = into[name][0]
    return name


def _walk_up(into: dict[str, dict[int, str]], name: str) -> str:
    """The same for a layer whose weights are quantized: there must be one."""
    above = _quantizer_above(into, name)
    if above is None:
        raise ValueError(f"no quantizer above {name!r}")
    return above


def _behind_relu(into: dict[str, dict[int, str]], name: str) -> bool:
    """Whether what a quantizer reads cannot be negative."""
    while _kind(name) in KEEPS_SIGN:
        name = into[name][0]
    return _kind(name) == "relu"


def _quantizer(modules: dict[str, Any], into: dict[str, dict[int, str]], name: str) -> Any:
    """The module behind a quantizer node: port 4 of the node is its scale, which carries the hook's name."""
    return modules[into[name][4].removesuffix("._scale_param_storage")]


def _nncf() -> tuple[Any, Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nncf
        from nncf.common.quantization.structs import QuantizationScheme
        from nncf.quantization import advanced_parameters
        from nncf.torch.quantization.extensions import QuantizedFunctionsCPU

        nncf.set_log_level(logging.ERROR)
        QuantizedFunctionsCPU.get("Quantize_forward")  # compiles it here
    return nncf, advanced_parameters, QuantizationScheme
