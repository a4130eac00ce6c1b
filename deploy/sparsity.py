"""2:4 structured sparsity: in a graph that declares it, two of any four weights in a row are 0, exactly.

Tensor cores since Ampere skip such zeros. TensorRT wants them along the input channels: in the weights [K, C, R, S] of
a convolution at most two of weights[k, 4 i : 4 i + 4, r, s] may differ from 0, and of a Gemm the same along the axis
that is summed over (TensorRT developer guide, "Sparsity"; docs.nvidia.com/deeplearning/tensorrt). compress/sparsity.py
makes the pattern, the checks below find it broken, and the builder allows TensorRT to use it.
"""

import json
from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge.deploy.onnx_graph import MOVES_DATA, PAIR, WEIGHTED, Finding, Graph, attribute
from edge.errors import InputError
from edge.recipe import SPARSITY

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

PATTERN = SPARSITY
GROUP, KEPT = 4, 2  # of four weights in a row two stay
# Key in the metadata of a graph: a JSON list of the layers whose weights have the pattern.
SPARSE_LAYERS = "edge.sparse_layers"
CHANNELS_LAST = "channels_last"  # ends the name of a Transpose that compress/placement.py puts before a Flatten


def pays(shape: tuple[int, ...], groups: int = 1) -> bool:
    """Whether sparse kernels take a layer with weights [out, in, ...]: `out` is a multiple of 8, `in` of 16, no groups.

    Source: NVIDIA's Automatic SParsity leaves other sizes dense (github.com/NVIDIA/apex, contrib/sparsity/asp.py).
    """
    return groups == 1 and shape[0] % 8 == 0 and shape[1] % 16 == 0


def broken_groups(weight: npt.NDArray[Any]) -> int:
    """How many groups of four along axis 1 of [out, in, ...] hold more than two weights that are not 0.

    A rest of fewer than four counts as a group, too.
    """
    rows = np.moveaxis(weight, 1, -1) != 0  # (out, ..., in)
    rest = -rows.shape[-1] % GROUP
    rows = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, rest)])
    return int((rows.reshape(-1, GROUP).sum(axis=1) > KEPT).sum())


def declared(model: "ModelProto") -> tuple[str, ...]:
    """The layers that the graph declares as sparse; InputError if that is no list of names."""
    stored = next((entry.value for entry in model.metadata_props if entry.key == SPARSE_LAYERS), "[]")
    try:
        names = json.loads(stored)
        assert isinstance(names, list)  # noqa: S101 - caught below, like everything else that it may be
        return tuple(map(str, names))
    except (AssertionError, ValueError):
        raise InputError(f"the graph's metadata {SPARSE_LAYERS} is {stored!r}; expected a JSON list") from None


def declare(model: "ModelProto", names: tuple[str, ...]) -> None:
    """Write the names of the sparse layers into the graph's metadata."""
    if names:
        model.metadata_props.add(key=SPARSE_LAYERS, value=json.dumps(sorted(names)))


def present(model: "ModelProto", layers: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `layers` that the graph has under their names: on a CPU one may compute two (compress/channels.py)."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return tuple(name for name in layers if stored & {f"{name}.weight", f"{name}.weight.quantized"})


def check_sparse(graph: Graph) -> Iterator[Finding]:
    """Every layer that is declared as sparse is there and keeps the pattern."""
    layers = {layer_name(graph, node): node for node in graph.nodes if node.op_type in WEIGHTED}
    for name in declared(graph.model):
        node = layers.get(name)
        if node is None:
            yield Finding("sparse", name, "it is declared as sparse and is not in the graph", "export the graph again")
            continue
        weight = rows_of(graph, node)
        if weight is not None and (broken := broken_groups(weight)):
            problem = f"{broken} of {weight.size // GROUP} groups of four weights have more than two that are not 0"
            yield Finding("sparse", graph.name(node), problem, "fine-tune again with --sparsity 2:4 and export that")


def layer_name(graph: Graph, node: "NodeProto") -> str:
    """The module that a layer's weights belong to: `specific.conv1` for `specific.conv1.weight.quantized`."""
    stored = graph.through(node.input[1], (*PAIR, *MOVES_DATA))
    return stored.removesuffix(".quantized").removesuffix(".weight")


def rows_of(graph: Graph, node: "NodeProto") -> npt.NDArray[Any] | None:
    """A layer's weights as [out, in, ...], inputs in the order of training; None if they are not constant."""
    weight = graph.constants.get(graph.through(node.input[1], (*PAIR, *MOVES_DATA)))
    if weight is None or weight.ndim < 2:
        return None
    if node.op_type == "ConvTranspose" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        weight = weight.swapaxes(0, 1)
    elif node.op_type == "MatMul":
        weight = weight.swapaxes(-2, -1).reshape(-1, weight.shape[-2])
    return _channels_first(graph, node, weight)


def _channels_first(graph: Graph, node: "NodeProto", weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Take back what compress/placement.py does for ONNX Runtime: columns in the order (T, C) instead of (C, T)."""
    flatten = graph.producer.get(graph.through(node.input[0], PAIR))
    transpose = graph.producer.get(graph.through(flatten.input[0], PAIR)) if flatten is not None else None
    if flatten is None or transpose is None or flatten.op_type != "Flatten" or CHANNELS_LAST not in transpose.name:
        return weight
    _, *space, channels = graph.shapes[transpose.output[0]]
    columns = weight.reshape(len(weight), prod(space), channels).swapaxes(1, 2)  # (out, C, T)
    ordered: npt.NDArray[Any] = columns.reshape(len(weight), -1)
    return ordered
