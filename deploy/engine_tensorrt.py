"""TensorRT on an NVIDIA GPU: a plan that was built here, page-locked buffers, one CUDA graph per batch size.

There are slots for the smallest, the usual and the largest batch of the plan and for the powers of two between them; a
run takes the next larger one. Its first run makes the slot: an execution context, the buffers of inputs and outputs on
host and device, and a CUDA graph of copy in, kernels, copy out. From then on a run writes the inputs into the slot's
page-locked memory, launches the graph, waits, and hands out a copy of the outputs; nothing is allocated but that copy.
Where a plan cannot be captured the same work goes into the stream call by call, and `describe` says `cuda_graph:
false`. More samples than the plan's largest batch are run in several, fewer than its smallest in one of that size.

The graph may be an ONNX file, whose plan is built if there is none that fits, or a plan of ours (edge.deploy.plan).
Needs `tensorrt` and cuda-python, not torch. Source: NVIDIA, TensorRT developer guide, "CUDA Graphs" (a captured context
must not change afterwards, hence one for each batch size; one plain run comes before the capture).
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import click
import numpy as np

from edge.deploy.contexts import Contexts
from edge.deploy.cuda import Cuda
from edge.deploy.engine import Parts, Tensor, check_inputs
from edge.deploy.plan import obtain, read_plan
from edge.deploy.slot import Slot
from edge.deploy.tensorrt_api import Messages, load
from edge.errors import FitError
from edge.files import write_text

SLOTS = 12  # batch sizes that are kept ready (1 to 1,024 and the usual one); the one used longest ago goes first
_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "UINT8": "uint8", "INT32": "int32", "INT64": "int64",
    "BOOL": "bool",
}  # fmt: skip


class TensorRTEngine:
    """An Engine (edge.deploy.engine) over one TensorRT plan. `threads` is for the Protocol's sake: the GPU does it."""

    def __init__(self, graph: Path, threads: int, backend: str) -> None:
        self._api = load(backend)
        self._cuda = Cuda()
        self._plan = obtain(graph, backend=backend, notify=lambda message: click.echo(message, err=True))
        self._messages = Messages()
        self._logger = self._api.logger(self._messages)
        self._runtime = self._api.trt.Runtime(self._logger)
        self._engine = self._deserialized()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        mode = self._api.trt.TensorIOMode.INPUT
        self._inputs = tuple(self._tensor(name) for name in names if self._engine.get_tensor_mode(name) == mode)
        self._outputs = tuple(self._tensor(name) for name in names if self._engine.get_tensor_mode(name) != mode)
        self._sizes = self._batch_sizes()
        self._range = self._sizes[0], self._sizes[-1]
        self._contexts = Contexts(self._api, self._cuda, self._engine)
        self._stream = self._cuda.stream()
        self._slots: OrderedDict[int, Slot] = OrderedDict()
        self._threads, self._device = threads, self._cuda.device()
        self._keep_layers()

    def describe(self) -> dict[str, Any]:
        """See Engine.describe; also `plan`, `builder`, `precision`, smallest and largest `batch`, and `cuda_graph`."""
        return {
            "backend": self._api.name,
            "version": self._api.version,
            "threads": self._threads,
            "graph": str(self._plan.graph),
            "providers": [f"{self._device['name']} ({self._device['capability']})"],
            "inputs": [tensor.to_json() for tensor in self._inputs],
            "outputs": [tensor.to_json() for tensor in self._outputs],
            "plan": str(self._plan.path),
            "builder": self._plan.about["builder"],
            "precision": self._plan.key["options"]["precision"],
            "batch": list(self._range),
            "cuda_graph": all(slot.captured for slot in self._slots.values()) if self._slots else None,
        }

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See Engine.run."""
        check_inputs(self._inputs, inputs)
        samples = len(inputs[self._inputs[0].name])
        if samples > self._range[1]:
            found = [self.run(part) for part in self._parts(inputs, samples)]
            return {name: np.concatenate([outputs[name] for outputs in found]) for name in found[0]}
        slot = self._slot(samples)
        slot.put(inputs)
        slot.launch()
        return slot.outputs(samples)

    def run_in_parts(self, inputs: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Parts]:
        """See Engine: seconds on the GPU, from events in the CUDA graph."""
        check_inputs(self._inputs, inputs)
        samples = len(inputs[self._inputs[0].name])
        if samples > self._range[1]:
            found = [self.run_in_parts(part) for part in self._parts(inputs, samples)]
            outputs = {name: np.concatenate([part[name] for part, _ in found]) for name in found[0][0]}
            return outputs, Parts(*(sum(times) for times in zip(*(parts for _, parts in found), strict=True)))
        slot = self._slot(samples)
        slot.put(inputs)
        parts = slot.launch_timed()
        return slot.outputs(samples), parts

    def close(self) -> None:
        """See Engine.close."""
        while self._slots:
            self._slots.popitem()[1].close()
        self._contexts.close()
        self._cuda.call("cudaStreamDestroy", self._stream)
        del self._contexts, self._engine, self._runtime

    def layers(self) -> str:
        """What TensorRT's engine inspector says of each layer, as JSON."""
        inspector = self._engine.create_engine_inspector()
        words: str = inspector.get_engine_information(self._api.trt.LayerInformationFormat.JSON)
        return words

    def _parts(self, inputs: dict[str, np.ndarray], samples: int) -> list[dict[str, np.ndarray]]:
        """The inputs in parts of the largest batch that the plan takes."""
        size = self._range[1]
        starts = range(0, samples, size)
        return [{name: array[start : start + size] for name, array in inputs.items()} for start in starts]

    def _slot(self, samples: int) -> Slot:
        """The smallest slot that takes so many samples."""
        batch = next(size for size in self._sizes if size >= samples)
        slot = self._slots.get(batch)
        if slot is None:
            slot = self._new_slot(batch)
        else:
            self._slots.move_to_end(batch)
        return slot

    def _new_slot(self, batch: int) -> Slot:
        # TensorRT 8 may share a profile between contexts only if the plan was built so, which 8.6 can and 8.5 cannot.
        allowed = SLOTS if self._api.rtx or self._api.number >= (8, 6) else 1
        while len(self._slots) >= allowed:
            self._slots.popitem(last=False)[1].close()
        while True:
            slot = Slot(self._contexts, self._cuda, self._stream, self._inputs, self._outputs, batch)
            try:
                slot.prepare()
                break
            except FitError as error:
                slot.close()
                if self._slots:  # another batch size may hold the memory that is missing
                    self._slots.popitem(last=False)[1].close()
                    continue
                said = "; ".join(self._messages.of(self._api.trt.ILogger.ERROR))
                raise FitError(f"{error.message}{f' ({said})' if said else ''}") from None
        self._slots[batch] = slot
        return slot

    def _deserialized(self) -> Any:
        core = self._plan.key["options"]["dla"]
        if core is not None:
            self._runtime.DLA_core = core
        engine = self._runtime.deserialize_cuda_engine(read_plan(self._plan))
        if engine is None:
            said = "; ".join(self._messages.of(self._api.trt.ILogger.ERROR)) or "it does not say why"
            raise FitError(f"{self._api.label} cannot load {self._plan.path}: {said}; remove it to build it again")
        return engine

    def _tensor(self, name: str) -> Tensor:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise FitError(f"{self._plan.path}: {name} has the type {kind}, which numpy does not have")
        _, *sample = self._engine.get_tensor_shape(name)
        return Tensor(name, np.dtype(_DTYPES[kind]), (None, *map(int, sample)))  # `run` makes any batch fit

    def _batch_sizes(self) -> tuple[int, ...]:
        """Of slots: smallest, usual and largest batch of the profile and powers of two between; or the fixed one."""
        name = self._inputs[0].name
        fixed = int(self._engine.get_tensor_shape(name)[0])
        if fixed > 0:
            return (fixed,)
        low, usual, high = (int(shape[0]) for shape in self._engine.get_tensor_profile_shape(name, 0))
        between = {size for size in (2**power for power in range(high.bit_length())) if low < size < high}
        return tuple(sorted({low, usual, high} | between))

    def _keep_layers(self) -> None:
        if not self._plan.layers.exists():
            write_text(self._plan.layers, self.layers())


def open_graph(graph: Path, threads: int) -> TensorRTEngine:
    """What `open_engine` calls."""
    return TensorRTEngine(graph, threads, "tensorrt")
