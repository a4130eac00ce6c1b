"""What is inside a bundle: bands, task, graphs, the precision of every layer, and where the Q/DQ pairs stand.

The card's part needs nothing but the bundle. The graphs' part needs the package onnx; without it `graphs` holds sizes only and `note`
says which line installs it.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edge.deploy.bundle import Bundle
from edge.errors import BackendMissing, InputError

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_PAIR = ("QuantizeLinear", "DequantizeLinear")
# Operators that move values and keep their precision; looked through on the way to the DequantizeLinear before a layer.
_MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "MaxPool", "Relu")


def inspect(bundle: Bundle) -> dict[str, Any]:
    """Everything that `edge inspect --json` prints."""
    properties = bundle.card["properties"]
    facts: dict[str, Any] = {
        "bundle": str(bundle.folder),
        "schema": properties["edge:schema"],
        "title": properties.get("title"),
        "created": properties["datetime"],
        "modality": properties["edge:modality"],
        "task": bundle.task.to_json(),
        "training": properties.get("edge:training", {}),
        "accuracy": properties.get("edge:accuracy", {}),
        "failed_gates": bundle.failed_gates,
        "graphs": {key: {"file": path.name, "bytes": path.stat().st_size} for key, path in bundle.graphs.items()},
        "note": None,
    }
    try:
        for key, path in bundle.graphs.items():
            facts["graphs"][key].update(inspect_graph(path))
    except BackendMissing as missing:
        facts["note"] = f"no layers shown: {missing.message}"
    return facts


def inspect_graph(path: Path) -> dict[str, Any]:
    """`opset`, `nodes`, `operators` with their counts, `layers` (those with weights) and `placement` of one ONNX file.

    A layer: op, name, `input` and `weights` as the type that they are computed in, shape of the weights. A row of `placement`: the
    operator, the tensor it stands on, the integer type, its scale and zero point (the smallest and largest, and how many).
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise BackendMissing("onnx is not installed; pip install 'edge-colearn[compress]'") from None
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own exception, which the package onnx does not export
        raise InputError(f"{path} is not an ONNX file: {error}") from None
    graph = _Graph(model.graph, numpy_helper.to_array)
    return {
        "opset": next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None),
        "nodes": len(model.graph.node),
        "operators": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "layers": [graph.layer(node) for node in model.graph.node if node.op_type in _WEIGHTED],
        "placement": [graph.pair(node) for node in model.graph.node if node.op_type in _PAIR],
    }


class _Graph:
    """Look-ups on one GraphProto: constants and producers by the name of a tensor."""

    def __init__(self, graph: Any, to_array: Any) -> None:
        self._producers = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: to_array(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self._constants[node.output[0]] = to_array(node.attribute[0].t)

    def layer(self, node: Any) -> dict[str, Any]:
        weights = node.input[1]
        shape = self._source(weights)
        return {
            "op": node.op_type,
            "name": node.name or node.output[0],
            "input": self._precision(node.input[0]),
            "weights": self._precision(weights),
            "weight_shape": None if shape is None else list(shape.shape),
        }

    def pair(self, node: Any) -> dict[str, Any]:
        scale, zero = self._constants.get(node.input[1]), self._zero(node)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        return {
            "op": node.op_type,
            "tensor": node.input[0],
            "of": "weights" if self._source(node.input[0]) is not None else "activations",
            "dtype": "uint8" if zero is None else zero.dtype.name,  # uint8 is the operator's default
            "scale": None if scale is None else _range(scale),
            "zero_point": None if zero is None else _range(zero),
            "scales": None if scale is None else int(scale.size),
            "axis": axis if scale is not None and scale.ndim else None,
        }

    def _zero(self, node: Any) -> np.ndarray | None:
        return self._constants.get(node.input[2]) if len(node.input) > 2 else None

    def _precision(self, name: str) -> str:
        """The type in which a layer gets this tensor: the integer behind its DequantizeLinear, else the float's."""
        producer = self._producers.get(name)
        while producer is not None and producer.op_type in _MOVES:
            name = producer.input[0]
            producer = self._producers.get(name)
        if producer is not None and producer.op_type == "DequantizeLinear":
            zero = self._zero(producer)
            stored = self._constants.get(producer.input[0]) if zero is None else zero
            return "uint8" if stored is None else stored.dtype.name
        constant = self._constants.get(name)
        return "float32" if constant is None else constant.dtype.name

    def _source(self, name: str) -> np.ndarray | None:
        """The constant that a tensor comes from, through Q, DQ and operators that move values."""
        while (producer := self._producers.get(name)) is not None and name not in self._constants:
            if producer.op_type not in (*_MOVES, *_PAIR):
                return None
            name = producer.input[0]
        return self._constants.get(name)


def _range(values: np.ndarray) -> list[float]:
    """Smallest and largest value."""
    return [float(values.min()), float(values.max())]


def as_text(facts: dict[str, Any]) -> str:
    """The tables of `edge inspect`, for people."""
    modality, task = facts["modality"], facts["task"]
    axes = " x ".join(f"{size} {axis}" for size, axis in zip(modality["shape"], modality["dims"], strict=True))
    lines = [
        f"bundle     {facts['bundle']}  ({facts['schema']}, {facts['created']})",
        f"input      {modality['name']}: float32, batch x {axes}, NaN = missing",
        f"bands      {', '.join(band['name'] + _unit(band['unit']) for band in modality['bands'])}",
        f"output     prediction: {task['kind']} {task['name']}{_unit(task['unit'])} {', '.join(task['classes'])}".rstrip(),
        f"training   {', '.join(f'{key} {_short(value)}' for key, value in facts['training'].items() if value)}",
        f"gates      {'FAILED: ' + ', '.join(facts['failed_gates']) if facts['failed_gates'] else 'none failed'}",
    ]
    for key, graph in facts["graphs"].items():
        lines += ["", f"{key}: {graph['file']}, {graph['bytes'] / 1e3:,.1f} kB"]
        if "nodes" in graph:
            counts = ", ".join(f"{count} {operator}" for operator, count in graph["operators"].items())
            lines[-1] += f", {graph['nodes']} nodes (opset {graph['opset']}): {counts}"
            lines += _table(graph["layers"], ("op", "name", "input", "weights", "weight_shape"))
            lines += _table(graph["placement"], ("op", "of", "tensor", "dtype", "scale", "zero_point", "scales"))
    if facts["note"]:
        lines += ["", facts["note"]]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    if not rows:
        return []
    cells = [columns, *(tuple(_short(row[column]) for column in columns) for row in rows)]
    widths = [max(len(cell[column]) for cell in cells) for column in range(len(columns))]
    return ["", *("  " + "  ".join(map(str.ljust, cell, widths)).rstrip() for cell in cells)]


def _short(value: Any) -> str:
    if isinstance(value, list):
        if len(value) == 2 and value[0] == value[1]:
            return _short(value[0])
        return " .. ".join(map(_short, value)) if all(isinstance(item, float) for item in value) else " ".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def _unit(unit: str) -> str:
    return "" if unit == "1" else f" [{unit}]"
