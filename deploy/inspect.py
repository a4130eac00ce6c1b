"""What is inside a bundle: bands, task, graphs, the precision of every layer, and where the Q/DQ pairs stand.

The card's part needs nothing but the bundle. The graphs' part needs the package onnx; without it `graphs` holds sizes
only and `note` says which line installs it.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edge.deploy.bundle import Bundle
from edge.deploy.onnx_graph import MOVES_DATA, PAIR, WEIGHTED, Graph, attribute, load_graph
from edge.deploy.samples_csv import csv_columns, some_columns
from edge.deploy.sparsity import GROUP, PATTERN, broken_groups, rows_of
from edge.errors import BackendMissing
from edge.sensors import Modality


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

    A layer: op, name, `computes` in "int8", "float" or "float16" (", declared" if that is on purpose), `input` and
    `weights` as the type in which they come, shape of the weights, `sparsity`
    ("2:4" if the weights have that pattern). A row of `placement`: the operator, the tensor it stands on, the integer
    type, its scale and zero point (smallest and largest).
    """
    graph = Graph(load_graph(path))
    return {
        "opset": next((entry.version for entry in graph.model.opset_import if entry.domain in ("", "ai.onnx")), None),
        "nodes": len(graph.nodes),
        "operators": dict(Counter(node.op_type for node in graph.nodes).most_common()),
        "layers": [_layer(graph, node) for node in graph.nodes if node.op_type in WEIGHTED],
        "placement": [_pair(graph, node) for node in graph.pairs],
    }


def _layer(graph: Graph, node: Any) -> dict[str, Any]:
    weights = _source(graph, node.input[1])
    return {
        "op": node.op_type,
        "name": node.name or node.output[0],
        "computes": _computes(graph, node),
        "input": _precision(graph, node.input[0]),
        "weights": _precision(graph, node.input[1]),
        "weight_shape": None if weights is None else list(weights.shape),
        "sparsity": _sparsity(graph, node),
    }


def _computes(graph: Graph, node: Any) -> str:
    if all(graph.dequantizer(name) is not None for name in node.input[:2]):
        return "int8"
    kind = "float16" if _precision(graph, node.input[1]) == "float16" else "float"
    return f"{kind}, declared" if graph.declared_float(node) else kind


def _sparsity(graph: Graph, node: Any) -> str | None:
    rows = rows_of(graph, node)
    return None if rows is None or rows.shape[1] % GROUP or broken_groups(rows) else PATTERN


def _pair(graph: Graph, node: Any) -> dict[str, Any]:
    scale, zero = graph.constant(node, 1), graph.constant(node, 2)
    return {
        "op": node.op_type,
        "tensor": node.input[0],
        "of": "activations" if _source(graph, node.input[0]) is None else "weights",
        "dtype": _stored(graph, node),
        "scale": None if scale is None else _range(scale),
        "zero_point": None if zero is None else _range(zero),
        "scales": None if scale is None else int(scale.size),
        "axis": attribute(node, "axis", 1) if scale is not None and scale.ndim else None,
    }


def _stored(graph: Graph, node: Any) -> str:
    """The integer type of a Q or DQ: its zero point's, else the stored tensor's, else the operator's default."""
    zero = graph.constant(node, 2)
    stored = graph.constant(node, 0) if zero is None and node.op_type == "DequantizeLinear" else zero
    return "uint8" if stored is None else stored.dtype.name


def _precision(graph: Graph, tensor: str) -> str:
    """The type in which a layer gets `tensor`: the integer behind its DequantizeLinear, else float."""
    dequantizer = graph.dequantizer(tensor)
    if dequantizer is not None:
        return _stored(graph, dequantizer)
    constant = graph.constants.get(graph.through(tensor, MOVES_DATA))
    return "float32" if constant is None else constant.dtype.name


def _source(graph: Graph, tensor: str) -> npt.NDArray[Any] | None:
    """The constant that a tensor comes from, through Q, DQ and what moves data."""
    return graph.constants.get(graph.through(tensor, (*PAIR, *MOVES_DATA)))


def _range(values: npt.NDArray[Any]) -> list[float]:
    """Smallest and largest value."""
    return [float(values.min()), float(values.max())]


def as_text(facts: dict[str, Any]) -> str:
    """The tables of `edge inspect`, for people."""
    modality, task = facts["modality"], facts["task"]
    axes = " x ".join(f"{size} {axis}" for size, axis in zip(modality["shape"], modality["dims"], strict=True))
    lines = [
        f"bundle     {facts['bundle']}  ({facts['schema']}, {facts['created']})",
        f"input      {modality['name']}: float32, batch x {axes}, NaN = missing{_nodata(modality)}",
        f"bands      {', '.join(band['name'] + _unit(band['unit']) for band in modality['bands'])}",
        *_columns(Modality.from_json(modality["name"], modality)),
        f"output     prediction: {task['kind']} {task['name']}{_unit(task['unit'])} {', '.join(task['classes'])}",
        f"training   {', '.join(f'{key} {_short(value)}' for key, value in facts['training'].items() if value)}",
        f"gates      {'FAILED: ' + ', '.join(facts['failed_gates']) if facts['failed_gates'] else 'none failed'}",
    ]
    for key, graph in facts["graphs"].items():
        lines += ["", f"{key}: {graph['file']}, {graph['bytes'] / 1e3:,.1f} kB"]
        if "nodes" in graph:
            counts = ", ".join(f"{count} {operator}" for operator, count in graph["operators"].items())
            lines[-1] += f", {graph['nodes']} nodes (opset {graph['opset']}): {counts}"
            lines += _table(graph["layers"], ("op", "name", "computes", "input", "weights", "weight_shape", "sparsity"))
            lines += _table(graph["placement"], ("op", "of", "tensor", "dtype", "scale", "zero_point", "scales"))
    if facts["note"]:
        lines += ["", facts["note"]]
    return "\n".join(line.rstrip() for line in lines)


def _nodata(modality: dict[str, Any]) -> str:
    return f", in files {modality['nodata']:g}, too" if "nodata" in modality else ""


def _columns(modality: Modality) -> list[str]:
    """What a table of samples must have, where a table can hold them."""
    if modality.kind == "image":
        return []
    names = [some_columns(csv_columns(modality))]
    if modality.columns:
        names.append(some_columns(list(modality.columns)))
    return [f"CSV        {' or '.join(dict.fromkeys(names))}"]


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    if not rows:
        return []
    cells = [columns, *(tuple(_short(row[column]) for column in columns) for row in rows)]
    widths = [max(len(cell[column]) for cell in cells) for column in range(len(columns))]
    return ["", *("  " + "  ".join(map(str.ljust, cell, widths)).rstrip() for cell in cells)]


def _short(value: Any) -> str:
    if isinstance(value, list):
        if not all(isinstance(item, float) for item in value):
            return " ".join(map(_short, value))
        return _short(value[0]) if value[0] == value[-1] else " .. ".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def _unit(unit: str) -> str:
    return "" if unit == "1" else f" [{unit}]"
