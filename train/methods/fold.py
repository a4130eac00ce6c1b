"""One fold of a comparison: train or read what is there, predict, score."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import InputError
from edge.files import check_replaceable, read_json, write_json
from edge.metrics import score
from edge.recipe import Recipe
from edge.train.distributed import first_goes_ahead
from edge.train.fingerprint import is_current
from edge.train.methods import PREDICTING_BY_NAME, TOGETHER
from edge.train.methods.method import Predicted, Prediction
from edge.train.paired import PairedSet
from edge.train.splits import Split, protocol_of, protocol_text
from edge.train.training import (
    FACTS,
    Fitted,
    choose_modalities,
    predictions,
    split_of,
    train_network,
    training_fingerprint,
)

SCORES = "edge.scores/1"


@dataclass
class Scored:
    """What a method that is no network left: its folder, and training.json with the scores of its predictors."""

    folder: Path
    facts: dict[str, Any]


Result = Fitted | Scored


def results(data: PairedSet, recipe: Recipe, folder: Path, *, resume: bool = True) -> Iterator[Result]:
    """Everything that the method trains, in folders METHOD or METHOD-MODALITY of `folder`, one after the other."""
    names = choose_modalities(data, recipe)
    if recipe.method in PREDICTING_BY_NAME:
        yield scored(data, recipe, folder, resume=resume)
    elif recipe.method in TOGETHER:
        yield train_network(data, recipe, folder / recipe.method, resume=resume)
    else:
        for name in names:
            alone = dataclasses.replace(recipe, modalities=(name,))
            yield train_network(data, alone, folder / f"{recipe.method}-{name}", resume=resume)


def scored(data: PairedSet, recipe: Recipe, folder: Path, *, resume: bool) -> Scored:
    """Predict by a method that is no network; its scores are kept in METHOD/training.json, and nothing else of it."""
    place = folder / recipe.method
    mark = training_fingerprint(data, recipe, choose_modalities(data, recipe))
    if resume and is_current(place / FACTS, mark):
        return Scored(place, read_json(place / FACTS))
    check_replaceable(place, FACTS)
    split = split_of(data, recipe)
    found = PREDICTING_BY_NAME[recipe.method].predict(data, recipe, split, folder, resume=resume)
    facts = {
        "schema": SCORES,
        "fingerprint": mark,
        "recipe": recipe.to_json(),
        "dataset": {"name": data.name, "fingerprint": data.fingerprint, "source": data.source},
        "task": data.task.to_json(),
        "protocol": protocol_text(data, recipe),
        "split": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        "seconds": round(sum(one.seconds for one in found.values()), 2),
        "validation": {name: scores_of(data, one.parts["validation"]) for name, one in found.items()},
        "predictors": {name: numbers(data, one) for name, one in found.items()},
        "history": [],
    }
    with first_goes_ahead() as first:
        if first:
            write_json(place / FACTS, facts)
    return Scored(place, facts)


def numbers(data: PairedSet, one: Predicted) -> dict[str, Any]:
    """What a row says about a predictor: scores of both parts and what it cost."""
    scores = {part: scores_of(data, found) for part, found in one.parts.items()}
    return {**scores, "epochs": one.epochs, "seconds": one.seconds, "parameters": one.parameters}


def scores_of(data: PairedSet, found: Prediction) -> dict[str, float]:
    """Metrics over the samples that the predictor says something about."""
    return score(data.task, found.values, np.asarray(data.target)[found.index])


def fold_rows(data: PairedSet, recipe: Recipe, folder: Path, *, resume: bool) -> list[dict[str, Any]]:
    """See `edge.train.methods.run_fold`."""
    split = split_of(data, recipe)
    rows = []
    for result in results(data, recipe, folder, resume=resume):
        for name, found in predictors(data, split, result).items():
            shared = {
                "method": recipe.method, "modality": name, "protocol": protocol_of(data, recipe.protocol),
                "fold": recipe.fold, "seed": recipe.seed,
                **counts(data, split, name), "metric": data.task.metric,
            }  # fmt: skip
            rows.append(shared | found)
    return rows


def predictors(data: PairedSet, split: Split, result: Result) -> dict[str, dict[str, Any]]:
    """The numbers of each predictor that a result holds."""
    if isinstance(result, Scored):
        known: dict[str, dict[str, Any]] = result.facts["predictors"]
        return known
    facts, test = result.facts, predictions(result, data, split.test)
    absent = set(facts["validation"]) - set(test)
    if absent:
        raise InputError(f"no sample of the test part has the modality {min(absent)!r}; use another fold")
    return {
        name: {
            "validation": facts["validation"][name], "test": scores_of(data, test[name]),
            "epochs": len(facts["history"]), "seconds": facts["seconds"],
            "parameters": result.model.parameters_of(name),
        }
        for name in facts["validation"]
    }  # fmt: skip


def counts(data: PairedSet, split: Split, name: str) -> dict[str, int]:
    """How many samples of each part have a modality that the predictor needs."""
    has = np.logical_or.reduce([data.present(modality) for modality in name.split("+")])
    return {f"n_{part}": int(has[getattr(split, part)].sum()) for part in ("train", "validation", "test")}
