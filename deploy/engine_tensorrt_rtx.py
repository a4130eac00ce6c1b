"""TensorRT for RTX on a GeForce or RTX card: the same engine as TensorRT's, over the other module."""

from pathlib import Path

from edge.deploy.engine_tensorrt import TensorRTEngine


def open_graph(graph: Path, threads: int) -> TensorRTEngine:
    """What `open_engine` calls."""
    return TensorRTEngine(graph, threads, "tensorrt_rtx")
