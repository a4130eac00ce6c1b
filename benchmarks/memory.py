"""How much memory a graph needs: the peak of a fresh process that opens it and predicts, and does nothing else.

    python -m edge.benchmarks.memory model.onnx onnxruntime 1 '{"optical": [12, 12]}' 1 32 256

prints {"1": 61.2, "32": 61.9, "256": 70.4}: MiB resident at most until a batch of that size was done. The process that
measures latency cannot tell: it holds every engine at once, and in `edge build` a training run before them.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edge.benchmarks.fresh import fresh_process
from edge.benchmarks.machine import peak_rss_mb
from edge.deploy.engine import open_engine


def peak_memory(
    graph: Path, shapes: dict[str, tuple[int, ...]], batches: Iterable[int], *, backend: str, threads: int
) -> dict[int, float | None]:
    """Peak resident MiB per batch size; None where the process fails or the system does not tell.

    `shapes` gives the shape of one sample per input.
    """
    arguments = [str(Path(graph).resolve()), backend, str(threads), json.dumps(shapes), *map(str, sorted(batches))]
    measured = fresh_process("edge.benchmarks.memory", *arguments) or {}
    return {batch: measured.get(str(batch)) for batch in batches}


def _main(graph: str, backend: str, threads: str, shapes: str, *batches: str) -> None:
    engine = open_engine(Path(graph), backend=backend, threads=int(threads))
    peaks = {}
    for batch in batches:  # ascending, because the peak of a process never falls
        engine.run({name: np.zeros((int(batch), *shape), np.float32) for name, shape in json.loads(shapes).items()})
        peaks[batch] = peak_rss_mb()
    engine.close()
    print(json.dumps(peaks))


if __name__ == "__main__":
    _main(*sys.argv[1:])
