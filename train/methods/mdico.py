"""MDiCo (Mena et al. 2025, arXiv 2510.19579): students of all modalities learn together, each is used alone.

The model is in train/model.py, its objectives in train/objectives.py. Default is what the paper's figure shows;
`released` is what the authors' code does instead, and each of the other variants lacks one objective.
"""

import dataclasses

from edge.recipe import Recipe
from edge.sensors import Modality
from edge.tasks import Task
from edge.train.distributed import Losses
from edge.train.methods.method import Setting, student_losses
from edge.train.model import CoLearner
from edge.train.objectives import CoLearning, Loss

ABOUT = {
    "mdico": "co-learning as in the paper's figure; each student needs its own modality only",
    "released": "co-learning as the authors' code does it; each student needs its own modality only",
    "without-con": "co-learning without the contrast of shared features; each student needs its own modality only",
    "without-mod": "co-learning without the modality discriminators; each student needs its own modality only",
    "without-aux": "co-learning without the auxiliary predictions; each student needs its own modality only",
}
TOGETHER = True


def build(modalities: list[Modality], task: Task, recipe: Recipe) -> CoLearner:
    """Two encoders and a head for each modality, and the heads that only training needs."""
    return CoLearner(modalities, task, recipe.model)


def objectives(recipe: Recipe, loss: Loss) -> CoLearning:
    """L_main, L_aux, L_con and L_mod with the recipe's weights; a `without` variant has weight 0 for one of them."""
    weights = recipe.objectives
    if recipe.method.startswith("without-"):
        weights = dataclasses.replace(weights, **{recipe.method.removeprefix("without-"): 0.0})
    return CoLearning(loss, weights, released=recipe.method == "released")


def losses(network: CoLearner, setting: Setting) -> Losses:
    """The weighted sum of the objectives."""
    return student_losses(network, setting, objectives(setting.recipe, setting.loss))
