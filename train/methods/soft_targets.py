"""A teacher's predictions as targets, and the distance to them (Hinton, Vinyals, Dean 2015, arXiv 1503.02531)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edge.tasks import Task
from edge.train.model import Features
from edge.train.objectives import Rows, mean

TEMPERATURE = 4.0  # of the comparisons in Tian, Krishnan, Isola 2020, arXiv 1910.10699


def distillation(task: Task, prediction: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """How far a student's outputs (N, K) are from the teacher's.

    Kullback-Leibler divergence of the class probabilities at `temperature`, times its square so that gradients keep
    their size; cross entropy with the teacher's probabilities for each label; squared error for regression, where a
    temperature has no meaning.
    """
    if task.kind == "regression":
        return F.mse_loss(prediction, teacher)
    prediction, teacher = prediction / temperature, teacher / temperature
    if task.kind == "multilabel":
        return temperature**2 * F.binary_cross_entropy_with_logits(prediction, teacher.sigmoid())
    divergence = F.kl_div(prediction.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)
    return temperature**2 * divergence


@dataclass(frozen=True)
class SoftTargets:
    """What a teacher says about every sample of a set: `outputs` (n, K), logits or standardised values.

    Rows of samples that the teacher was not asked about are NaN: to use one is loud.
    """

    task: Task
    outputs: Tensor
    temperature: float = 1.0

    def __call__(self, features: dict[str, Features], index: Tensor, rows: Rows) -> Tensor:
        """Mean over the students of a batch, whose samples are `index`, of their distance to the teacher."""
        terms = []
        for name, part in features.items():
            said = self.outputs[index[rows[name]]].to(part.prediction.device)
            terms.append(distillation(self.task, part.prediction, said, self.temperature))
        return mean(terms)


def soft_targets(task: Task, samples: int, found: tuple[Tensor, Tensor], temperature: float) -> SoftTargets:
    """From the teacher's outputs (n, K) for some of `samples` samples: `found` = (their indices, the outputs)."""
    index, outputs = found
    everything = torch.full((samples, outputs.shape[1]), torch.nan)
    everything[index] = outputs
    return SoftTargets(task, everything, temperature)
