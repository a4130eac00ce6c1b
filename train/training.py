"""`edge train`: a paired set and a recipe in, a folder with a trained network out; train/methods says which network."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge.errors import InputError
from edge.files import check_replaceable, read_json, write_json
from edge.metrics import score
from edge.recipe import Recipe, recipe_from_json
from edge.sensors import Modality
from edge.tasks import Task
from edge.train import checkpoint
from edge.train.distributed import compute_device, first_goes_ahead
from edge.train.encoders import weights_digest
from edge.train.fingerprint import code_version, fingerprint, is_current
from edge.train.loop import Schedule, fit
from edge.train.mapped import rows_of
from edge.train.methods import STUDENTS_BY_NAME, TOGETHER, TRAINABLE_BY_NAME
from edge.train.methods.full import FullStudents, student_outputs
from edge.train.methods.method import Objective, Prediction, Setting, Settling
from edge.train.model import CoLearner, Network
from edge.train.objectives import Loss, class_weights
from edge.train.paired import PairedSet
from edge.train.samples import AT_ONCE, load_samples, usable
from edge.train.scaling import Scaling
from edge.train.splits import Split, protocol_text, split_indices

STEPS = 800  # of the optimiser: where a small set's students are trained; benchmarks/RESULTS.md
SCHEMA = "edge.training/1"
FACTS = "training.json"
WEIGHTS = "model.safetensors"
STATE = "state.safetensors"


@dataclass
class Fitted:
    """A trained network and what is needed to use it without its data."""

    folder: Path
    model: Network
    modalities: dict[str, Modality]
    task: Task
    scaling: dict[str, Scaling]
    target_scaling: tuple[float, float]
    recipe: Recipe
    facts: dict[str, Any]  # training.json


@dataclass
class Trained(Fitted):
    """A trained network that has a student for each modality."""

    model: CoLearner


def choose_modalities(data: PairedSet, recipe: Recipe) -> tuple[str, ...]:
    """The recipe's modalities, or those that the data set recommends, or all. InputError for an unknown one."""
    names = recipe.modalities or data.default_modalities or tuple(data.modalities)
    for name in names:
        check_modality(name, tuple(data.modalities), data.name)
    if len(set(names)) != len(names):
        raise InputError(f"modalities {list(names)}: one is named twice")
    if recipe.method in TOGETHER and len(names) < 2:
        raise InputError(f"method {recipe.method!r} learns from at least two modalities together, got {list(names)}")
    return names


def check_modality(name: str, known: tuple[str, ...], where: str) -> None:
    """InputError that names the known ones."""
    if name not in known:
        raise InputError(f"modality {name!r} is not in {where}; known: {', '.join(known)}")


def learning(recipe: Recipe, task: Task, target: Tensor) -> Objective:
    """The objectives of a method with students, which fine-tuning keeps alive; `target`: that of the training part."""
    return STUDENTS_BY_NAME[recipe.method].objectives(recipe, Loss(task, class_weights(task, target)))


def split_of(data: PairedSet, recipe: Recipe) -> Split:
    """The recipe's fold under the recipe's protocol."""
    return split_indices(data, recipe.fold, recipe.folds, protocol=recipe.protocol, seed=recipe.seed)


def batch_size(recipe: Recipe, samples: int) -> int:
    """The recipe's batch, or the paper's: 32 for a small set, 128 for a large one."""
    return recipe.training.batch or (32 if samples < 10_000 else 128)


def schedule_of(recipe: Recipe, samples: int) -> Schedule:
    """The recipe's schedule for so many training samples."""
    settings, batch = recipe.training, batch_size(recipe, samples)
    if settings.patience is not None:
        return Schedule(
            settings.epochs or 100, batch, settings.lr, patience=settings.patience, min_delta=settings.min_delta
        )
    epochs = math.ceil(STEPS * batch / samples)
    return Schedule(settings.epochs or min(max(epochs, 12), 100), batch, settings.lr, decay=True)


def training_fingerprint(
    data: PairedSet, recipe: Recipe, modalities: tuple[str, ...], full: "Trained | None" = None
) -> str:
    """Data, code, the part of the recipe that training reads, and the full students that narrow ones learn from."""
    read = recipe.to_json()
    for other in ("data", "modalities", "compression", "target", "max_drop", "max_class_drop", "width"):
        del read[other]
    read["model"]["weights"] = weights_digest(recipe.model)
    if full is not None:
        read["full"] = full.facts["fingerprint"]
    return fingerprint(data.fingerprint, modalities, read, torch.__version__, code_version(Path(__file__).parent))


def train(
    data: PairedSet, recipe: Recipe, folder: Path, *, resume: bool = True, full: Trained | None = None
) -> Trained:
    """Train students that are not trained yet: a folder with the same fingerprint is loaded, a started one continued.

    `full`: wider students of the same modalities and samples, from which these learn, too (train/methods/full.py).
    InputError: a method that gives no students, see `edge.train.methods`.
    """
    if recipe.method not in STUDENTS_BY_NAME:
        raise InputError(
            f"method {recipe.method!r} gives no student of one modality; use {', '.join(STUDENTS_BY_NAME)}"
        )
    trained = train_network(data, recipe, folder, resume=resume, full=full)
    assert isinstance(trained, Trained)  # noqa: S101 - the methods' types say so
    return trained


def train_network(
    data: PairedSet, recipe: Recipe, folder: Path, *, resume: bool = True, full: Trained | None = None
) -> Fitted:
    """As `train`, for every method that trains a network. Others that it builds on go into the folders beside."""
    if recipe.width != 1:
        raise InputError(
            f"width is {recipe.width:g}; narrower students are for `edge compress`, `edge build` and `edge front`"
        )
    modalities = choose_modalities(data, recipe)
    mark = training_fingerprint(data, recipe, modalities, full)
    if resume and is_current(folder / FACTS, mark):
        return load_network(folder)
    if not (folder / STATE).exists():
        check_replaceable(folder, FACTS)
    device = compute_device(recipe.training.device)
    method, split = TRAINABLE_BY_NAME[recipe.method], split_of(data, recipe)
    samples = load_samples(data, modalities, split)
    parts = usable(samples, split)
    torch.set_num_threads(recipe.training.threads)
    torch.manual_seed(recipe.seed)
    described = {name: data.modalities[name] for name in modalities}
    model = method.build(list(described.values()), data.task, recipe)
    loss = Loss(data.task, class_weights(data.task, samples.target[parts[0]]))
    teachers = None if full is None else FullStudents(data.task, student_outputs(full.model, samples))
    setting = Setting(data, recipe, split, samples, loss, folder, resume, teachers)
    history = fit(
        model, method.losses(model, setting), parts, schedule_of(recipe, len(parts[0])),
        seed=recipe.seed, state=folder / STATE, fingerprint=mark,
        label=f"train {recipe.method} {'+'.join(modalities)}", resume=resume,
        device=device, bf16=recipe.training.bf16,
    )  # fmt: skip
    settled = method.settle(model, setting) if isinstance(method, Settling) else {}
    fitted = Fitted(folder, model, described, data.task, samples.scaling, samples.target_scaling, recipe, {})
    fitted.facts = {
        "schema": SCHEMA,
        "fingerprint": mark,
        "recipe": recipe.to_json(),
        "dataset": {"name": data.name, "fingerprint": data.fingerprint, "source": data.source},
        "modalities": {name: modality.to_json() for name, modality in described.items()},
        "task": data.task.to_json(),
        "protocol": protocol_text(data, recipe),
        "split": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        "target_scaling": samples.target_scaling,
        "full": full and full.facts["fingerprint"],
        "seconds": round(sum(record["seconds"] for record in history), 2),
        "validation": {
            name: score(data.task, found.values, np.asarray(data.target)[found.index])
            for name, found in predictions(fitted, data, split.validation).items()
        },
        **settled,
        "history": history,
    }
    with first_goes_ahead() as first:
        if first:
            _save(fitted)
    return load_network(folder)


def predictions(fitted: Fitted, data: PairedSet, index: np.ndarray) -> dict[str, Prediction]:
    """What each predictor of a network says about those of the samples `index` that it can read, in units."""
    return {
        name: Prediction(found, to_units(data.task, output, fitted.target_scaling).numpy())
        for name, (found, output) in outputs(fitted, data, index).items()
    }


@torch.no_grad()
def outputs(fitted: Fitted, data: PairedSet, index: np.ndarray) -> dict[str, tuple[np.ndarray, Tensor]]:
    """As `predictions`: the samples (n,) and their logits or standardised values (n, K)."""
    fitted.model.eval()
    found: dict[str, list[tuple[np.ndarray, Tensor]]] = {}
    for start in range(0, len(index), AT_ONCE):
        piece, inputs, rows = index[start : start + AT_ONCE], {}, {}
        for name, scaling in fitted.scaling.items():
            present = data.present(name)[piece]
            rows[name] = torch.from_numpy(np.flatnonzero(present))
            if len(rows[name]):
                values = np.asarray(rows_of(data.arrays[name])[piece[present]], dtype=np.float32)
                inputs[name] = torch.from_numpy(scaling.apply(values))
        for name, (at, output) in fitted.model.outputs(inputs, rows).items():
            found.setdefault(name, []).append((piece[at.numpy()], output))
    return {
        name: (np.concatenate([at for at, _ in pieces]), torch.cat([output for _, output in pieces]))
        for name, pieces in found.items()
    }


def to_units(task: Task, prediction: Tensor, target_scaling: tuple[float, float]) -> Tensor:
    """Logits -> probabilities, standardised values -> units of the target."""
    if task.kind == "regression":
        return prediction * target_scaling[1] + target_scaling[0]
    return prediction.sigmoid() if task.kind == "multilabel" else prediction.softmax(dim=1)


def _save(fitted: Fitted) -> None:
    tensors, folder = dict(fitted.model.state_dict()), fitted.folder
    for name, scaling in fitted.scaling.items():
        tensors[f"scaling.{name}.mean"] = torch.from_numpy(scaling.mean)
        tensors[f"scaling.{name}.std"] = torch.from_numpy(scaling.std)
    checkpoint.save(folder / WEIGHTS, tensors, {"fingerprint": fitted.facts["fingerprint"]})
    write_json(folder / FACTS, fitted.facts)
    (folder / STATE).unlink(missing_ok=True)


def load_trained(folder: Path) -> Trained:
    """Read what `train` wrote; InputError if it is not there, not whole, or no students."""
    trained = load_network(folder)
    if not isinstance(trained, Trained):
        raise InputError(f"{folder} holds a {trained.recipe.method!r} network, which has no student of one modality")
    return trained


def load_network(folder: Path) -> Fitted:
    """Read what `train_network` wrote; InputError if it is not there or not whole."""
    facts = read_json(folder / FACTS)
    schema = facts.get("schema") if isinstance(facts, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{folder / FACTS} has schema {schema!r}; this version reads {SCHEMA!r}")
    tensors, stored = checkpoint.load(folder / WEIGHTS)
    try:
        if stored["fingerprint"] != facts["fingerprint"]:
            raise InputError(f"{folder / WEIGHTS} and {FACTS} are of different runs; train again with --force")
        return _restore(folder, facts, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # torch: RuntimeError for a wrong tensor
        raise InputError(f"{folder} is not whole: {error}; train again with --force") from None


def _restore(folder: Path, facts: dict[str, Any], tensors: dict[str, Tensor]) -> Fitted:
    recipe, task = recipe_from_json(facts["recipe"]), Task.from_json(facts["task"])
    modalities = {name: Modality.from_json(name, entry) for name, entry in facts["modalities"].items()}
    scaling = {
        name: Scaling(tensors.pop(f"scaling.{name}.mean").numpy(), tensors.pop(f"scaling.{name}.std").numpy())
        for name in modalities
    }
    blank = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, weights=None))  # they are in `tensors`
    model = TRAINABLE_BY_NAME[recipe.method].build(list(modalities.values()), task, blank)
    model.load_state_dict(tensors)
    model.eval()
    mean, std = facts["target_scaling"]
    if isinstance(model, CoLearner):
        return Trained(folder, model, modalities, task, scaling, (mean, std), recipe, facts)
    return Fitted(folder, model, modalities, task, scaling, (mean, std), recipe, facts)
