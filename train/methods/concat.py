"""Fusion by concatenation: the features of all modalities side by side, one head. The upper reference: it needs every
modality when it is used, which is what a drone or a satellite does not have.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edge.recipe import Recipe
from edge.sensors import Modality
from edge.tasks import Task
from edge.train.distributed import Losses
from edge.train.methods.method import Setting
from edge.train.model import Network, encoder

ABOUT = {"concat": "one encoder for each modality, one head on all features; needs every modality in use"}
TOGETHER = True


class Fusion(Network):
    """One encoder for each modality, one head. The features of a modality that a sample lacks are 0."""

    def __init__(self, modalities: list[Modality], task: Task, recipe: Recipe) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({modality.name: encoder(modality, recipe.model) for modality in modalities})
        self.head = nn.Linear(recipe.model.embedding * len(modalities), task.n_outputs)
        self.width = recipe.model.embedding

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Normalised samples of each modality (each with its own N) -> their features (N, d)."""
        return {name: self.encoders[name](x) for name, x in inputs.items()}

    def fuse(self, features: dict[str, Tensor], rows: Mapping[str, Tensor], n: int) -> Tensor:
        """The features of a batch of `n` samples -> (n, K)."""
        parts = []
        for name in self.encoders:
            part = self.head.weight.new_zeros(n, self.width)  # (n, d)
            if name in features:
                part = part.index_copy(0, rows[name].to(part.device), features[name])
            parts.append(part)
        prediction: Tensor = self.head(torch.cat(parts, dim=1))
        return prediction

    def outputs(self, inputs: dict[str, Tensor], rows: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """One predictor, for the samples that have any modality."""
        known: Tensor = torch.cat([rows[name] for name in self.encoders]).unique()  # type: ignore[no-untyped-call]
        within = {name: torch.searchsorted(known, rows[name]) for name in inputs}  # a batch of these samples alone
        return {"+".join(self.encoders): (known, self.fuse(self(inputs), within, len(known)))}

    def parameters_of(self, predictor: str) -> int:
        """All of them."""
        return sum(parameter.numel() for parameter in self.parameters())


def build(modalities: list[Modality], task: Task, recipe: Recipe) -> Fusion:
    """As in the class."""
    return Fusion(modalities, task, recipe)


def losses(network: Fusion, setting: Setting) -> Losses:
    """The task's loss over whole batches."""
    loss = setting.loss

    def total(index: Tensor) -> dict[str, Tensor]:
        batch = setting.batch(network, index)
        main = loss(network.fuse(network(batch.inputs), batch.rows, len(index)), batch.target)
        return {"main": main, "total": main}

    return total
