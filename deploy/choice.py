"""Which of a bundle's engines runs: what was asked for, what was chosen on this machine, or INT8 on ONNX Runtime.

`edge engine` chooses among TensorRT's plans, `edge bench --choose` among the engines for the CPU.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.deploy.bundle import SUMS, Bundle
from edge.deploy.engine import backends, open_engine, placement_of
from edge.deploy.verify import agree
from edge.errors import FitError, InputError
from edge.files import cache_folder, inside, read_json, sha256, write_json


def remember(bundle: Bundle, backend: str, plan: Path, precision: str) -> None:
    """Keep that `plan`, a file of the cache, is the engine of `bundle` on this machine."""
    write_json(_file(bundle, backend), {"plan": plan.name, "precision": precision})


def remembered(bundle: Bundle, backend: str) -> tuple[Path, str] | None:
    """The plan and its precision; None if nothing was chosen here, or the plan is gone."""
    from edge.deploy.plan import plan_folder

    try:
        values = read_json(_file(bundle, backend))
        path = inside(plan_folder(), values["plan"])
        return (path, str(values["precision"])) if path.is_file() else None
    except (InputError, TypeError, KeyError):
        return None


def graph_to_run(bundle: Bundle, precision: str | None, backend: str) -> tuple[Path, str]:
    """What to open with `backend`, and its precision."""
    placement = placement_of(backend)
    if precision is None and placement == "tensorrt" and (found := remembered(bundle, backend)):
        return found
    precision = precision or ("int8" if f"int8.{placement}" in bundle.graphs else "fp32")
    return bundle.graph_for(precision, placement), precision


def choose_for_cpu(bundle: Bundle, rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """Keep which engine for the CPU runs `bundle` on this machine; its name, and why faster ones are left out.

    It is the fastest in the rows of a report, in the precision that would run, at the largest batch and the first
    thread count, among those that agree with the golden vectors; FitError if none does.
    """
    graph, precision = graph_to_run(bundle, None, "onnxruntime")
    found = [row for row in rows if row["precision"] == precision and placement_of(row["engine"]) == "cpu"]
    if not found:
        raise InputError(f"there is nothing to choose from: {precision} was not measured on an engine for the CPU")
    case = max(row["batch"] for row in found), found[0]["threads"]
    ranked = sorted(
        (row for row in found if (row["batch"], row["threads"]) == case), key=lambda row: row["latency_ms"]["mean"]
    )
    golden, key = bundle.golden(), "int8.cpu" if precision == "int8" else precision
    faults: list[str] = []
    for row in ranked:
        with contextlib.closing(open_engine(graph, backend=row["engine"])) as engine:
            outputs = engine.run({bundle.modality.name: golden["input"]})["prediction"]
        agrees, detail = agree(key, bundle.task, golden[f"expected.{key}"], outputs, golden["expected.fp32"])
        if agrees:
            write_json(_file(bundle, "cpu"), {"engine": row["engine"]})
            return row["engine"], faults
        faults.append(f"{row['engine']} differs from the golden vectors: {detail}")
    raise FitError(f"no engine for {bundle.folder} is fit on this machine: {'; '.join(faults)}")


def chosen_for_cpu(bundle: Bundle) -> str:
    """The engine that `choose_for_cpu` kept on this machine, else ONNX Runtime."""
    with contextlib.suppress(InputError, TypeError, KeyError):
        if (name := read_json(_file(bundle, "cpu"))["engine"]) in backends():
            return str(name)
    return "onnxruntime"


def _file(bundle: Bundle, engine: str) -> Path:
    """A bundle is known by its checksums."""
    folder = cache_folder() if engine == "cpu" else cache_folder() / "tensorrt"
    return folder / "chosen" / f"{sha256(bundle.folder / SUMS)[:16]}.{engine}.json"
