"""A bundle: the folder that goes to the device. ONNX graphs, the card that describes them, and what proves them.

    card.json                 what goes in, what comes out, where it comes from (edge.card)
    model.fp32.onnx           the float graph
    model.fp16.onnx           the same with FP16 inside, if the bundle was built in FP16
    model.int8.tensorrt.onnx  INT8 for TensorRT, if the bundle has it
    model.int8.cpu.onnx       INT8 for ONNX Runtime, if the bundle has it
    golden.npz                "input" (n, *shape of the modality) float32 raw sensor values, NaN = missing; per graph
                              "expected.<graph>" (n, outputs) float32: what the graph gave where it was built
    report.json, report.html  what was measured (edge.report/1)
    SHA256SUMS                over all files but itself; `sha256sum -c SHA256SUMS` checks it without us

Nothing in a bundle is trusted before the checksums hold, nothing is unpickled, and no path leaves the folder.
"""

import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.card import check_card, graph_file, graph_hrefs
from edge.errors import InputError
from edge.files import inside, read_json, replacing_folder, sha256, write_json, write_text
from edge.sensors import Modality
from edge.tasks import Task

CARD, GOLDEN, REPORT, PAGE, SUMS = "card.json", "golden.npz", "report.json", "report.html", "SHA256SUMS"
# What a precision means on this engine; TensorRT takes its own graph.
_INT8 = {"cpu": "int8.cpu", "tensorrt": "int8.tensorrt"}


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. `graphs`: path per key of edge.card.GRAPHS, those that the bundle has."""

    folder: Path
    card: dict[str, Any]
    modality: Modality
    task: Task
    graphs: dict[str, Path]

    @property
    def failed_gates(self) -> list[str]:
        """Names of the gates that the build did not pass."""
        return list(self.card["properties"]["edge:failed_gates"])

    def graph_for(self, precision: str, placement: str = "cpu") -> Path:
        """The graph of a precision, "fp32", "fp16" or "int8"; `placement` "cpu" or "tensorrt" tells the INT8 graphs
        apart.
        """
        if precision not in ("fp32", "fp16", "int8"):
            raise InputError(f"the precision {precision!r} is not known; use fp32, fp16 or int8")
        key = _INT8[placement] if precision == "int8" else precision
        if key not in self.graphs:
            raise InputError(f"{self.folder} has no graph {key}; it has {', '.join(self.graphs)}")
        return self.graphs[key]

    def golden(self) -> dict[str, np.ndarray]:
        """The arrays of golden.npz. InputError if one is missing or does not fit the card."""
        return _read_golden(self.folder / GOLDEN, self.modality, self.task, list(self.graphs))

    def report(self) -> Any:
        """The parsed report.json."""
        return read_json(self.folder / REPORT)


def write_bundle(
    folder: Path,
    *,
    card: dict[str, Any],
    graphs: Mapping[str, Path],
    golden: Mapping[str, np.ndarray],
    report: dict[str, Any],
    report_html: str,
) -> Bundle:
    """Write a bundle whole or not at all, and open it.

    The gates of `report` that have `passed: false` are marked in the card: such a bundle is kept, and says so when it
    is used. An existing bundle is replaced; a folder that holds something else is refused.
    """
    failed = [gate["name"] for gate in report.get("gates", ()) if gate["passed"] is False]
    card = {**card, "properties": {**card["properties"], "edge:failed_gates": failed}}
    modality, task = check_card(card)
    if set(graphs) != set(graph_hrefs(card)):
        raise InputError(f"the card names the graphs {sorted(graph_hrefs(card))}, not {sorted(graphs)}")
    with replacing_folder(folder, CARD) as temporary:
        for key, path in graphs.items():
            shutil.copyfile(path, temporary / graph_file(key))
        np.savez(temporary / GOLDEN, **golden)  # type: ignore[arg-type]  # numpy's own keyword is in the way
        _read_golden(temporary / GOLDEN, modality, task, list(graphs))
        write_json(temporary / CARD, card)
        write_json(temporary / REPORT, report)
        write_text(temporary / PAGE, report_html)
        sums = [f"{sha256(path)}  {path.name}\n" for path in sorted(temporary.iterdir())]
        write_text(temporary / SUMS, "".join(sums))
    return open_bundle(folder)


def open_bundle(folder: Path, *, checksums: bool = True) -> Bundle:
    """Open a bundle. InputError names the file: not there, of an unknown schema, outside of the folder, changed."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"the bundle {folder} is not a folder")
    if not (folder / CARD).exists():
        raise InputError(f"{folder} is not a bundle: {CARD} is missing")
    card = read_json(inside(folder, CARD))
    modality, task = check_card(card, str(folder / CARD))
    graphs = {key: inside(folder, href) for key, href in graph_hrefs(card).items()}
    for path in [*graphs.values(), *(folder / name for name in (GOLDEN, REPORT, PAGE, SUMS))]:
        if not path.is_file():
            raise InputError(f"the file {path.name} of the bundle {folder} is missing; copy or build the bundle again")
    bundle = Bundle(folder, card, modality, task, graphs)
    if checksums:
        verify_checksums(bundle)
    return bundle


def verify_checksums(bundle: Bundle) -> int:
    """Compare every file with SHA256SUMS and return their number. InputError names the file that differs."""
    folder = bundle.folder
    expected = _read_sums(folder)
    graphs = [path.relative_to(folder.resolve()).as_posix() for path in bundle.graphs.values()]
    for name in (CARD, GOLDEN, REPORT, PAGE, *graphs):
        if name not in expected:
            raise InputError(f"{folder / SUMS} has no line for {name}; copy or build the bundle again")
    for name, digest in expected.items():
        path = inside(folder, name)
        if not path.is_file():
            raise InputError(f"the file {name} of the bundle {folder} is missing; copy or build the bundle again")
        if sha256(path) != digest:
            raise InputError(
                f"the file {name} of the bundle {folder} was changed: its SHA-256 is not the one in {SUMS}"
            )
    return len(expected)


def _read_sums(folder: Path) -> dict[str, str]:
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"the file {SUMS} of the bundle {folder} is missing; copy or build the bundle again") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text") from None
    found = {}
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)  # the form of coreutils' sha256sum
        if match is None:
            raise InputError(f"{path} has a line that is no checksum: {line[:80]!r}")
        found[match[2]] = match[1]
    return found


def _read_golden(path: Path, modality: Modality, task: Task, graphs: list[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            golden = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    samples = len(golden["input"]) if "input" in golden and golden["input"].ndim else 0
    shapes = {"input": (samples, *modality.shape), **{f"expected.{key}": (samples, task.n_outputs) for key in graphs}}
    if not samples or set(golden) != set(shapes):
        raise InputError(f"{path} holds {sorted(golden)}; it must hold samples under {sorted(shapes)}")
    for name, shape in shapes.items():
        if golden[name].shape != shape or golden[name].dtype != np.float32:
            raise InputError(
                f"{path}: {name} is {golden[name].dtype} of shape {list(golden[name].shape)}; "
                f"it must be float32 of shape {list(shape)}"
            )
    return golden
