"""Does ONNX Runtime run the quantized part of a graph in integers?

It decides so when a session opens: a layer between DequantizeLinear and QuantizeLinear becomes one integer kernel if
its types, zero points and neighbours fit one of the runtime's patterns. Otherwise it stays a float kernel that also
converts its data, often its weights too, in every run: slower than the float graph, and no warning says so. The check
therefore reads the types of the tensors in the optimized graph, not the form of the graph that was exported.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edge.deploy.engine_onnxruntime import open_graph, optimized_model
from edge.deploy.onnx_graph import Finding, Graph, load_graph

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_INTEGERS = ("QLinear", "QGemm")
_FLOATS = ("float16", "float32", "float64")
_FIX = "see what fuses: zero point 0 of uint8 behind a ReLU, int8 weights, int32 bias at a float output, no Flatten"


def check_fused(graph: "Path | ModelProto") -> list[Finding]:
    """What ONNX Runtime would compute in float between the first QuantizeLinear and the last DequantizeLinear (or the
    last QGemm, which can give floats itself); empty if all of it runs in integers on this processor. What the graph
    declares as float on purpose (FLOAT_PARTS: the softmax of an attention, a LayerNorm, an excluded layer) is passed
    over, a layer that dequantizes its weights never.

    Rules: "float", a node in that stretch has float activations, or a layer dequantizes its weights in every run;
    "declared", a layer that is declared as float runs in integers; "integers", no layer is computed in integers.
    InputError and BackendMissing as in `load_graph`.
    """
    with tempfile.TemporaryDirectory() as name:
        source, optimized = Path(name, "graph.onnx"), Path(name, "optimized.onnx")
        given = load_graph(graph)
        source.write_bytes(given.SerializeToString())
        optimized_model(source, optimized)
        view = Graph(load_graph(optimized))
        types = _types(view.model, Path(name))
    findings, exported = [], Graph(given)
    stretch = _reached(view, "QuantizeLinear") & _reached(view, "DequantizeLinear", "QGemm", backward=True)
    for at, node in enumerate(view.nodes):
        if exported.float_parts and node.name.startswith(exported.float_parts) and node.op_type.startswith(_INTEGERS):
            problem = f"{node.op_type} computes in integers what is declared as float"
            fix = "let no DequantizeLinear and QuantizeLinear stand right around it: the runtime quantizes it then"
            findings.append(Finding("declared", view.name(node), problem, fix))
        floats = [name for name in _activations(view, node) if types[name] in _FLOATS]
        if _dequantizes_weights(view, node):
            problem = f"{node.op_type} computes in float and dequantizes its weights in every run"
            findings.append(Finding("float", view.name(node), problem, _FIX))
        elif exported.float_parts and _declared(view, exported, node):
            continue
        elif at in stretch and floats and _counts(view, node):
            problem = f"{node.op_type} computes in float between quantized layers ({', '.join(floats)})"
            findings.append(Finding("float", view.name(node), problem, _FIX))
    if not any(node.op_type.startswith(_INTEGERS) for node in view.nodes):
        fix = "quantize the inputs and weights of its Conv and Gemm layers"
        findings.append(Finding("integers", view.model.graph.name, "no layer is computed in integers", fix))
    return findings


def _declared(view: Graph, exported: Graph, node: "NodeProto") -> bool:
    """Whether `node` does what is declared as float. The runtime renames nodes that it fuses, but not what they give; a
    tensor that it adds (a layout that its float kernels like) belongs to what reads it.
    """
    for name in filter(None, node.output):
        if (source := exported.producer.get(name)) is not None:
            if not exported.declared_float(source):
                return False
        elif not view.readers.get(name) or not all(_declared(view, exported, each) for each in view.readers[name]):
            return False
    return True


def _activations(view: Graph, node: "NodeProto") -> list[str]:
    """What flows through `node`: no constants, and not the floats that a QGemm may end with."""
    inputs = [name for name in node.input if name and name not in view.constants]
    return inputs if node.op_type == "QGemm" else inputs + [name for name in node.output if name]


def _dequantizes_weights(view: Graph, node: "NodeProto") -> bool:
    sources = [view.producer[name] for name in node.input if name in view.producer]
    return any(each.op_type == "DequantizeLinear" and each.input[0] in view.constants for each in sources)


def _counts(view: Graph, node: "NodeProto") -> bool:
    """Q and DQ have a float side by nature; they count where they stand back to back, else what is between them."""
    if node.op_type == "DequantizeLinear":
        return any(reader.op_type == "QuantizeLinear" for reader in view.readers.get(node.output[0], []))
    return node.op_type != "QuantizeLinear"


def _reached(view: Graph, *kinds: str, backward: bool = False) -> set[int]:
    """Positions of the nodes behind nodes of `kinds` (`backward`: in front of them), weights apart."""
    tensors: set[str] = set()
    reached = set()
    order = list(enumerate(view.nodes))  # ONNX Runtime writes them sorted
    for at, node in reversed(order) if backward else order:
        near, far = (node.output, node.input) if backward else (node.input, node.output)
        if tensors & set(near):
            reached.add(at)
        if at in reached or (node.op_type in kinds and node.input[0] not in view.constants):
            tensors |= set(far)
    return reached


def _types(model: "ModelProto", folder: Path) -> dict[str, str]:
    """The numpy type of every tensor that a node gives or that the graph takes, as ONNX Runtime infers it."""
    import onnx

    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    del asked.graph.output[:]
    given = {name for node in model.graph.node for name in node.output if name}
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(given))
    path = folder / "types.onnx"
    path.write_bytes(asked.SerializeToString())
    about = open_graph(path, threads=1).describe()
    return {tensor["name"]: tensor["dtype"] for tensor in (*about["inputs"], *about["outputs"])}
