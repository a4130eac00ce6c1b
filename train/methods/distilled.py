"""Fusion teacher -> single-modality students (Hinton et al. 2015, arXiv 1503.02531).

The teacher is the `concat` model of the same fold and seed; what it says about the samples is computed once. Students
have the co-learned students' two encoders, so that the comparison is about training and not about size.
"""

import dataclasses

import numpy as np
import torch

from edge.recipe import Recipe
from edge.sensors import Modality
from edge.tasks import Task
from edge.train.distributed import Losses
from edge.train.methods.method import Setting, student_losses
from edge.train.methods.soft_targets import TEMPERATURE, SoftTargets, soft_targets
from edge.train.model import CoLearner
from edge.train.objectives import CoLearning, Loss

ABOUT = {"distilled": "students learn from a teacher with all modalities; each student needs its own modality only"}
TOGETHER = True


def build(modalities: list[Modality], task: Task, recipe: Recipe) -> CoLearner:
    """The co-learned students."""
    return CoLearner(modalities, task, recipe.model)


def objectives(recipe: Recipe, loss: Loss) -> CoLearning:
    """L_main alone; the teacher comes on top."""
    return CoLearning(loss, dataclasses.replace(recipe.objectives, aux=0.0, con=0.0, mod=0.0))


def losses(network: CoLearner, setting: Setting) -> Losses:
    """L_main plus the distance to the teacher, of weight 1."""
    return student_losses(network, setting, objectives(setting.recipe, setting.loss), fusion_teacher(setting))


def fusion_teacher(setting: Setting, temperature: float = TEMPERATURE) -> SoftTargets:
    """What `concat` says about the training and the validation samples; it is trained if it is not there yet."""
    from edge.train.training import outputs, train_network

    recipe = dataclasses.replace(setting.recipe, method="concat", modalities=tuple(setting.samples.inputs))
    teacher = train_network(setting.data, recipe, setting.folder.parent / "concat", resume=setting.resume)
    asked = np.union1d(setting.split.train, setting.split.validation)
    ((index, found),) = outputs(teacher, setting.data, asked).values()
    return soft_targets(setting.data.task, len(setting.data), (torch.from_numpy(index), found), temperature)
