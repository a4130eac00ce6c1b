"""NNCF puts fake quantization into a folded student; this file says where, and reads the trained ranges back.

Symmetric, signed, one range for each tensor: what TensorRT accepts. One range for all output channels of a weight loses
nothing here that fine-tuning does not bring back, and ONNX Runtime rescales faster by one number than by 512
(benchmarks/RESULTS.md). The heads stay in float: quantization ends with the trunk features and the shared features.
"""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edge.compress.fold import FoldedStudent

# NNCF reads these when it is imported: nothing of a user's model leaves the machine, and its C++ extension, which is
# compiled on first use, may take its time on a small computer.
os.environ.setdefault("NNCF_CI", "1")
os.environ.setdefault("NNCF_EXTENSION_LOAD_TIMEOUT", "600")

# Operations through which a range travels unchanged.
PASS_THROUGH = ("transpose", "flatten", "reshape", "view", "permute")


@dataclass(frozen=True)
class LayerRange:
    """The trained ranges of one layer: input in [-limit, limit], weights in [-limit, limit].

    `non_negative` says that the input is behind a ReLU, so that only [0, limit] is used.
    """

    input_limit: float
    non_negative: bool
    weight_limit: float

    @property
    def weight_scale(self) -> float:
        """Step of the int8 weights."""
        return self.weight_limit / 127


def quantize(student: FoldedStudent, calibration: Iterable[Tensor]) -> nn.Module:
    """A copy of `student` with fake quantizers whose ranges come from the batches of `calibration`.

    The model is called like the student and gives the same tuple.
    """
    nncf, advanced, scheme = _nncf()
    parameters = advanced.QuantizationParameters
    batches = list(calibration)
    float_parts = ["to_specific/.*", "to_specific_.*", "head/.*"]
    if not isinstance(student.to_specific, nn.Linear):
        float_parts.append("to_shared/.*")  # LayerNorm stands between: integers would have to stop and start again
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # NNCF draws its own progress bar
        warnings.simplefilter("ignore")
        quantized: nn.Module = nncf.quantize(
            student,
            nncf.Dataset(batches),
            subset_size=len(batches),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            ignored_scope=nncf.IgnoredScope(patterns=float_parts, validate=False),
            advanced_parameters=advanced.AdvancedQuantizationParameters(
                overflow_fix=advanced.OverflowFix.DISABLE,  # it halves the range for CPUs without VNNI
                disable_bias_correction=True,  # fine-tuning follows
                activations_quantization_params=parameters(mode=scheme.SYMMETRIC, per_channel=False),
                weights_quantization_params=parameters(mode=scheme.SYMMETRIC, per_channel=False),
            ),
        )
    for quantizer in quantizers(quantized).values():
        quantizer.signed = True
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
    """NNCF's quantizers of one layer's input and weights; whether the input is behind a ReLU."""

    activation: Any
    weight: Any
    non_negative: bool


def layer_quantizers(quantized: nn.Module, sample: Tensor) -> dict[str, LayerQuantizers]:
    """The quantizers of each quantized layer by its module name, found by walking NNCF's graph upwards."""
    from nncf.torch.function_hook.nncf_graph.nncf_graph_builder import build_nncf_graph

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = build_nncf_graph(quantized, sample)
    modules = quantizers(quantized)
    into: dict[str, dict[int, str]] = {}
    for edge in graph.get_all_edges():
        into.setdefault(edge.to_node.node_name, {})[edge.input_port_id] = edge.from_node.node_name
    found = {}
    for name, sources in into.items():
        layer, _, kind = name.rpartition("/")[0].rpartition("/")
        if kind in ("conv1d", "conv2d", "linear") and "symmetric_quantize" in sources.get(1, ""):
            activation, relu = _walk_up(into, sources[0])
            of_input, of_weight = (_quantizer(modules, into, node) for node in (activation, sources[1]))
            found[layer.replace("/", ".")] = LayerQuantizers(of_input, of_weight, relu)
    return found


def layer_ranges(quantized: nn.Module, sample: Tensor) -> dict[str, LayerRange]:
    """The trained ranges of each quantized layer by its module name."""
    return {
        name: LayerRange(
            float(layer.activation.scale.detach().abs()),
            layer.non_negative,
            float(layer.weight.scale.detach().abs()),
        )
        for name, layer in layer_quantizers(quantized, sample).items()
    }


@contextlib.contextmanager
def float_layers(quantized: nn.Module, sample: Tensor, names: set[str]) -> Iterator[None]:
    """Within the block the layers `names` compute in float, as on a target that does not quantize them."""
    layers = layer_quantizers(quantized, sample)
    needed = [layer.activation for name, layer in layers.items() if name not in names]
    off = [layers[name].weight for name in names]
    off += [layers[name].activation for name in names if not any(layers[name].activation is other for other in needed)]
    for quantizer in off:
        quantizer.disable_quantization()
    try:
        yield
    finally:
        for quantizer in off:
            quantizer.enable_quantization()


def _walk_up(into: dict[str, dict[int, str]], name: str) -> tuple[str, bool]:
    """From a layer's input upwards to its quantizer; whether that one stands behind a ReLU."""
    while "symmetric_quantize" not in name:
        if name.rpartition("/")[0].rpartition("/")[2] not in PASS_THROUGH:
            raise ValueError(f"no quantizer above {name!r}")
        name = into[name][0]
    return name, into[name][0].rpartition("/")[0].endswith("/relu")


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
        QuantizedFunctionsCPU.get("Quantize_forward")  # compiles it here, and leaves a thread pool open: a warning
    return nncf, advanced_parameters, QuantizationScheme
