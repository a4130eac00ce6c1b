"""The GPU of this machine, asked once per process."""

import functools

from edge.deploy.cuda import Cuda
from edge.errors import BackendMissing, FitError


@functools.cache
def gpu_here() -> tuple[str, str] | None:
    """Name and compute capability ("8.7"); None where CUDA or its Python package find none."""
    try:
        found = Cuda().device()
    except (BackendMissing, FitError):
        return None
    return found["name"], found["capability"]
