"""The four objectives of MDiCo (arXiv 2510.19579): what each sample should predict, share and keep apart.

Each takes the features of all modalities for one batch. A modality that a sample lacks is left out: `rows[name]` are
the batch positions of the samples that have it, in the order of that modality's features. `rows` names every modality
in the order of the discriminators' outputs; one that (almost) no sample of the batch has may lack features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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

    def __call__(self, prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        """Cross entropy, binary cross entropy per label, or squared error on the standardised target."""
        if self.task.kind == "regression":
            return F.mse_loss(prediction.squeeze(1), target, reduction=reduction)
        if self.task.kind == "multilabel":
            return F.binary_cross_entropy_with_logits(prediction, target, reduction=reduction)
        weights = None if self.class_weights is None else self.class_weights.to(prediction.device)
        return F.cross_entropy(prediction, target, weight=weights, reduction=reduction)

    def each(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The same for every sample (N,); a sample of a class of weight w counts w times, whatever the others weigh."""
        return self(prediction, target, "none").reshape(len(target), -1).mean(1)


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
        targets = {name: target if len(rows[name]) == len(target) else target[rows[name]] for name in features}
        predictions = [part.prediction for part in features.values()]
        parts = {"main": mean_over(predictions, list(targets.values()), self.loss, at_once=same(targets))}
        if self.weights.aux:
            parts["aux"] = self.auxiliary(features, targets, heads)
        if self.weights.con:
            parts["con"] = self.contrast(features, rows)
        if self.weights.mod:
            parts["mod"] = self.discrimination(features, rows, heads)
        values = torch.stack([part.to(target.device) for part in parts.values()])
        return {**parts, "total": values @ values.new_tensor([getattr(self.weights, name) for name in parts])}

    def auxiliary(self, features: dict[str, Features], targets: dict[str, Tensor], heads: TrainingHeads) -> Tensor:
        """L_aux: specific and shared features must each predict the target, through one head for all."""
        parts = [z for name in targets for z in (features[name].specific, features[name].shared)]
        twice = [target for target in targets.values() for _ in range(2)]
        return mean_over(parts, twice, lambda z, y: self.loss(heads.auxiliary(z), y), at_once=same(targets))

    def contrast(self, features: dict[str, Features], rows: Rows) -> Tensor:
        """L_con: shared features of one sample agree across modalities; only samples that have both count."""
        terms = []
        for a, b in combinations(features, 2):
            left, right = common(features[a].shared, features[b].shared, rows[a], rows[b])
            if len(left) > 1:  # a lone sample has no negatives
                terms.append(nt_xent(left, right, self.weights.temperature))
        balance = len(terms) if self.released else 1
        return 2 * balance * mean(terms)  # (a, b) and (b, a) have the same value

    def discrimination(self, features: dict[str, Features], rows: Rows, heads: TrainingHeads) -> Tensor:
        """L_mod: the modality can be told from the specific and from the unused features."""
        present = [(index, features[name]) for index, name in enumerate(rows) if name in features]
        modality = [torch.full((len(part.specific),), i, device=part.specific.device) for i, part in present]
        at_once = len({len(numbers) for numbers in modality}) == 1
        specific = [part.specific for _, part in present]
        second = [part.shared if self.released else part.unused for _, part in present]

        def told(parts: list[Tensor], head: nn.Linear) -> Tensor:
            return mean_over(parts, modality, lambda z, number: F.cross_entropy(head(z), number), at_once=at_once)

        return mean([told(specific, heads.tell_specific), told(second, heads.tell_unused)])


def same(targets: Mapping[str, Tensor]) -> bool:
    """Whether all modalities have one and the same target: no sample of the batch lacks any of them."""
    return len({id(target) for target in targets.values()}) == 1


def mean_over(
    parts: list[Tensor], targets: list[Tensor], loss: Callable[[Tensor, Tensor], Tensor], *, at_once: bool
) -> Tensor:
    """The mean over `parts` of loss(part, target); `at_once`, where the loss of all rows together is that mean.

    Few operations are what counts here: a batch of 32 is small.
    """
    if at_once:
        return loss(torch.cat(parts), torch.cat(targets))
    return mean([loss(part, target) for part, target in zip(parts, targets, strict=True)])


def mean(terms: list[Tensor]) -> Tensor:
    """The mean, or a zero that can be differentiated where no sample of the batch has what the loss needs."""
    return torch.stack(terms).mean() if terms else torch.zeros((), requires_grad=True)


def common(a: Tensor, b: Tensor, rows_a: Tensor, rows_b: Tensor) -> tuple[Tensor, Tensor]:
    """Of what two modalities say, a (n, K) and b (m, K) about the batch rows rows_a (n,) and rows_b (m,), both sorted:
    what they say about the samples that both have.
    """
    if torch.equal(rows_a, rows_b):
        return a, b
    return a[torch.isin(rows_a, rows_b)], b[torch.isin(rows_b, rows_a)]
