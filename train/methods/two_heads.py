"""A second head beside the taught one, which learns from the label alone, and one head in their place when trained.

A head that shall match label and teacher ends halfway between them, also where the student knows more than the teacher.
So a second linear head reads the same features [z_specific, z_shared], held fixed, and learns from the label alone: it
changes nothing in the rest of the training. What is used afterwards is one linear head, (1 - w) of the taught one and w
of the second.

w is 0, unless another is better on the validation samples by more than one standard error (Breiman, Friedman, Olshen,
Stone 1984, Classification and Regression Trees, section 3.4.3). Chosen on validation samples, benchmarks/RESULTS.md.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edge.recipe import Model
from edge.tasks import Task
from edge.train.methods.method import Setting
from edge.train.model import Branch, CoLearner, Features, TrainingHeads
from edge.train.objectives import CoLearning, Rows, mean
from edge.train.samples import AT_ONCE

WEIGHTS = tuple(tenth / 10 for tenth in range(11))  # that w may have


class TwoHeads(TrainingHeads):
    """The training heads, and for each modality, in the model's order, the head that learns from the label alone."""

    def __init__(self, n_modalities: int, task: Task, model: Model) -> None:
        super().__init__(n_modalities, task, model)
        self.label = nn.ModuleList(nn.Linear(model.embedding, task.n_outputs) for _ in range(n_modalities))


@dataclass(frozen=True)
class WithSecondHead:
    """The objectives and, of weight 1, `label`: the loss of the second heads, whose gradient ends in them."""

    objectives: CoLearning

    def __call__(self, features: dict[str, Features], target: Tensor, rows: Rows, heads: TwoHeads) -> dict[str, Tensor]:
        """The objectives by name and their sum."""
        parts = self.objectives(features, target, rows, heads)
        second = dict(zip(rows, heads.label, strict=True))
        said = {name: second[name](read(part).detach()) for name, part in features.items()}
        parts["label"] = mean([self.objectives.loss(output, target[rows[name]]) for name, output in said.items()])
        parts["total"] = parts["total"] + parts["label"]
        return parts


def read(part: Features) -> Tensor:
    """What a student's head reads, (N, d)."""
    return torch.cat([part.specific, part.shared], dim=1)


@torch.no_grad()
def merge(network: CoLearner, setting: Setting) -> dict[str, float]:
    """Put the mixture into the students' heads; gives w of each."""
    network.eval()
    assert isinstance(network.heads, TwoHeads)  # noqa: S101 - `taught` builds no others
    validation = torch.from_numpy(setting.split.validation)
    weights = {}
    for (name, student), second in zip(network.students.items(), network.heads.label, strict=True):
        assert isinstance(student, Branch)  # noqa: S101 - `taught` builds no others
        assert isinstance(second, nn.Linear)  # noqa: S101 - for mypy
        seen = validation[setting.samples.present[name][validation]]
        weights[name] = weight = _chosen(student, second, setting, name, seen)
        for own, other in zip(student.head.parameters(), second.parameters(), strict=True):
            own.lerp_(other, weight)
    return weights


def _chosen(student: Branch, second: nn.Linear, setting: Setting, name: str, index: Tensor) -> float:
    """The weight for one student, from the validation samples `index` that have its modality."""
    losses, pieces = [], setting.samples.pieces(name, index, AT_ONCE)
    for piece, target in zip(pieces, torch.split(setting.samples.target[index], AT_ONCE), strict=True):
        part = student(piece)
        first, other = part.prediction, second(read(part))
        losses.append(torch.stack([setting.loss.each(first.lerp(other, weight), target) for weight in WEIGHTS]))
    return best_weight(torch.cat(losses, dim=1).double().numpy())


def best_weight(losses: np.ndarray) -> float:
    """The weight of WEIGHTS with the lowest sum of `losses` (11, n), if it beats 0 by more than a standard error.

    That is the standard error of the sum of the n differences.
    """
    best = int(losses.sum(axis=1).argmin())
    gains = losses[0] - losses[best]
    return WEIGHTS[best] if gains.sum() > np.sqrt(len(gains)) * gains.std(ddof=1) else WEIGHTS[0]
