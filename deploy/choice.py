"""Which of a bundle's engines runs: what was asked for, what `edge engine` chose on this machine, or INT8."""

from pathlib import Path

from edge.deploy.bundle import SUMS, Bundle
from edge.deploy.engine import placement_of
from edge.errors import InputError
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


def _file(bundle: Bundle, backend: str) -> Path:
    """A bundle is known by its checksums."""
    return cache_folder() / "tensorrt" / "chosen" / f"{sha256(bundle.folder / SUMS)[:16]}.{backend}.json"
