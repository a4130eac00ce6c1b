"""TensorRT's progress while it builds, through IProgressMonitor (TensorRT 9 and newer), and a way to stop it."""

from collections.abc import Callable
from typing import Any

# Called with the name of the phase, steps done and steps in all.
Progress = Callable[[str, int, int], None]


def monitor(trt: Any, progress: Progress | None) -> Any:
    """An IProgressMonitor that tells `progress`; None where nobody listens or this TensorRT has none.

    Only the outermost phase is told, whose steps are the build's. Ctrl-C in `progress` stops the build at its next
    step; `raise_if_stopped` then raises it again, for an exception must not pass through TensorRT's own frames.
    """
    if progress is None or not hasattr(trt, "IProgressMonitor"):
        return None
    tell = progress

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phase, self.steps, self.stopped = "", 0, False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.phase, self.steps = phase_name, num_steps
                self._tell(0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self.phase:
                self._tell(min(step + 1, self.steps))
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            if phase_name == self.phase:
                self._tell(self.steps)

        def raise_if_stopped(self) -> None:
            if self.stopped:
                raise KeyboardInterrupt

        def _tell(self, done: int) -> None:
            try:
                tell(self.phase, done, self.steps)
            except KeyboardInterrupt:
                self.stopped = True

    return Monitor()
