"""The mean of what the single models say: of probabilities, or of values in units. A sample that lacks a modality has
the mean of the others. Nothing is trained beyond the single models, which are used again where they are there.
"""

import dataclasses
from pathlib import Path

import numpy as np

from edge.errors import InputError
from edge.recipe import Recipe
from edge.train.methods.method import Predicted, Prediction
from edge.train.paired import PairedSet
from edge.train.splits import Split

ABOUT = {"ensemble": "mean of the single models' predictions; needs every modality in use"}
TOGETHER = True


def predict(data: PairedSet, recipe: Recipe, split: Split, folder: Path, *, resume: bool) -> dict[str, Predicted]:
    """One predictor that needs all modalities."""
    from edge.train.training import choose_modalities, predictions, train

    names = choose_modalities(data, recipe)
    singles = []
    for name in names:
        alone = dataclasses.replace(recipe, method="single", modalities=(name,))
        singles.append(train(data, alone, folder / f"single-{name}", resume=resume))
    parts = {}
    for part, index in (("validation", split.validation), ("test", split.test)):
        found = [predictions(model, data, index).get(name) for name, model in zip(names, singles, strict=True)]
        there = [one for one in found if one is not None]
        if not there:
            raise InputError(f"no sample of the {part} part has any of the modalities {', '.join(names)}")
        parts[part] = average(there)
    return {
        "+".join(names): Predicted(
            parts,
            seconds=sum(model.facts["seconds"] for model in singles),
            epochs=sum(len(model.facts["history"]) for model in singles),
            parameters=sum(model.model.parameters_of(name) for name, model in zip(names, singles, strict=True)),
        )
    }


def average(found: list[Prediction]) -> Prediction:
    """The mean for each sample over those that say something about it."""
    index, place = np.unique(np.concatenate([one.index for one in found]), return_inverse=True)
    total = np.zeros((len(index), found[0].values.shape[1]))
    np.add.at(total, place, np.concatenate([one.values for one in found]))
    return Prediction(index, total / np.bincount(place)[:, None])
