"""`edge train`: a paired set and a recipe in, a folder with trained students out."""

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
from edge.train.fingerprint import code_version, fingerprint, is_current
from edge.train.loop import Schedule, fit
from edge.train.model import CoLearner
from edge.train.objectives import CoLearning, Loss, class_weights
from edge.train.paired import PairedSet
from edge.train.samples import Samples, load_samples, usable
from edge.train.scaling import Scaling
from edge.train.splits import Split, split_indices

SCHEMA = "edge.training/1"
FACTS = "training.json"
WEIGHTS = "model.safetensors"
STATE = "state.safetensors"


@dataclass
class Trained:
    """A trained model and what is needed to use it without its data."""

    folder: Path
    model: CoLearner
    modalities: dict[str, Modality]
    task: Task
    scaling: dict[str, Scaling]
    target_scaling: tuple[float, float]
    recipe: Recipe
    facts: dict[str, Any]  # training.json


def choose_modalities(data: PairedSet, recipe: Recipe) -> tuple[str, ...]:
    """The recipe's modalities, or those that the data set recommends, or all. InputError for an unknown one."""
    names = recipe.modalities or data.default_modalities or tuple(data.modalities)
    for name in names:
        check_modality(name, tuple(data.modalities), data.name)
    if len(set(names)) != len(names):
        raise InputError(f"modalities {list(names)}: one is named twice")
    if recipe.method in ("mdico", "released") and len(names) < 2:
        raise InputError(f"method {recipe.method!r} learns from at least two modalities together, got {list(names)}")
    return names


def check_modality(name: str, known: tuple[str, ...], where: str) -> None:
    """InputError that names the known ones."""
    if name not in known:
        raise InputError(f"modality {name!r} is not in {where}; known: {', '.join(known)}")


def learning(recipe: Recipe, task: Task, target: Tensor) -> CoLearning:
    """The objectives of a method; the two single methods have L_main alone."""
    weights = recipe.objectives
    if recipe.method in ("single", "single-matched"):
        weights = type(weights)(main=weights.main, aux=0, con=0, mod=0, temperature=weights.temperature)
    return CoLearning(Loss(task, class_weights(task, target)), weights, released=recipe.method == "released")


def batch_size(recipe: Recipe, samples: int) -> int:
    """The recipe's batch, or the paper's: 32 for a small set, 128 for a large one."""
    return recipe.training.batch or (32 if samples < 10_000 else 128)


def training_fingerprint(data: PairedSet, recipe: Recipe, modalities: tuple[str, ...]) -> str:
    """Data, code and the part of the recipe that training reads."""
    read = recipe.to_json()
    for other in ("data", "modalities", "compression", "target", "max_drop"):
        del read[other]
    return fingerprint(data.fingerprint, modalities, read, torch.__version__, code_version(Path(__file__).parent))


def train(data: PairedSet, recipe: Recipe, folder: Path, *, resume: bool = True) -> Trained:
    """Train what is not trained yet: a folder with the same fingerprint is loaded, a started one is continued."""
    modalities = choose_modalities(data, recipe)
    mark = training_fingerprint(data, recipe, modalities)
    if resume and is_current(folder / FACTS, mark):
        return load_trained(folder)
    if not (folder / STATE).exists():
        check_replaceable(folder, FACTS)
    split = split_indices(data, recipe.fold, recipe.folds)
    samples = load_samples(data, modalities, split)
    parts = usable(samples, split)
    torch.set_num_threads(recipe.training.threads)
    torch.manual_seed(recipe.seed)
    described = [data.modalities[name] for name in modalities]
    model = CoLearner(described, data.task, recipe.model, single=recipe.method == "single")
    objectives = learning(recipe, data.task, samples.target[split.train])

    def losses(index: Tensor) -> dict[str, Tensor]:
        batch = samples.batch(index)
        return objectives(model(batch.inputs), batch.target, batch.rows, model.heads)

    settings = recipe.training
    schedule = Schedule(
        settings.epochs, batch_size(recipe, len(split.train)), settings.lr, settings.patience, settings.min_delta
    )
    label = f"train {recipe.method} {'+'.join(modalities)}"
    history = fit(
        model, losses, parts, schedule,
        seed=recipe.seed, state=folder / STATE, fingerprint=mark, label=label, resume=resume,
    )  # fmt: skip
    facts = {
        "schema": SCHEMA,
        "fingerprint": mark,
        "recipe": recipe.to_json(),
        "dataset": {"name": data.name, "fingerprint": data.fingerprint, "source": data.source},
        "modalities": {modality.name: modality.to_json() for modality in described},
        "task": data.task.to_json(),
        "split": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        "target_scaling": samples.target_scaling,
        "seconds": round(sum(record["seconds"] for record in history), 2),
        "validation": {name: validate(model, samples, data, split, name) for name in modalities},
        "history": history,
    }
    _save(folder, model, samples, facts)
    return load_trained(folder)


def validate(model: CoLearner, samples: Samples, data: PairedSet, split: Split, name: str) -> dict[str, float]:
    """Metrics of one student on the validation samples that have its modality."""
    index = split.validation[data.present(name)[split.validation]]
    with torch.no_grad():
        output = model.students[name](samples.inputs[name][torch.from_numpy(index)]).prediction
    return score(data.task, to_units(data.task, output, samples.target_scaling).numpy(), np.asarray(data.target)[index])


def to_units(task: Task, prediction: Tensor, target_scaling: tuple[float, float]) -> Tensor:
    """Logits -> probabilities, standardised values -> units of the target."""
    if task.kind == "regression":
        return prediction * target_scaling[1] + target_scaling[0]
    return prediction.sigmoid() if task.kind == "multilabel" else prediction.softmax(dim=1)


def _save(folder: Path, model: CoLearner, samples: Samples, facts: dict[str, Any]) -> None:
    tensors = dict(model.state_dict())
    for name, scaling in samples.scaling.items():
        tensors[f"scaling.{name}.mean"] = torch.from_numpy(scaling.mean)
        tensors[f"scaling.{name}.std"] = torch.from_numpy(scaling.std)
    checkpoint.save(folder / WEIGHTS, tensors, {"fingerprint": facts["fingerprint"]})
    write_json(folder / FACTS, facts)
    (folder / STATE).unlink(missing_ok=True)


def load_trained(folder: Path) -> Trained:
    """Read what `train` wrote; InputError if it is not there or not whole."""
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


def _restore(folder: Path, facts: dict[str, Any], tensors: dict[str, Tensor]) -> Trained:
    recipe, task = recipe_from_json(facts["recipe"]), Task.from_json(facts["task"])
    modalities = {name: Modality.from_json(name, entry) for name, entry in facts["modalities"].items()}
    scaling = {
        name: Scaling(tensors.pop(f"scaling.{name}.mean").numpy(), tensors.pop(f"scaling.{name}.std").numpy())
        for name in modalities
    }
    model = CoLearner(list(modalities.values()), task, recipe.model, single=recipe.method == "single")
    model.load_state_dict(tensors)
    model.eval()
    mean, std = facts["target_scaling"]
    return Trained(folder, model, modalities, task, scaling, (mean, std), recipe, facts)
