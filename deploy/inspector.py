"""What TensorRT's engine inspector says of a plan, in numbers (rule R18)."""

import json
from pathlib import Path


def count_layers(path: Path) -> dict[str, int] | None:
    """Counts from the inspector's file: `layers`, `int8` (that read INT8), `reformats`, `dla`; None if it names none.

    An INT8 engine is INT8 only if its layers are; reformats are what badly placed Q/DQ pairs cost.
    """
    try:
        layers = [layer for layer in json.loads(path.read_text(encoding="utf-8"))["Layers"] if isinstance(layer, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not layers:
        return None
    kinds = [str(layer.get("LayerType", "")) for layer in layers]
    read = [json.dumps(layer.get("Inputs", "")) for layer in layers]
    return {
        "layers": len(layers),
        "int8": sum("Int8" in inputs for inputs in read),
        "reformats": sum(kind == "Reformat" for kind in kinds),
        "dla": sum(kind == "DLA" for kind in kinds),
    }
