"""What acts on fake-quantized students while they are fine-tuned, whether that is needed, and what it moves.

Calibrating the ranges of a well-trained student costs next to nothing, and every epoch after that takes its predictions
away from those of FP32, class by class, without being better on average (benchmarks/RESULTS.md, made by
benchmarks/int8_study.py). So students are fine-tuned where calibration alone costs one of them more than COST, where
weights were set to 0, and where the recipe asks for epochs.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge.compress.quantize import LayerRange, layer_ranges
from edge.recipe import OBJECTIVES, Compression, Recipe
from edge.tasks import Task
from edge.train.methods.method import Objective
from edge.train.methods.soft_targets import distillation
from edge.train.model import Features
from edge.train.objectives import Loss, mean
from edge.train.samples import Samples
from edge.train.training import learning

SHARE = 8  # one epoch for so many of training: each takes up to twice as long, so a quarter of the time at most
COST = 0.01  # relative rise of a student's loss on the validation samples


@dataclass(frozen=True)
class FineTuning:
    """The losses of fake-quantized students. `in_float`: what the float students make of all samples."""

    model: nn.Module  # inputs -> Features, with the `heads` of training
    samples: Samples
    task: Task
    settings: Compression
    objectives: Objective
    in_float: dict[str, Features]

    def __call__(self, index: Tensor) -> dict[str, Tensor]:
        """The objectives that act, the distances to the float students, and their weighted sum, for a batch."""
        batch = self.samples.batch(index)
        features = self.model(batch.inputs)
        parts = self.objectives(features, batch.target, batch.rows, self.model.heads)
        own = {name: index[batch.rows[name]] for name in features}
        if self.settings.distil:
            terms = [
                distillation(self.task, part.prediction, self.in_float[name].prediction[own[name]])
                for name, part in features.items()
            ]
            parts["distil"] = mean(terms)
            parts["total"] = parts["total"] + self.settings.distil * parts["distil"]
        if self.settings.features:
            parts["features"] = mean(
                [feature_distance(part, self.in_float[name], own[name]) for name, part in features.items()]
            )
            parts["total"] = parts["total"] + self.settings.features * parts["features"]
        return parts

    @torch.no_grad()
    def cost(self, loss: Loss, validation: Tensor) -> dict[str, float]:
        """By how much, relative to FP32, each student's loss on the validation samples has risen by rounding alone."""
        self.model.eval()
        rises = {}
        for name, outputs in self.in_float.items():
            index = validation[self.samples.present[name][validation]]
            pieces = self.samples.pieces(name, index)
            rounded = torch.cat([self.model({name: piece})[name].prediction for piece in pieces])
            before, after = (
                float(loss(part, self.samples.target[index])) for part in (outputs.prediction[index], rounded)
            )
            rises[name] = (after - before) / before if before else 0.0
        return rises

    def epochs(self, cost: dict[str, float], trained: int) -> int:
        """How long to fine-tune students that were trained for `trained` epochs."""
        if self.settings.epochs is not None:
            return self.settings.epochs
        return max(1, trained // SHARE) if self.settings.sparsity or max(cost.values()) > COST else 0


def still_acting(recipe: Recipe, settings: Compression, task: Task, target: Tensor) -> Objective:
    """The objectives of training, those that do not act in fine-tuning with weight 0; `target`: of training samples."""
    weights = {name: 0.0 for name in OBJECTIVES if name not in settings.objectives}
    acting = dataclasses.replace(recipe, objectives=dataclasses.replace(recipe.objectives, **weights))
    return learning(acting, task, target)


def feature_distance(part: Features, in_float: Features, index: Tensor) -> Tensor:
    """Mean square difference of specific and shared features (N, h) to the float student's for the samples `index`,
    relative to the mean square of those: 0 where they are equal, 1 where nothing is left.
    """
    terms = []
    for name in ("specific", "shared"):
        wanted = getattr(in_float, name)[index]
        terms.append((getattr(part, name) - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12))
    return torch.stack(terms).mean()


class Movement:
    """How far fine-tuning has moved the ranges from what calibration set: for the record of each epoch."""

    def __init__(self, students: nn.ModuleDict, samples: dict[str, Tensor]) -> None:
        self.students, self.samples = students, samples
        self.start = self._limits()

    def __call__(self) -> dict[str, Any]:
        """By modality the `mean` and the `largest` relative change of a range, and the `layer` that has the latter."""
        found = {}
        for name, limits in self._limits().items():
            changes = {layer: abs(limit / self.start[name][layer] - 1) for layer, limit in limits.items()}
            if changes:
                largest = max(changes, key=changes.__getitem__)
                mean_change = sum(changes.values()) / len(changes)
                found[name] = {
                    "mean": round(mean_change, 6), "largest": round(changes[largest], 6), "layer": largest
                }  # fmt: skip
        return {"ranges": found}

    def _limits(self) -> dict[str, dict[str, float]]:
        """The largest value of each input's and each weight's range."""
        limits: dict[str, dict[str, float]] = {}
        for name, student in self.students.items():
            limits[name] = {}
            for layer, found in layer_ranges(student, self.samples[name]).items():
                limits[name][f"{layer}.input"] = found.input_limit
                if isinstance(found, LayerRange):
                    limits[name][f"{layer}.weight"] = float(np.max(found.weight_limit))
        return limits
