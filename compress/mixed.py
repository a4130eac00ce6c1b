"""What to leave in float within a latency budget, and students that are compressed so (`edge compress --mixed`).

Layers are taken greedily by the damage that leaving them in float takes back, per microsecond that it adds; a layer
whose damage cannot be told from none on the validation samples is not worth a microsecond. The layers that were taken
are then measured together, because neither damage nor latency simply adds up: while they are slower than the budget
allows, the last one goes back to INT8. RUN/compress/sensitivity.json holds it all.
"""

import dataclasses
import glob
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.compress.compression import Compressed, compress
from edge.compress.sensitivity import BATCH, Notify, Student, change, latencies, predictions, sensitivity, students_of
from edge.errors import InputError
from edge.files import read_json, write_json
from edge.recipe import Recipe
from edge.train.fingerprint import code_version, fingerprint

if TYPE_CHECKING:
    from edge.train.paired import PairedSet
    from edge.train.training import Trained

BUDGET = 1.2  # times the latency of the INT8 graph
FILE = "sensitivity.json"


def compress_mixed(
    data: "PairedSet", trained: "Trained", recipe: Recipe, folder: Path, *, resume: bool = True
) -> Compressed:
    """INT8 students in folder/METHOD; with `compression.mixed` those are analysed, and the students of the proposal are
    fine-tuned in folder/METHOD-mixed. Where nothing is proposed they are the same.
    """
    budget = recipe.compression.mixed
    plain = without_mixed(recipe)
    compressed = compress(data, trained, plain, folder / recipe.method, resume=resume)
    if budget is None:
        return compressed
    found = analyse(data, trained, compressed, folder / FILE, budget, resume=resume)["proposal"]["students"]
    layers = [f"{glob.escape(modality)}.{layer}" for modality, entry in found.items() for layer in entry["layers"]]
    if not layers:
        return compressed
    exclude = (*plain.compression.exclude, *layers)
    chosen = dataclasses.replace(plain, compression=dataclasses.replace(plain.compression, exclude=exclude))
    return compress(data, trained, chosen, folder / f"{recipe.method}-mixed", resume=resume)


def analyse(
    data: "PairedSet",
    trained: "Trained",
    compressed: Compressed,
    file: Path,
    budget: float = BUDGET,
    *,
    resume: bool = True,
    notify: Notify = lambda what: None,
) -> dict[str, Any]:
    """The document of `edge compress --sensitivity`, measured or, if `file` still fits, read; another budget alone does
    not measure the layers again. InputError for a budget below 1.
    """
    from edge.benchmarks.machine import machine_facts

    if budget < 1:
        raise InputError(f"the latency budget is {budget}; as a multiple of the INT8 latency it is 1 or more")
    mark = fingerprint(compressed.facts["fingerprint"], machine_facts()["cpu"], code_version(Path(__file__).parent))
    document = read_json(file) if resume and file.exists() else {}
    if document.get("fingerprint") != mark:
        document = {"schema": "edge.sensitivity/1", "fingerprint": mark, "batch": BATCH, "students": {}}
    if document.get("proposal", {}).get("budget") == budget:
        return dict(document)
    students = students_of(data, trained, compressed)
    for student in students:
        if student.modality not in document["students"]:
            document["students"][student.modality] = sensitivity(student, notify)
    proposals = {each.modality: propose(each, document["students"][each.modality], budget) for each in students}
    document["proposal"] = {"budget": budget, "students": proposals}
    write_json(file, document)
    return dict(document)


def propose(student: Student, found: dict[str, Any], budget: float) -> dict[str, Any]:
    """{"layers", "latency", "loss", "loss_ci95", "metric"}: the layers to leave in float, their measured latency as a
    multiple of the INT8 graph's, and the measured rise of loss and metric from that graph. One layer stays in INT8.
    """
    taken = greedy(found["layers"], budget)
    while taken:
        layers = [*dict.fromkeys(name for names in taken for name in names)]
        if len(layers) < len(student.layers):
            ((latency, _),) = latencies(student, [layers])
            if latency <= budget:
                with tempfile.TemporaryDirectory() as name:
                    before, after = (predictions(student.int8(left), student, Path(name)) for left in ((), layers))
                return {"layers": layers, "latency": latency} | change(student, before, after)
        taken = taken[:-1]
    return {"layers": [], "latency": 1.0, "loss": 0.0, "loss_ci95": None, "metric": 0.0}


def greedy(layers: list[dict[str, Any]], budget: float) -> list[list[str]]:
    """The entries of `sensitivity` whose damage is beyond doubt, as their names, by damage taken back per time added,
    while they fit the budget. What is no slower in float comes first.
    """
    worth = [each for each in layers if each["left"]["loss_ci95"] and each["left"]["loss_ci95"][1] < 0]

    def rate(layer: dict[str, Any]) -> float:
        added = max(layer["microseconds"], 0.0)
        return -layer["left"]["loss"] / added if added else float("inf")

    taken: list[list[str]] = []
    spent = 1.0
    for layer in sorted(worth, key=rate, reverse=True):
        added = max(layer["latency"] - 1, 0.0)
        new = not {name for names in taken for name in names}.issuperset(layer["names"])
        if new and spent + added <= budget:
            taken.append(layer["names"])
            spent += added
    return taken


def without_mixed(recipe: Recipe) -> Recipe:
    """The recipe of the students that are analysed."""
    return dataclasses.replace(recipe, compression=dataclasses.replace(recipe.compression, mixed=None))
