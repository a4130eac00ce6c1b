"""DisCoM-KD (Ienco, Dantas 2024, arXiv 2408.07080): the co-learned students, parted by an adversary.

Its invariant, informative and irrelevant features are z_shared, z_specific and z_unused here; L_cl, L_aux and L_mod are
L_main, L_aux and L_mod of train/objectives.py. In place of the contrast stand

    L_adv    a third discriminator tells the modality from z_shared, through a reversed gradient: it learns to tell,
             the encoders learn that it cannot (Ganin, Lempitsky 2015, arXiv 1409.7495)
    L_perp   the three parts of a sample are orthogonal: mean squared cosine over the pairs of parts

all of weight 1, L_adv of the weight of L_con. The paper's own L_perp may differ in form (its text was not at hand when
this was written): the squared cosine has its minimum at the same place and does not depend on the features' size.
"""

import dataclasses
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge.recipe import Model, Objectives, Recipe
from edge.sensors import Modality
from edge.tasks import Task
from edge.train.distributed import Losses
from edge.train.methods.method import Setting, student_losses
from edge.train.model import CoLearner, Features, TrainingHeads
from edge.train.objectives import CoLearning, Loss, Rows, mean

ABOUT = {"discom-kd": "students parted by gradient reversal; each student needs its own modality only"}
TOGETHER = True


class AdversarialHeads(TrainingHeads):
    """The training heads and the discriminator that z_shared must deceive."""

    def __init__(self, n_modalities: int, task: Task, model: Model) -> None:
        super().__init__(n_modalities, task, model)
        self.tell_shared = nn.Linear(model.embedding // 2, n_modalities)


def reverse(features: Tensor) -> Tensor:
    """The same values; gradients come back with the other sign."""
    return 2 * features.detach() - features


@dataclass(frozen=True)
class Disentangling:
    """The objectives of the module's text.

    L_adv counts by its gradient alone: its value rises when the encoders win and falls when the discriminator does, so
    in `total` it would tell early stopping nothing, or the wrong thing.
    """

    loss: Loss
    weights: Objectives

    def __call__(
        self, features: dict[str, Features], target: Tensor, rows: Rows, heads: AdversarialHeads
    ) -> dict[str, Tensor]:
        """The objectives by name and `total`, their weighted sum."""
        without_contrast = dataclasses.replace(self.weights, con=0.0)
        parts = CoLearning(self.loss, without_contrast)(features, target, rows, heads)
        told = []
        for index, name in enumerate(rows):
            if name in features:
                shared = features[name].shared
                modality = torch.full((len(shared),), index, device=shared.device)
                told.append(F.cross_entropy(heads.tell_shared(reverse(shared)), modality))
        parts["adv"] = mean(told)
        parts["perp"] = mean([orthogonality(part) for part in features.values()])
        adversary = self.weights.con * (parts["adv"] - parts["adv"].detach())
        parts["total"] = parts["total"] + adversary + parts["perp"]
        return parts


def orthogonality(part: Features) -> Tensor:
    """Mean squared cosine between the parts of each sample: 0 if they are orthogonal, at most 1."""
    pairs = combinations((part.shared, part.specific, part.unused), 2)
    return torch.stack([F.cosine_similarity(a, b, dim=1).square().mean() for a, b in pairs]).mean()


def build(modalities: list[Modality], task: Task, recipe: Recipe) -> CoLearner:
    """The co-learned students with one discriminator more."""
    return CoLearner(modalities, task, recipe.model, heads=AdversarialHeads)


def objectives(recipe: Recipe, loss: Loss) -> Disentangling:
    """The recipe's weights; that of L_con is for L_adv."""
    return Disentangling(loss, recipe.objectives)


def losses(network: CoLearner, setting: Setting) -> Losses:
    """As in the module's text."""
    return student_losses(network, setting, objectives(setting.recipe, setting.loss))
