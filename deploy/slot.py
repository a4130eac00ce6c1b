"""One batch size of a TensorRT engine: context, page-locked buffers, CUDA graph (see edge.deploy.engine_tensorrt)."""

from typing import Any

import numpy as np

from edge.deploy.contexts import Contexts
from edge.deploy.cuda import Buffer, Cuda
from edge.deploy.engine import Parts, Tensor
from edge.errors import FitError


class Slot:
    """Everything for one batch size."""

    def __init__(
        self, contexts: Contexts, cuda: Cuda, stream: Any,
        inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], batch: int,
    ) -> None:  # fmt: skip
        self._cuda, self._stream, self._batch = cuda, stream, batch
        self._context = contexts.new(stream)
        self._buffers: dict[str, Buffer] = {}
        self._names = [tensor.name for tensor in inputs], [tensor.name for tensor in outputs]
        self._tensors = {tensor.name: tensor for tensor in (*inputs, *outputs)}
        self._graph: Any = None
        self._timed_graph: Any = None
        self._events: list[Any] = []
        self.captured = False
        self._label = contexts.label

    def prepare(self) -> None:
        """Shapes, buffers, one plain run, and the capture. FitError if the GPU has no room or TensorRT refuses."""
        if self._context is None:
            raise FitError(f"{self._label} has no room for an execution context of batch {self._batch}")
        for name, tensor in self._tensors.items():
            shape = (self._batch, *(int(size or 0) for size in tensor.shape[1:]))
            if name in self._names[0] and not self._context.set_input_shape(name, shape):
                raise FitError(f"{self._label} refuses {name} in the shape {list(shape)}")
            self._buffers[name] = Buffer(self._cuda, shape, tensor.dtype)
            self._context.set_tensor_address(name, self._buffers[name].device)
        for name in self._names[0]:
            self._buffers[name].array[...] = 0
        self._in_stream()  # TensorRT finishes what the new shape needs, which a capture must not hold
        self._wait()
        self._graph = self._capture(events=())
        self.captured = self._graph is not None

    def put(self, inputs: dict[str, np.ndarray]) -> None:
        """Write the inputs, at most the batch, into the page-locked memory; what is behind them stays as it was."""
        for name in self._names[0]:
            samples = inputs[name]
            np.copyto(self._buffers[name].array[: len(samples)], samples)

    def launch(self) -> None:
        """Copy in, compute, copy out, wait."""
        if self._graph is None:
            self._in_stream()
        else:
            self._cuda.call("cudaGraphLaunch", self._graph, self._stream)
        self._wait()

    def launch_timed(self) -> Parts:
        """The same with four events in between; its own CUDA graph, made on the first call."""
        if not self._events:
            self._events = [self._cuda.event() for _ in range(4)]
            self._timed_graph = self._capture(tuple(self._events)) if self.captured else None
        if self._timed_graph is None:
            self._in_stream(tuple(self._events))
        else:
            self._cuda.call("cudaGraphLaunch", self._timed_graph, self._stream)
        self._wait()
        pairs = zip(self._events, self._events[1:], strict=False)
        copy_in, graph, copy_out = (self._cuda.call("cudaEventElapsedTime", *pair) / 1e3 for pair in pairs)
        return Parts(graph, copy_in, copy_out)

    def outputs(self, samples: int) -> dict[str, np.ndarray]:
        """Copies of the first `samples`, for the next run writes over the page-locked memory."""
        return {name: self._buffers[name].array[:samples].copy() for name in self._names[1]}

    def close(self) -> None:
        """Give everything back."""
        for graph in (self._graph, self._timed_graph):
            if graph is not None:
                self._cuda.call("cudaGraphExecDestroy", graph)
        for event in self._events:
            self._cuda.call("cudaEventDestroy", event)
        for buffer in self._buffers.values():
            buffer.close()
        self._context = None

    def _in_stream(self, events: tuple[Any, ...] = (), *, in_graph: bool = False) -> None:
        """Put one run into the stream; between the steps the events, if there are any."""
        for place, step in enumerate((self._copy_in, self._enqueue, self._copy_out)):
            if events:
                self._cuda.mark(events[place], self._stream, in_graph=in_graph)
            step()
        if events:
            self._cuda.mark(events[-1], self._stream, in_graph=in_graph)

    def _copy_in(self) -> None:
        for name in self._names[0]:
            self._buffers[name].to_device(self._stream)

    def _copy_out(self) -> None:
        for name in self._names[1]:
            self._buffers[name].to_host(self._stream)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise FitError(f"{self._label} failed to run a batch of {self._batch}")

    def _capture(self, events: tuple[Any, ...]) -> Any:
        """The work of one run as an executable CUDA graph; None where it cannot be captured."""
        self._cuda.begin_capture(self._stream)
        try:
            self._in_stream(events, in_graph=True)
            return self._cuda.end_capture(self._stream)
        except FitError:
            self._cuda.abandon_capture(self._stream)
            return None

    def _wait(self) -> None:
        self._cuda.call("cudaStreamSynchronize", self._stream)
