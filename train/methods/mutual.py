"""Deep mutual learning (Zhang, Xiang, Hospedales, Lu 2018, arXiv 1706.00384), with modalities as the cohort.

Each student learns from the target and from what the other students say about the same sample at that moment:
L_m = loss(y_m, y) + mean over the others n of KL(p_n || p_m), p_n held fixed (eq. 7); squared error for regression.
All students step at once, where the paper's step one after the other. Students have the co-learned students' two
encoders, so that the comparison is about training and not about size.
"""

import dataclasses
from dataclasses import dataclass
from itertools import permutations

from torch import Tensor

from edge.recipe import Recipe
from edge.sensors import Modality
from edge.tasks import Task
from edge.train.distributed import Losses
from edge.train.methods.method import Setting, student_losses
from edge.train.methods.soft_targets import distillation
from edge.train.model import CoLearner, Features, TrainingHeads
from edge.train.objectives import CoLearning, Loss, Rows, common, mean

ABOUT = {"mutual": "students learn from each other's predictions; each student needs its own modality only"}
TOGETHER = True


@dataclass(frozen=True)
class MutualLearning:
    """L_main and `mutual`, the mean over ordered pairs of students: the mean over students of L_m above."""

    main: CoLearning

    def __call__(
        self, features: dict[str, Features], target: Tensor, rows: Rows, heads: TrainingHeads
    ) -> dict[str, Tensor]:
        """The objectives by name and their sum; only samples that both students see count for a pair."""
        parts = self.main(features, target, rows, heads)
        terms = []
        for student, peer in permutations(features, 2):
            mine, its = features[student].prediction, features[peer].prediction.detach()
            mine, its = common(mine, its, rows[student], rows[peer])
            if len(mine):
                terms.append(distillation(self.main.loss.task, mine, its))
        parts["mutual"] = mean(terms)
        parts["total"] = parts["total"] + parts["mutual"]
        return parts


def build(modalities: list[Modality], task: Task, recipe: Recipe) -> CoLearner:
    """The co-learned students."""
    return CoLearner(modalities, task, recipe.model)


def objectives(recipe: Recipe, loss: Loss) -> MutualLearning:
    """L_main and the mutual term, both of weight 1 as in the paper."""
    return MutualLearning(CoLearning(loss, dataclasses.replace(recipe.objectives, aux=0.0, con=0.0, mod=0.0)))


def losses(network: CoLearner, setting: Setting) -> Losses:
    """As in the module's text."""
    return student_losses(network, setting, objectives(setting.recipe, setting.loss))
