"""Engines: what runs a graph. Four methods - open, describe, run, close - and one file each.

An engine called `xyz` is the file `engine_xyz.py` beside this one, with a function

    open_graph(graph: Path, threads: int) -> Engine

Adding an engine is adding a file; nothing is imported before it is asked for. The checks of the inputs stand here, once
for all engines.
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

import edge.deploy
from edge.errors import InputError

_PREFIX = "engine_"


class Parts(NamedTuple):
    """Seconds of one run: the graph alone, and the copies to and from an accelerator, None where there is none."""

    graph: float
    copy_in: float | None = None
    copy_out: float | None = None


class Engine(Protocol):
    """A graph that is ready to run. Not to be shared between threads.

    An engine that can tell what a run consists of has `run_in_parts(inputs)`, too: as `run`, but (outputs, Parts).
    """

    def describe(self) -> dict[str, Any]:
        """`backend`, `version`, `providers`, `threads`, `graph`, and per input and output its name, shape and dtype."""

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, (batch, ...). InputError when the inputs do not fit, see `check_inputs`."""

    def close(self) -> None:
        """Give the memory back; the engine cannot run afterwards."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph; a free axis is None."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    def to_json(self) -> dict[str, Any]:
        """The entry in `describe`."""
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype.name}

    def fits(self, array: object) -> bool:
        """Whether `array` may be fed here: an ndarray of this type and shape with at least one sample."""
        if not isinstance(array, np.ndarray) or array.dtype != self.dtype or not array.size:
            return False
        shape = array.shape
        if shape[1:] == self.shape[1:] and len(shape) == len(self.shape) and self.shape[0] is None:
            return True  # the usual case, four times as fast: a student takes no more than 60 microseconds
        return len(shape) == len(self.shape) and all(
            want is None or want == got for want, got in zip(self.shape, shape, strict=True)
        )


def backends() -> tuple[str, ...]:
    """The names of the engines that this package holds; whether their libraries are installed is another question."""
    files = (module.name for module in pkgutil.iter_modules(edge.deploy.__path__))
    return tuple(sorted(name.removeprefix(_PREFIX) for name in files if name.startswith(_PREFIX)))


def placement_of(backend: str) -> str:
    """Whose placement of Q/DQ pairs an engine takes: "tensorrt" or "cpu" (edge.deploy.bundle)."""
    return "tensorrt" if backend.startswith("tensorrt") else "cpu"


def open_engine(graph: Path, *, backend: str = "onnxruntime", threads: int = 1) -> Engine:
    """Open `graph` with an engine.

    InputError: unknown backend, no such file, not a graph, weights outside of it. BackendMissing: the library is not
    installed. FitError: the library cannot run this graph here.
    """
    if backend not in backends():
        raise InputError(f"the backend {backend!r} is not known; use one of {', '.join(backends())}")
    if threads < 1:
        raise InputError(f"threads is {threads}; it must be at least 1")
    module = importlib.import_module(f"edge.deploy.{_PREFIX}{backend}")
    engine: Engine = module.open_graph(Path(graph), threads)
    return engine


def check_inputs(expected: Sequence[Tensor], inputs: Mapping[str, Any]) -> None:
    """Raise InputError unless `inputs` has exactly the expected names, types and shapes; a microsecond when it fits."""
    if len(inputs) == len(expected):
        for tensor in expected:
            if not tensor.fits(inputs.get(tensor.name)):
                break
        else:
            return
    raise InputError(_complaint(expected, inputs))


def _complaint(expected: Sequence[Tensor], inputs: Mapping[str, Any]) -> str:
    names = [tensor.name for tensor in expected]
    if set(names) != set(inputs):
        return f"received the inputs {sorted(inputs)}; the graph expects {sorted(names)}"
    tensor = next(tensor for tensor in expected if not tensor.fits(inputs[tensor.name]))
    array = inputs[tensor.name]
    if not isinstance(array, np.ndarray):
        return f"input {tensor.name!r}: received a {type(array).__name__}; expected a numpy array"
    if array.dtype != tensor.dtype:
        return f"input {tensor.name!r}: received {array.dtype} values; expected {tensor.dtype}"
    if array.ndim == len(tensor.shape) and array.size == 0:
        return f"input {tensor.name!r}: received no samples, shape {list(array.shape)}"
    wanted = [("any" if axis else "batch") if size is None else str(size) for axis, size in enumerate(tensor.shape)]
    return f"input {tensor.name!r}: received shape {list(array.shape)}; expected [{', '.join(wanted)}]"
