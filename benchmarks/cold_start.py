"""How long a device waits for its first prediction: fresh processes that import, open, and predict.

    python -m edge.benchmarks.cold_start model.onnx onnxruntime 1 '{"optical": [12, 12]}'

prints the seconds of one start: `import_s` of numpy and the engine's library, `load_s` to open the graph, `first_s`
and `second_s` of the first two predictions at batch 1. The parent adds `process_s`, from starting the interpreter to
the first prediction being there. Files come from the page cache: after a reboot the disk is read, too.
"""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.benchmarks.fresh import fresh_process

REPEATS = 5


def cold_starts(
    graphs: Sequence[tuple[Path, dict[str, tuple[int, ...]], str]],
    *,
    threads: int,
    repeats: int = REPEATS,
) -> list[dict[str, Any] | None]:
    """For each graph the median, the smallest and the largest of each part in milliseconds; None if it fails.

    A graph comes with the shape of one sample per input and the name of its engine. The graphs take turns. The first
    round is not counted: it fills the page cache for all.
    """
    starts: list[list[dict[str, float]]] = [[] for _ in graphs]
    for turn in range(repeats + 1):
        for found, (graph, shapes, backend) in zip(starts, graphs, strict=True):
            start = _start(graph, shapes, backend, threads)
            if start is not None and turn:
                found.append(start)
    return [_summary(found) if len(found) == repeats else None for found in starts]


def _start(graph: Path, shapes: dict[str, tuple[int, ...]], backend: str, threads: int) -> dict[str, float] | None:
    arguments = str(Path(graph).resolve()), backend, str(threads), json.dumps(shapes)
    begin = time.time()
    measured: dict[str, float] | None = fresh_process("edge.benchmarks.cold_start", *arguments)
    return None if measured is None else measured | {"process_s": measured.pop("answered_at") - begin}


def _summary(starts: Sequence[dict[str, float]]) -> dict[str, Any]:
    summary: dict[str, Any] = {"n": len(starts)}
    for name in starts[0]:
        values = [start[name] * 1e3 for start in starts]
        summary[f"{name.removesuffix('_s')}_ms"] = {
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
        }
    return summary


def _main(graph: str, backend: str, threads: str, shapes: str) -> None:
    begin = time.perf_counter()
    import importlib

    import numpy as np

    from edge.deploy.engine import open_engine

    library = backend if backend in ("onnxruntime", "openvino") else f"edge.deploy.engine_{backend}"
    importlib.import_module(library)
    imported = time.perf_counter()
    engine = open_engine(Path(graph), backend=backend, threads=int(threads))
    loaded = time.perf_counter()
    inputs = {name: np.zeros((1, *shape), np.float32) for name, shape in json.loads(shapes).items()}
    engine.run(inputs)
    first, answered_at = time.perf_counter(), time.time()
    engine.run(inputs)
    second = time.perf_counter()
    engine.close()
    parts = {"import_s": imported - begin, "load_s": loaded - imported, "first_s": first - loaded}
    print(json.dumps(parts | {"second_s": second - first, "answered_at": answered_at}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
