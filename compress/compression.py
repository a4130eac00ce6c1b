"""`edge compress`: co-learned students in, INT8 students out, with the objectives that shaped them alive.

Fold every modality's student, put fake quantizers in, calibrate their ranges, and fine-tune all students together where
that is needed (compress/fine_tuning.py): L_main, L_aux, L_con and L_mod act on the fake-quantized features; heads and
discriminators stay in float. Two further terms hold each student to the predictions and the features of its FP32 self:
fine-tuning mends what rounding broke and does not wander off. `compression.objectives`, `distil` and `features` choose;
benchmarks/RESULTS.md compares them.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge.compress.calibration import statistics, stratified
from edge.compress.exclude import exclude
from edge.compress.fine_tuning import FineTuning, Movement, still_acting
from edge.compress.fold import FoldedStudent
from edge.compress.placement import PLACEMENTS, Placement
from edge.compress.quantize import (
    InputRange,
    float_layers,
    layer_ranges,
    quantize,
    range_from_json,
    uint8_behind_relu,
)
from edge.compress.sparsity import hold, prune
from edge.errors import InputError
from edge.files import check_replaceable, read_json, write_json
from edge.recipe import CO_LEARNED, Recipe
from edge.train import checkpoint
from edge.train.encoders import no_int8
from edge.train.encoders.blocks import Add
from edge.train.fingerprint import code_version, fingerprint, is_current
from edge.train.loop import Schedule, fit
from edge.train.methods.full import student_outputs
from edge.train.model import CoLearner, Features
from edge.train.objectives import Loss, class_weights
from edge.train.paired import PairedSet
from edge.train.samples import Samples, load_samples, usable
from edge.train.splits import Split
from edge.train.structure import PARTS, Views, views_of
from edge.train.training import Trained, batch_size, split_of, to_units

FACTS = "compression.json"
WEIGHTS = "students.safetensors"
FEATURES = "features.safetensors"
STATE = "state.safetensors"


@dataclass
class Compressed:
    """Fine-tuned students of all modalities: float weights, and the trained ranges of what is quantized."""

    folder: Path
    students: dict[str, FoldedStudent]
    ranges: dict[str, dict[str, InputRange]]
    # target -> modality -> predictions (n, K) of the fake-quantized student for the test samples
    references: dict[str, dict[str, Tensor]]
    facts: dict[str, Any]  # compression.json


class SecondHalf(nn.Module):
    """z_unused from the trunk's features: a head of its own, since the folded student no longer computes it."""

    def __init__(self, specific: nn.Sequential) -> None:
        super().__init__()
        self.project = copy.deepcopy(specific[1:])  # Linear hidden -> d, and LayerNorm if there is one

    def forward(self, trunk: Tensor) -> Tensor:
        """(N, hidden) -> (N, h)."""
        unused: Tensor = self.project(trunk).chunk(2, dim=1)[1]
        return unused


class QuantizedCoLearner(nn.Module):
    """The fake-quantized students of all modalities with the float heads of training."""

    def __init__(self, model: CoLearner, calibration: dict[str, list[Tensor]], *, sparse: bool = False) -> None:
        super().__init__()
        branches = model.students
        folded = {name: FoldedStudent(branch) for name, branch in branches.items()}  # type: ignore[arg-type]
        if sparse:
            prune(folded)  # before the ranges are set
        self.students = nn.ModuleDict({name: quantize(student, calibration[name]) for name, student in folded.items()})
        hold(self.students)
        self.unused = nn.ModuleDict({name: SecondHalf(branch.specific) for name, branch in branches.items()})  # type: ignore[arg-type]
        self.heads = copy.deepcopy(model.heads)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Features]:
        """Normalised samples of each modality -> Features."""
        features = {}
        for name, x in inputs.items():
            prediction, specific, shared, trunk = self.students[name](x)
            features[name] = Features(prediction, specific, self.unused[name](trunk), shared)
        return features


def compress(data: PairedSet, trained: Trained, recipe: Recipe, folder: Path, *, resume: bool = True) -> Compressed:
    """Compress what is not compressed yet: a folder with the same fingerprint is loaded, a started one is continued."""
    if trained.recipe.method not in CO_LEARNED:
        raise InputError(
            f"method {trained.recipe.method!r} has no co-learned students; compress one of {', '.join(CO_LEARNED)}"
        )
    reasons = [no_int8(modality, trained.recipe.model) for modality in trained.modalities.values()]
    if all(reasons):
        raise InputError(f"nothing can be compressed: {'; '.join(filter(None, reasons))}; train another --encoder")
    code = code_version(Path(__file__).parent)
    mark = fingerprint(trained.facts["fingerprint"], recipe.to_json()["compression"], code)
    if resume and is_current(folder / FACTS, mark):
        return load_compressed(folder, trained)
    if not (folder / STATE).exists():
        check_replaceable(folder, FACTS)
    settings = recipe.compression
    split = split_of(data, trained.recipe)
    samples = load_samples(data, tuple(trained.modalities), split)
    train, validation = usable(samples, split)
    torch.set_num_threads(trained.recipe.training.threads)
    torch.manual_seed(recipe.seed)
    chosen = calibration_samples(data, samples, train, recipe)
    calibration = {name: list(torch.split(samples.inputs[name][index], 64)) for name, index in chosen.items()}
    model = QuantizedCoLearner(trained.model, calibration, sparse=settings.sparsity is not None)
    exclude(model.students, trained, {name: pieces[0][:1] for name, pieces in calibration.items()}, settings.exclude)
    tuning = FineTuning(
        model, samples, data.task, settings,
        still_acting(trained.recipe, settings, data.task, samples.target[train]),
        student_outputs(trained.model, samples, with_features=settings.features > 0),
    )  # fmt: skip
    cost = tuning.cost(Loss(data.task, class_weights(data.task, samples.target[train])), validation)
    epochs = tuning.epochs(cost, len(trained.facts["history"]))
    schedule = Schedule(epochs, batch_size(trained.recipe, len(train)), settings.lr, keep_start=True)
    history = fit(
        model, tuning, (train, validation), schedule,
        seed=recipe.seed, state=folder / STATE, fingerprint=mark, label="compress", resume=resume,
        observe=Movement(model.students, {name: pieces[0][:1] for name, pieces in calibration.items()}),
    )  # fmt: skip
    _save_features(folder, model, samples, split)
    about = {name: _statistics(data, name, index) | {"cost": cost[name]} for name, index in chosen.items()}
    _save(folder, trained, model, samples, torch.from_numpy(split.test), mark, history, about)
    return load_compressed(folder, trained)


def calibration_samples(data: PairedSet, samples: Samples, train: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """For each modality the training samples that set the first ranges, at most `compression.calibration` of them."""
    chosen = {}
    for name in samples.inputs:
        index = train[samples.present[name][train]]
        rows = index.numpy()
        date = None if data.date is None else data.date[rows]
        count, seed = recipe.compression.calibration, recipe.seed
        picked = stratified(data.task, data.target[rows], data.groups[rows], count, seed, date=date)
        chosen[name] = index[torch.from_numpy(picked)]
    return chosen


def _statistics(data: PairedSet, name: str, index: Tensor) -> dict[str, Any]:
    rows = index.numpy()
    values, date = np.asarray(data.arrays[name][rows]), None if data.date is None else data.date[rows]
    return statistics(data.task, data.modalities[name], values, data.target[rows], data.groups[rows], date=date)


def _save(
    folder: Path,
    trained: Trained,
    model: QuantizedCoLearner,
    samples: Samples,
    test: Tensor,
    mark: str,
    history: list[Any],
    calibration: dict[str, dict[str, Any]],
) -> None:
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {
        "schema": "edge.compression/1", "fingerprint": mark, "trained": trained.facts["fingerprint"], "students": {},
        "seconds": round(sum(record["seconds"] for record in history), 2), "history": history,
    }  # fmt: skip
    for name, student in model.students.items():
        weights = {key: value for key, value in student.state_dict().items() if "nncf" not in key}
        tensors.update({f"student.{name}.{key}": value for key, value in weights.items()})
        sample = samples.inputs[name][:1]
        ranges = {}
        for layer, limits in layer_ranges(student, sample).items():
            ranges[layer] = dataclasses.asdict(limits)
        for target in PLACEMENTS:
            with as_on(student, sample, ranges, target), torch.no_grad():
                tensors[f"reference.{target}.{name}"] = torch.cat(
                    [student(piece)[0] for piece in samples.pieces(name, test)]
                )
        facts["students"][name] = {
            "ranges": ranges, "excluded": list(student.excluded), "sparse": list(student.sparse),  # type: ignore[arg-type]
            "calibration": calibration[name],
        }  # fmt: skip
    checkpoint.save(folder / WEIGHTS, tensors, {"fingerprint": mark})
    write_json(folder / FACTS, facts)
    (folder / STATE).unlink(missing_ok=True)


def _save_features(folder: Path, model: QuantizedCoLearner, samples: Samples, split: Split) -> None:
    """What `edge train --analyse` compares with the float features; a fake-quantized model is not kept otherwise."""
    tensors = {}
    for part in ("train", "test"):
        for name, view in views_of(model, samples, getattr(split, part)).items():
            tensors[f"{part}.{name}.index"] = torch.from_numpy(view.index)
            for key, values in view.parts.items():
                tensors[f"{part}.{name}.{key}"] = torch.from_numpy(values)
    checkpoint.save(folder / FEATURES, tensors, {})


def load_features(folder: Path, modalities: tuple[str, ...]) -> list[dict[str, Views]]:
    """The features of training and test samples under fake quantization."""
    tensors, _ = checkpoint.load(folder / FEATURES)
    return [
        {
            name: Views(
                tensors[f"{part}.{name}.index"].numpy(),
                {key: tensors[f"{part}.{name}.{key}"].numpy() for key in PARTS},
            )
            for name in modalities
            if f"{part}.{name}.index" in tensors
        }
        for part in ("train", "test")
    ]


@contextlib.contextmanager
def as_on(student: nn.Module, sample: Tensor, names: Iterable[str], target: str) -> Iterator[None]:
    """Within the block a fake-quantized student rounds as the graph of `target` does."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(float_layers(student, sample, not_quantized(student, names, target)))
        if PLACEMENTS[target].activations == "uint8":
            stack.enter_context(uint8_behind_relu(student, sample))
        yield


def not_quantized(student: nn.Module, names: Iterable[str], target: str) -> set[str]:
    """Of the layers and operators that have trained ranges, those that `target` leaves in float."""
    return {name for name in names if not _quantizes(student, name, PLACEMENTS[target])}


def _quantizes(student: nn.Module, name: str, placement: Placement) -> bool:
    if name in student.excluded:  # type: ignore[operator]  # torch types every attribute as a tensor
        return placement.hands_on_integers
    module, _, port = name.rpartition(".")
    if port.isdecimal() and isinstance(operator := student.get_submodule(module), Add | nn.AdaptiveAvgPool2d):
        return int(port) in placement.operators["Add" if isinstance(operator, Add) else "GlobalAveragePool"]
    layer = student.get_submodule(name)
    shape = tuple(layer.weight.shape)  # type: ignore[arg-type]
    return placement.quantizes("Conv" if len(shape) > 2 else "Gemm", shape, getattr(layer, "groups", 1))


def load_compressed(folder: Path, trained: Trained) -> Compressed:
    """Read what `compress` wrote; InputError if it is not there or not whole."""
    facts = read_json(folder / FACTS)
    tensors, stored = checkpoint.load(folder / WEIGHTS)
    try:
        if stored["fingerprint"] != facts["fingerprint"] or facts["trained"] != trained.facts["fingerprint"]:
            raise InputError(f"{folder} was not made from {trained.folder}; compress again with --force")
        return _restore(folder, trained, facts, tensors)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:  # torch: RuntimeError for a wrong tensor
        raise InputError(f"{folder} is not whole: {error}; compress again with --force") from None


def _restore(folder: Path, trained: Trained, facts: dict[str, Any], tensors: dict[str, Tensor]) -> Compressed:
    students, ranges = {}, {}
    for name, entry in facts["students"].items():
        student = FoldedStudent(trained.model.students[name])  # type: ignore[arg-type]
        prefix = f"student.{name}."
        mine = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        student.load_state_dict(mine)
        student.excluded, student.sparse = tuple(entry["excluded"]), tuple(entry["sparse"])
        students[name] = student.eval()
        ranges[name] = {layer: range_from_json(limits) for layer, limits in entry["ranges"].items()}
    references = {
        target: {
            name: to_units(trained.task, tensors[f"reference.{target}.{name}"], trained.target_scaling)
            for name in students
        }
        for target in PLACEMENTS
    }
    return Compressed(folder, students, ranges, references, facts)
