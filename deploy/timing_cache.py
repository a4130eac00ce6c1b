"""TensorRT's timing cache: what it measured of kernels, kept for the next build on this GPU with this version.

It belongs to one TensorRT and one GPU, and TensorRT checks that itself; a file that it refuses is left out and written
anew. TensorRT-RTX has none.
"""

from pathlib import Path
from typing import Any

from edge.deploy.gpu import gpu_here
from edge.deploy.tensorrt_api import Api
from edge.files import cache_folder, replacing


def path_of(api: Api) -> Path:
    """Where the cache of this TensorRT and this GPU is kept."""
    gpu = gpu_here()
    return cache_folder() / "tensorrt" / "timing" / f"{api.version}-sm{gpu[1] if gpu else 'unknown'}.cache"


def put_in(api: Api, config: Any) -> Path | None:
    """Give `config` what is known, or an empty cache; its file, or None where there is no such thing."""
    if api.rtx:
        return None
    path = path_of(api)
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return path


def keep(config: Any, path: Path | None) -> None:
    """Write what the build has added."""
    if path is not None:
        cache = config.get_timing_cache()
        with replacing(path) as temporary:
            temporary.write_bytes(memoryview(cache.serialize()))
