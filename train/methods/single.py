"""What co-learning must beat: a model that was trained on its own modality only.

`single` has one encoder. `single-matched` is the co-learned student itself (two encoders, the same parameters and the
same latency), so that a difference to it is due to training together and not to a larger network.
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
    "single": "one encoder and L_main, one modality in training and in use",
    "single-matched": "the co-learned student's two encoders with L_main only, one modality in training and in use",
}
TOGETHER = False


def build(modalities: list[Modality], task: Task, recipe: Recipe) -> CoLearner:
    """One encoder, or the two of a student; the training heads are there and get no gradient."""
    return CoLearner(modalities, task, recipe.model, single=recipe.method == "single")


def objectives(recipe: Recipe, loss: Loss) -> CoLearning:
    """L_main alone."""
    return CoLearning(loss, dataclasses.replace(recipe.objectives, aux=0.0, con=0.0, mod=0.0))


def losses(network: CoLearner, setting: Setting) -> Losses:
    """L_main alone."""
    return student_losses(network, setting, objectives(setting.recipe, setting.loss))
