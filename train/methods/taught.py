"""Co-learning with a teacher who sees every sensor: the objectives of MDiCo, and closeness to what a forest says.

The teacher is a random forest on all modalities of the paired set, also those that no student reads (weather, soil,
topography: known while a model is trained, absent in the field). It is cross-fitted: what it says about a training
sample comes from a forest that never saw the sample's group (site, field, scene). A teacher that has seen the sample
repeats its label, noise included, and teaches nothing that the label does not; a cross-fitted one says what can be
known about places that are not in the training data (Chernozhukov et al. 2018, arXiv 1608.00060, on cross-fitting).
With random folds, where the students are tested on other samples of the same places, it has not seen the sample, but
its place. What becomes of a student that knows more than the teacher: train/methods/two_heads.py.

Chosen on validation samples, benchmarks/RESULTS.md.
"""

from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from edge.errors import InputError
from edge.recipe import Recipe
from edge.sensors import Modality
from edge.tasks import Task
from edge.train.distributed import Losses, from_first
from edge.train.methods.method import Setting, student_losses
from edge.train.methods.random_forest import described, forest, probabilities
from edge.train.methods.soft_targets import SoftTargets, soft_targets
from edge.train.methods.two_heads import TwoHeads, WithSecondHead, merge
from edge.train.model import CoLearner
from edge.train.objectives import CoLearning, Loss
from edge.train.paired import PairedSet
from edge.train.splits import grouped_folds, places_known

ABOUT = {"taught": "co-learning, and a forest on every modality teaches; each student needs its own modality only"}
TOGETHER = True
PARTS = 5  # forests for the training samples, each for the groups that it has not seen
AT_MOST = 20_000  # samples that one forest learns from: more cost minutes and change its predictions little
BLOCK = 8192  # samples that are read at once


def build(modalities: list[Modality], task: Task, recipe: Recipe) -> CoLearner:
    """The co-learned students, while they are trained with a second head each."""
    return CoLearner(modalities, task, recipe.model, heads=TwoHeads)


def objectives(recipe: Recipe, loss: Loss) -> CoLearning:
    """The four objectives of MDiCo; the teacher comes on top."""
    return CoLearning(loss, recipe.objectives)


def losses(network: CoLearner, setting: Setting) -> Losses:
    """The objectives, the distance to the teacher (weight 1) and, where places are known, what second heads learn."""
    mdico = objectives(setting.recipe, setting.loss)
    objective = WithSecondHead(mdico) if places_known(setting.data, setting.recipe.protocol) else mdico
    return student_losses(network, setting, objective, cross_fitted_forest(setting))


def settle(network: CoLearner, setting: Setting) -> dict[str, Any]:
    """One head in the place of two; `untaught`: the weight of the second one in each student.

    In new places the teacher is always heard: validation samples of a few places say too little about others.
    """
    known = places_known(setting.data, setting.recipe.protocol)
    return {"untaught": merge(network, setting) if known else dict.fromkeys(network.students, 0.0)}


def cross_fitted_forest(setting: Setting) -> SoftTargets:
    """What forests say about the training and the validation samples, none of which the forest in question has seen.

    Of many processes the first one grows them (its trees on all cores).
    """
    data, task, train, validation = setting.data, setting.data.task, setting.split.train, setting.split.validation
    known = places_known(data, setting.recipe.protocol)
    parts = parts_of(np.arange(len(train)) if known else data.groups[train])
    pairs = [(train[parts != part], train[parts == part]) for part in np.unique(parts)]
    forests = [(seen, unseen) for seen, unseen in (*pairs, (train, np.setdiff1d(validation, train))) if len(unseen)]

    def ask() -> torch.Tensor:
        bar = tqdm(forests, desc="teacher", unit=" forests", leave=False, disable=None)
        said = [predicted(data, setting.recipe, setting.samples.target, seen, unseen) for seen, unseen in bar]
        return torch.from_numpy(np.concatenate(said).astype(np.float32))

    outputs = from_first(ask)
    asked = [torch.from_numpy(unseen) for _, unseen in forests]
    if task.kind == "multilabel":
        outputs = outputs.clamp(1e-3, 1 - 1e-3).logit()
    elif task.kind != "regression":
        outputs = outputs.clamp(min=1e-3).log()  # an empty leaf is no proof that a class is impossible
        if setting.loss.class_weights is not None:
            target = setting.samples.target[torch.cat(asked[: len(pairs)])]
            outputs = balanced(outputs, target, setting.loss.class_weights)
    return soft_targets(task, len(data), (torch.cat(asked), outputs), temperature=1.0)


def balanced(outputs: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """`outputs` (m, K), log-probabilities, as if the teacher held no class for more likely than another beforehand.

    The loss counts every class alike; a forest leans to the frequent ones even where its samples are weighted.
    So its probabilities are divided by what it says on average where every class (`weights` (K,)) counts alike (the
    prior shift of Saerens et al. 2002, doi:10.1162/089976602753284446). The first n rows are the training samples, of
    the classes `target` (n,); a class that none of them has stays as it is.
    """
    share = weights[target] / weights[target].sum()
    prior = (share[:, None] * outputs[: len(target)].softmax(1)).sum(0)
    return outputs - torch.where(weights > 0, prior, torch.ones_like(prior)).log()


def parts_of(groups: np.ndarray) -> np.ndarray:
    """A part number (n,) for each training sample; samples of a group stand in one part. InputError for one group."""
    count = len(np.unique(groups))
    if count < 2:
        raise InputError(
            "all training samples are of one group, so no forest can judge them without having seen it; "
            "method 'taught' needs two groups or more: use --method mdico, or correct the groups"
        )
    return grouped_folds(groups, min(PARTS, count))


def predicted(
    data: PairedSet, recipe: Recipe, target: torch.Tensor, seen: np.ndarray, unseen: np.ndarray
) -> np.ndarray:
    """Probabilities or standardised values (n, K) for `unseen`, by a forest on all modalities of `seen`."""
    if len(seen) > AT_MOST:
        seen = np.sort(np.random.default_rng(recipe.seed).choice(seen, AT_MOST, replace=False))
    model = forest(data.task, recipe, table(data, seen), target.numpy()[seen])
    blocks = [unseen[start : start + BLOCK] for start in range(0, len(unseen), BLOCK)]
    return np.concatenate([probabilities(data.task, model, table(data, block)) for block in blocks])


def table(data: PairedSet, index: np.ndarray) -> np.ndarray:
    """All modalities of some samples side by side (n, F)."""
    return np.concatenate([described(data, name, index) for name in data.modalities], axis=1)
