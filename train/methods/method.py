"""What a method's file offers, and the losses that methods with students share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from edge.recipe import Recipe
from edge.sensors import Modality
from edge.tasks import Task
from edge.train.augmentation import turned
from edge.train.distributed import Losses
from edge.train.methods.full import FullStudents
from edge.train.methods.soft_targets import SoftTargets
from edge.train.model import CoLearner, Features, Network
from edge.train.objectives import Loss, Rows
from edge.train.paired import PairedSet
from edge.train.samples import Batch, Samples
from edge.train.splits import Split

# The features of a batch, its target, the rows of each modality, the training heads -> objectives and their "total".
Objective = Callable[[dict[str, Features], Tensor, Rows, Any], dict[str, Tensor]]


@dataclass(frozen=True)
class Setting:
    """What the losses of one run may need. Other methods' results are in the folders beside `folder`."""

    data: PairedSet
    recipe: Recipe
    split: Split
    samples: Samples
    loss: Loss
    folder: Path
    resume: bool
    full: FullStudents | None = None  # for narrower students

    def batch(self, network: Network, index: Tensor) -> Batch:
        """The samples of `index`, as `network` shall see them: where it is, and images turned while it is trained."""
        batch = self.samples.batch(index)
        if network.training and self.recipe.training.augment:
            batch.inputs = turned(batch, index, self.recipe.seed)
        return batch.to(next(network.parameters()).device)


@dataclass(frozen=True)
class Prediction:
    """What a predictor says about the samples `index` (n,): probabilities or values in units (n, K)."""

    index: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Predicted:
    """A predictor that is no network of ours: what it says about each part, and what it cost (None: not a number)."""

    parts: dict[str, Prediction]  # "validation" and "test"
    seconds: float
    epochs: int | None
    parameters: int | None


class Named(Protocol):
    """Every method's file."""

    ABOUT: dict[str, str]  # name -> one line: what it is, what it needs when it is used
    TOGETHER: bool  # reads all modalities at once; otherwise there is one model for each


class Trainable(Named, Protocol):
    """A method that trains one network by train/loop.py."""

    def build(self, modalities: list[Modality], task: Task, recipe: Recipe) -> Network:
        """The untrained network; its random numbers come from torch's generator, which is seeded by then."""

    def losses(self, network: Any, setting: Setting) -> Losses:
        """From the indices of a batch to its objectives and their "total"."""


@runtime_checkable
class Settling(Protocol):
    """A method with something left to do when the network has its weights."""

    def settle(self, network: Any, setting: Setting) -> dict[str, Any]:
        """Do it; gives what is worth keeping in training.json."""


class Students(Trainable, Protocol):
    """A method whose network is a CoLearner: a student for each modality."""

    def objectives(self, recipe: Recipe, loss: Loss) -> Objective:
        """The part of the losses that fine-tuning under fake quantization keeps alive (edge.compress)."""


class Predicting(Named, Protocol):
    """A method that predicts in another way."""

    def predict(
        self, data: PairedSet, recipe: Recipe, split: Split, folder: Path, *, resume: bool
    ) -> dict[str, Predicted]:
        """Its predictors: modality, or `optical+sar`, -> what it says about the validation and the test samples."""


def student_losses(
    network: CoLearner, setting: Setting, objective: Objective, teacher: SoftTargets | None = None
) -> Losses:
    """The objective over batches; with a teacher, `distil` is the distance to what it says, and narrower students also
    have the distances to the full ones (train/methods/full.py).
    """

    def losses(index: Tensor) -> dict[str, Tensor]:
        batch = setting.batch(network, index)
        features = network(batch.inputs)
        parts = objective(features, batch.target, batch.rows, network.heads)
        if teacher is not None:
            parts["distil"] = teacher(features, index, batch.rows)
            parts["total"] = parts["total"] + parts["distil"]
        if setting.full is not None:
            distances = setting.full(features, index, batch.rows)
            parts |= distances
            parts["total"] = torch.stack([parts["total"], *distances.values()]).sum()
        return parts

    return losses
