"""What narrower students learn from the full students of the same modalities, besides their own objectives.

    full      the distance of predictions (Hinton, Vinyals, Dean 2015, arXiv 1503.02531)
    relation  what is alike for the full student is alike for the narrow one: mean squared difference of the cosine
              similarities between the samples of a batch, for specific and for shared features. It needs no features
              of equal length (Park, Kim, Lu, Cho 2019, arXiv 1904.05068, on relations between samples; Tung, Mori
              2019, arXiv 1907.09682, on similarities).

Each modality's student learns from the full student of that modality, so it is taught nothing that needs another
sensor. Both terms have weight 1.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edge.tasks import Task
from edge.train.methods.soft_targets import TEMPERATURE, distillation
from edge.train.model import CoLearner, Features
from edge.train.objectives import Rows, mean
from edge.train.samples import Samples


@torch.no_grad()
def student_outputs(model: CoLearner, samples: Samples, *, with_features: bool = True) -> dict[str, Features]:
    """What the students make of all samples, without dropout: computed once, because it never changes.

    Predictions are logits or standardised values (n, K); without `with_features` the parts are left empty, because
    those of a large set do not fit into the memory.
    """
    model.eval()
    found = {}
    for name in samples.inputs:
        pieces = [model.students[name](piece) for piece in samples.pieces(name)]
        prediction = torch.cat([piece.prediction for piece in pieces])
        nothing = prediction[:, :0]
        parts = [
            torch.cat([getattr(piece, part) for piece in pieces]) if with_features else nothing
            for part in ("specific", "unused", "shared")
        ]
        found[name] = Features(prediction, *parts)
    return found


@dataclass(frozen=True)
class FullStudents:
    """The full students' outputs for all samples of a set, as distances for those of a batch."""

    task: Task
    outputs: dict[str, Features]

    def __call__(self, features: dict[str, Features], index: Tensor, rows: Rows) -> dict[str, Tensor]:
        """`full` and `relation` of a batch whose samples are `index`: means over the students."""
        full, relation = [], []
        for name, part in features.items():
            wanted = self._outputs_of(name, index[rows[name]], part.prediction.device)
            full.append(distillation(self.task, part.prediction, wanted["prediction"], TEMPERATURE))
            relation += [relation_distance(getattr(part, key), wanted[key]) for key in ("specific", "shared")]
        return {"full": mean(full), "relation": mean(relation)}

    def _outputs_of(self, name: str, index: Tensor, device: torch.device) -> dict[str, Tensor]:
        parts = ("prediction", "specific", "shared")
        return {part: getattr(self.outputs[name], part)[index].to(device) for part in parts}


def relation_distance(narrow: Tensor, full: Tensor) -> Tensor:
    """Mean squared difference of cosine similarities between the N samples of (N, h) and (N, H): 0 to 4."""
    return F.mse_loss(similarities(narrow), similarities(full))


def similarities(features: Tensor) -> Tensor:
    """Cosine similarity (N, N) of each sample with each."""
    unit = F.normalize(features, dim=1)
    return unit @ unit.T
