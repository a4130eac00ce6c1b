"""Layers of a student that stay in float on purpose, on every target, while the others become INT8.

They are excluded before fine-tuning, so the others learn beside them as they will run. A name is LAYER, which means
that layer of every modality, or MODALITY.LAYER; `edge compress --sensitivity` lists them. Sums and means have no
weights and go with the layers around them.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx
from torch import Tensor, nn

from edge.compress.placement import place
from edge.compress.quantize import InputRange, LayerRange, layer_ranges, leave_in_float
from edge.deploy.onnx_graph import Graph
from edge.errors import InputError

if TYPE_CHECKING:
    from edge.train.training import Trained


def exclude(
    students: nn.ModuleDict, trained: "Trained", samples: Mapping[str, Tensor], patterns: Sequence[str]
) -> None:
    """Leave the layers of `patterns` in float in the fake-quantized `students`; InputError as in `matching`.

    samples: one normalised sample (1, *shape) of each modality.
    """
    from edge.compress.graphs import fp32_graph

    if not patterns:
        return
    ranges = {name: layer_ranges(student, samples[name]) for name, student in students.items()}
    for modality, names in matching(patterns, layers_of(ranges)).items():
        if names:
            kept = read_integers(fp32_graph(trained, modality), ranges[modality], names)
            leave_in_float(students[modality], samples[modality], names, kept)


def layers_of(ranges: Mapping[str, Mapping[str, InputRange]]) -> dict[str, list[str]]:
    """The INT8 layers with weights of each modality."""
    return {
        modality: [name for name, limits in found.items() if isinstance(limits, LayerRange)]
        for modality, found in ranges.items()
    }


def matching(patterns: Sequence[str], layers: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The layers of each modality that a pattern names; InputError for one that names none, and if none is left."""
    chosen: dict[str, dict[str, None]] = {modality: {} for modality in layers}
    for pattern in patterns:
        found = [
            (modality, name)
            for modality, names in layers.items()
            for name in names
            if any(fnmatch.fnmatchcase(full, pattern) for full in (name, f"{modality}.{name}"))
        ]
        if not found:
            known = ", ".join(f"{modality}.{name}" for modality, names in layers.items() for name in names)
            raise InputError(f"--exclude {pattern!r} names no INT8 layer; the layers are: {known}")
        for modality, name in found:
            chosen[modality][name] = None
    for modality, names in layers.items():
        if names and len(chosen[modality]) == len(names):
            raise InputError(
                f"--exclude leaves no layer of {modality!r} in INT8 ({', '.join(names)}); exclude fewer, or build it "
                "with --precision fp32"
            )
    return {modality: tuple(names) for modality, names in chosen.items()}


def read_integers(graph: onnx.ModelProto, ranges: Mapping[str, InputRange], excluded: Sequence[str]) -> set[str]:
    """Those of the layers `excluded` whose input stays in integers on the CPU: an integer layer must end in them."""
    placed = Graph(place(graph, ranges, "cpu", excluded))
    layers = {node.input[1].removesuffix(".weight"): node for node in placed.nodes if len(node.input) > 1}
    return {name for name in excluded if placed.dequantizer(layers[name].input[0]) is not None}
