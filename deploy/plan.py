"""TensorRT plans on disk: a cache of what was built here, checked before TensorRT sees a byte of it.

A plan is code for one GPU and one TensorRT. It is kept in the user's cache folder, never in a bundle, and loaded only
if its key is the one that would be built now:

    graph        SHA-256 of the ONNX file
    builder      "tensorrt" or "tensorrt_rtx", and `version`
    capability   compute capability of the GPU, `gpu` its name, `l4t` the board's system
    options      precision, batch sizes, workspace, level, typing, DLA

    NAME.plan         a line `edge.plan/1 <sha256 of the key> <sha256 of the plan>`, then the plan
    NAME.json         the key, the ONNX file, how the plan was built
    NAME.layers.json  what the engine inspector said, written by the engine that ran it first

Anything else - another key, changed bytes, no sidecar - is built again from the ONNX file, with one line that says why.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.deploy.builder_tensorrt import Options, build, options_from_json
from edge.deploy.devices import l4t_release
from edge.deploy.gpu import gpu_here
from edge.deploy.onnx_file import read_onnx
from edge.deploy.progress import Progress
from edge.deploy.tensorrt_api import load
from edge.errors import InputError
from edge.files import cache_folder, read_json, replacing, sha256, write_json

FORMAT = "edge.plan/1"
_WORDS = {
    "graph": "the graph", "builder": "the builder", "version": "TensorRT", "capability": "the compute capability",
    "gpu": "the GPU", "l4t": "L4T", "options": "the options",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A plan that fits this machine: its file, the ONNX file, its key and how it was built."""

    path: Path
    graph: Path
    key: dict[str, Any]
    about: dict[str, Any]

    @property
    def layers(self) -> Path:
        """Where the inspector's words are kept."""
        return self.path.with_suffix(".layers.json")


def plan_folder() -> Path:
    """Where plans are kept; nobody else may look or write there."""
    folder = cache_folder() / "tensorrt" / "plans"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ours ({error.strerror}): engines are kept there; set EDGE_CACHE to another one"
        ) from None
    return folder


def obtain(
    graph: Path,
    options: Options | None = None,
    *,
    backend: str = "tensorrt",
    rebuild: bool = False,
    notify: Callable[[str], None] = lambda message: None,
    progress: Progress | None = None,
) -> Plan:
    """The plan of `graph` for this machine, built if there is none that fits.

    `options` None: those that the graph's plan was built with; without one INT8 for a graph with Q/DQ pairs, else FP32.
    `graph` may be a plan of ours, which stands for the ONNX file that it was built from. Errors: see `build`.
    """
    if graph.suffix == ".plan":
        graph, options = _source(graph)
    data = read_onnx(graph)
    if options is None:
        options = _known_options(graph, Options("int8" if b"QuantizeLinear" in data else "fp32"), backend)
    path = _path(graph, options, backend)
    key = plan_key(graph, options, backend)
    reason = "asked to" if rebuild else misfit(path, key)
    if reason is None:
        return Plan(path, graph, key, read_json(path.with_suffix(".json"))["build"])
    if path.exists():
        notify(f"building {path.name} again from {graph}: {reason}")
    result = build(graph, options, backend=backend, notify=notify, progress=progress)
    return write_plan(path, graph, key, result.plan, result.to_json())


def plan_key(graph: Path, options: Options, backend: str) -> dict[str, Any]:
    """What a plan depends on, on this machine."""
    gpu = gpu_here()
    return {
        "graph": sha256(graph),
        "builder": backend,
        "version": load(backend).version,
        "capability": gpu[1] if gpu else None,
        "gpu": gpu[0] if gpu else None,
        "l4t": l4t_release(),
        "options": options.to_json(),
    }


def write_plan(path: Path, graph: Path, key: dict[str, Any], plan: bytes, about: dict[str, Any]) -> Plan:
    """Keep a plan with its header and its sidecar; what was known of an older one's layers goes."""
    path.with_suffix(".layers.json").unlink(missing_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(_header(key, plan))
        file.write(plan)
    sidecar = {"format": FORMAT, "key": key, "source": str(graph.resolve()), "build": about}
    write_json(path.with_suffix(".json"), sidecar)
    return Plan(path, graph, key, about)


def misfit(path: Path, key: dict[str, Any]) -> str | None:
    """Why the plan at `path` is not the one that `key` asks for; None if it is. Nothing is deserialized."""
    if not path.is_file():
        return "there is none"
    try:
        sidecar = read_json(path.with_suffix(".json"))
    except InputError as error:
        return error.message
    known = sidecar.get("key") if isinstance(sidecar, dict) and sidecar.get("format") == FORMAT else None
    if not isinstance(known, dict) or "build" not in sidecar:
        return f"its sidecar is not of the format {FORMAT}"
    for name in key:
        if known.get(name) != key[name]:
            return _difference(_WORDS[name], known.get(name), key[name])
    header, _, plan = path.read_bytes().partition(b"\n")
    if header + b"\n" != _header(key, plan):
        return "its bytes are not those that were written"
    return None


def read_plan(plan: Plan) -> bytes:
    """The serialized engine. InputError if the file changed since it was checked."""
    header, _, data = plan.path.read_bytes().partition(b"\n")
    if header + b"\n" != _header(plan.key, data):
        raise InputError(f"{plan.path} is being changed by another program; try again")
    return data


def _header(key: dict[str, Any], plan: bytes) -> bytes:
    words = json.dumps(key, sort_keys=True).encode()
    return f"{FORMAT} {hashlib.sha256(words).hexdigest()} {hashlib.sha256(plan).hexdigest()}\n".encode()


def _path(graph: Path, options: Options, backend: str) -> Path:
    """One place for each graph, builder and precision; what else is in the key may change there."""
    dla = "" if options.dla is None else f".dla{options.dla}"
    return plan_folder() / f"{sha256(graph)[:16]}.{backend}.{options.precision}{dla}.plan"


def _known_options(graph: Path, default: Options, backend: str) -> Options:
    """Those of the plan that the graph has in this precision, so that opening it does not build it again."""
    try:
        return _source(_path(graph, default, backend))[1]
    except InputError:
        return default


def _source(path: Path) -> tuple[Path, Options]:
    """The ONNX file and the options of a plan of ours."""
    folder = plan_folder().resolve()
    if path.resolve().parent != folder:
        raise InputError(f"{path} is not in {folder}: a plan from elsewhere is not loaded; give the ONNX graph")
    sidecar = read_json(path.with_suffix(".json"))
    try:
        return Path(sidecar["source"]), options_from_json(sidecar["key"]["options"])
    except (TypeError, KeyError):
        raise InputError(f"{path.with_suffix('.json')} is not of the format {FORMAT}; remove both files") from None


def _difference(name: str, was: Any, now: Any) -> str:
    """One line; of the options only those that differ."""
    if isinstance(was, dict) and isinstance(now, dict):
        found = [_difference(key, was.get(key), now[key]) for key in now if was.get(key) != now[key]]
        return ", ".join(found) or f"{name} have other names"
    return f"{name} was {str(was)[:40]}, and is {str(now)[:40]}"
