"""The co-learning model: two encoders for each modality, heads that share, discriminators that tell apart.

Source: MDiCo (arXiv 2510.19579). Shapes: N samples, d embedding, h = d / 2, K outputs.

    specific encoder -> z (N, d) = [z_specific (N, h), z_unused (N, h)]
    shared encoder   -> Linear d -> h, batch norm, ReLU -> z_shared (N, h)
    head([z_specific, z_shared]) -> prediction (N, K)

A student (`Branch`) needs nothing of the other modalities. The auxiliary head and the discriminators exist for
training alone.
"""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge.recipe import Model
from edge.sensors import Modality
from edge.tasks import Task
from edge.train.encoders import build_trunk


@dataclass
class Features:
    """What one student gives for N samples: `prediction` (N, K) are logits or standardised values."""

    prediction: Tensor
    specific: Tensor  # (N, h)
    unused: Tensor  # (N, h)
    shared: Tensor  # (N, h)


class Encoder(nn.Sequential):
    """(N, *shape), normalised -> (N, d), sample by sample: many processes divide this (train/distributed.py)."""

    bf16 = False  # round the factors of products and convolutions to bfloat16, as long as it is trained (Training.bf16)

    def forward(self, x: Tensor) -> Tensor:
        """What comes out has the type of what goes in."""
        if not self.bf16:
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        with torch.autocast(x.device.type, torch.bfloat16):
            output: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return output.to(x.dtype)


def encoder(modality: Modality, model: Model) -> Encoder:
    """Trunk, then Linear hidden -> d, then LayerNorm if the recipe asks for it."""
    parts: dict[str, nn.Module] = {
        "trunk": build_trunk(modality, model),
        "project": nn.Linear(model.hidden, model.embedding),
    }
    if model.layer_norm:
        parts["layer_norm"] = nn.LayerNorm(model.embedding)
    return Encoder(OrderedDict(parts))


class Branch(nn.Module):
    """One modality's student as it is trained."""

    def __init__(self, modality: Modality, task: Task, model: Model) -> None:
        super().__init__()
        half = model.embedding // 2
        self.specific = encoder(modality, model)
        self.shared = encoder(modality, model)
        self.to_shared = nn.Sequential(
            OrderedDict(project=nn.Linear(model.embedding, half), norm=nn.BatchNorm1d(half), relu=nn.ReLU())
        )
        self.head = nn.Linear(model.embedding, task.n_outputs)

    def forward(self, x: Tensor) -> Features:
        """(N, *shape), normalised -> Features."""
        specific, unused = self.specific(x).chunk(2, dim=1)  # (N, h) each
        shared = self.to_shared(self.shared(x))  # (N, h)
        return Features(self.head(torch.cat([specific, shared], dim=1)), specific, unused, shared)


class SingleBranch(nn.Module):
    """The plain model that co-learning must beat: one encoder, one head."""

    def __init__(self, modality: Modality, task: Task, model: Model) -> None:
        super().__init__()
        self.encoder = encoder(modality, model)
        self.head = nn.Linear(model.embedding, task.n_outputs)

    def forward(self, x: Tensor) -> Features:
        """(N, *shape), normalised -> Features without parts."""
        embedding = self.encoder(x)
        nothing = embedding[:, :0]
        return Features(self.head(embedding), nothing, nothing, nothing)


class TrainingHeads(nn.Module):
    """What training needs beside the students: the auxiliary head and the two modality discriminators."""

    def __init__(self, n_modalities: int, task: Task, model: Model) -> None:
        super().__init__()
        half = model.embedding // 2
        self.auxiliary = nn.Linear(half, task.n_outputs)
        self.tell_specific = nn.Linear(half, n_modalities)
        self.tell_unused = nn.Linear(half, n_modalities)  # the `released` variant shows it z_shared instead


class Network(nn.Module):
    """What a method trains: one predictor or several, each with the modalities that it needs."""

    @abstractmethod
    def outputs(self, inputs: dict[str, Tensor], rows: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """What each predictor says about a batch: the batch positions that it can say something about, and its output.

        `inputs` and `rows` are those of a Batch. The key is the modality, or `optical+sar` for a predictor that needs
        both; the output (N, K) are logits or standardised values.
        """

    @abstractmethod
    def parameters_of(self, predictor: str) -> int:
        """How many numbers the predictor of this key consists of, when it is used."""


class CoLearner(Network):
    """The students of all modalities, and the heads that only training needs."""

    def __init__(
        self,
        modalities: list[Modality],
        task: Task,
        model: Model,
        *,
        single: bool = False,
        heads: type[TrainingHeads] = TrainingHeads,
    ) -> None:
        super().__init__()
        branch = SingleBranch if single else Branch
        self.students = nn.ModuleDict({modality.name: branch(modality, task, model) for modality in modalities})
        self.heads = heads(len(modalities), task, model)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Features]:
        """Normalised samples of each modality (each with its own N: a missing modality is left out) -> Features."""
        return {name: self.students[name](x) for name, x in inputs.items()}

    def outputs(self, inputs: dict[str, Tensor], rows: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Each student says something about the samples that have its modality."""
        return {name: (rows[name], part.prediction) for name, part in self(inputs).items()}

    def parameters_of(self, predictor: str) -> int:
        """Those of the student as it is trained; folding (compress/fold.py) leaves fewer."""
        return sum(parameter.numel() for parameter in self.students[predictor].parameters())
