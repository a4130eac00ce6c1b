"""The four objectives of MDiCo (arXiv 2510.19579): what each sample should predict, share and keep apart.

Each takes the features of all modalities for one batch. A modality that a sample lacks is left out: `rows[name]` are
the batch positions of the samples that have it, in the order of that modality's features. `rows` names every modality
in the order of the discriminators' outputs; one that (almost) no sample of the batch has may lack features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from edge.recipe import Objectives
from edge.tasks import Task
from edge.train.model import Features, TrainingHeads

Rows = Mapping[str, Tensor]


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """NT-Xent over two views (N, h) of the same N samples (Chen et al. 2020, arXiv 2002.05709, eq. 1).

    2N anchors, cosine similarity; the positive is the same sample in the other view, the other 2N - 2 rows are
    negatives.
    """
    n = len(a)
    z = F.normalize(torch.cat([a, b]), dim=1)  # (2N, h)
    similarity = z @ z.T / temperature  # (2N, 2N)
    similarity.fill_diagonal_(float("-inf"))
    positive = torch.arange(2 * n, device=a.device).roll(n)
    return F.cross_entropy(similarity, positive)


@dataclass(frozen=True)
class Loss:
    """The task's loss. `class_weights` (K,) balance the classes of the training samples; None where it has no use."""

    task: Task
    class_weights: Tensor | None = None

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Cross entropy, binary cross entropy per label, or squared error on the standardised target."""
        if self.task.kind == "regression":
            return F.mse_loss(prediction[:, 0], target)
        if self.task.kind == "multilabel":
            return F.binary_cross_entropy_with_logits(prediction, target)
        return F.cross_entropy(prediction, target, weight=self.class_weights)


def class_weights(task: Task, target: Tensor) -> Tensor | None:
    """N / (K * count) for each class of the training samples ("balanced"); a class without samples weighs 0."""
    if task.kind not in ("binary", "multiclass"):
        return None
    counts = torch.bincount(target, minlength=len(task.classes)).float()
    return torch.where(counts > 0, len(target) / (len(counts) * counts.clamp(min=1)), torch.zeros_like(counts))


@dataclass(frozen=True)
class CoLearning:
    """The weighted sum of the objectives.

    `released` repeats the published code: its second discriminator reads z_shared, and the contrastive terms of M
    modalities are summed over ordered pairs, so that their weight grows as M (M - 1). Otherwise the discriminator
    reads z_unused, as in the paper's figure, and the sum is scaled to the weight that it has for M = 2.
    """

    loss: Loss
    weights: Objectives
    released: bool = False

    def __call__(
        self, features: dict[str, Features], target: Tensor, rows: Rows, heads: TrainingHeads
    ) -> dict[str, Tensor]:
        """The objectives by name and their weighted sum, `total`. An objective of weight 0 is not computed."""
        targets = {name: target[rows[name]] for name in features}
        parts = {"main": mean([self.loss(features[name].prediction, target) for name, target in targets.items()])}
        if self.weights.aux:
            parts["aux"] = self.auxiliary(features, targets, heads)
        if self.weights.con:
            parts["con"] = self.contrast(features, rows)
        if self.weights.mod:
            parts["mod"] = self.discrimination(features, rows, heads)
        total = torch.stack([getattr(self.weights, name) * part for name, part in parts.items()]).sum()
        return {**parts, "total": total}

    def auxiliary(self, features: dict[str, Features], targets: dict[str, Tensor], heads: TrainingHeads) -> Tensor:
        """L_aux: specific and shared features must each predict the target, through one head for all."""
        return mean(
            [
                self.loss(heads.auxiliary(part), target)
                for name, target in targets.items()
                for part in (features[name].specific, features[name].shared)
            ]
        )

    def contrast(self, features: dict[str, Features], rows: Rows) -> Tensor:
        """L_con: shared features of one sample agree across modalities; only samples that have both count."""
        terms = []
        for a, b in combinations(features, 2):
            left, right = common(rows[a], rows[b])
            if len(left) > 1:  # a lone sample has no negatives
                terms.append(nt_xent(features[a].shared[left], features[b].shared[right], self.weights.temperature))
        balance = len(terms) if self.released else 1
        return 2 * balance * mean(terms)  # (a, b) and (b, a) have the same value

    def discrimination(self, features: dict[str, Features], rows: Rows, heads: TrainingHeads) -> Tensor:
        """L_mod: the modality can be told from the specific and from the unused features."""
        terms = []
        for index, name in enumerate(rows):
            if name in features:
                part = features[name]
                second = part.shared if self.released else part.unused
                modality = torch.full((len(second),), index, device=second.device)
                terms.append(F.cross_entropy(heads.tell_specific(part.specific), modality))
                terms.append(F.cross_entropy(heads.tell_unused(second), modality))
        return mean(terms)


def mean(terms: list[Tensor]) -> Tensor:
    """The mean, or a zero that can be differentiated where no sample of the batch has what the loss needs."""
    return torch.stack(terms).mean() if terms else torch.zeros((), requires_grad=True)


def common(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Positions within `a` and within `b` (both sorted) of the batch rows that stand in both."""
    if len(a) == len(b) and torch.equal(a, b):
        everything = torch.arange(len(a))
        return everything, everything
    return torch.isin(a, b).nonzero()[:, 0], torch.isin(b, a).nonzero()[:, 0]
