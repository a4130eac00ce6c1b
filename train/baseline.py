"""The straightforward way to train MDiCo, which benchmarks/training_speed.py compares with: what one would write first.

A Dataset that normalises one sample in Python, a DataLoader that stacks them, NT-Xent from pytorch-metric-learning,
every head called by itself, convolutions, dropout and Adam as torch has them. With `passes`, each of the four
objectives runs the encoders again, as code does that is written one objective at a time; without it the features of one
pass serve all four. Model, weights and losses are those of `edge train`: `check` compares values and gradients before
anything is timed.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from edge.errors import BackendMissing
from edge.recipe import Objectives
from edge.train.encoders.blocks import Dropout
from edge.train.encoders.tempcnn import TempCNN
from edge.train.model import CoLearner, Features
from edge.train.objectives import Loss
from edge.train.paired import PairedSet
from edge.train.samples import Samples

Sample = tuple[dict[str, Tensor], Tensor]


class OneByOne(Dataset[Sample]):
    """One normalised sample of each modality and its target."""

    def __init__(self, data: PairedSet, samples: Samples) -> None:
        self.arrays = {name: data.arrays[name] for name in samples.inputs}
        self.scaling, self.target = samples.scaling, samples.target

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, i: int) -> Sample:
        inputs = {}
        for name, array in self.arrays.items():
            inputs[name] = torch.nan_to_num(
                (torch.tensor(array[i]) - torch.from_numpy(self.scaling[name].mean))
                / torch.from_numpy(self.scaling[name].std)
            )
        return inputs, self.target[i]


class Baseline:
    """Trains the weights of `model`, all of whose samples have all modalities."""

    def __init__(
        self, data: PairedSet, samples: Samples, model: CoLearner, loss: Loss, weights: Objectives, *, passes: bool
    ) -> None:
        try:
            from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss
        except ImportError:
            raise BackendMissing("pytorch-metric-learning is not installed; pip install 'edge-colearn[dev]'") from None
        self.data, self.samples, self.loss, self.passes = data, samples, loss, passes
        self.model, self.ours = with_torch_layers(model), model
        self.contrastive: Callable[[Tensor, Tensor], Tensor] = SelfSupervisedLoss(NTXentLoss(weights.temperature))
        self.optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch(self, index: Tensor, batch: int) -> None:
        """Train on the samples `index` once, shuffled."""
        self.model.train()
        chosen = torch.utils.data.Subset(OneByOne(self.data, self.samples), index.tolist())
        for inputs, target in DataLoader(chosen, batch_size=batch, shuffle=True):
            self.optimiser.zero_grad()
            sum(self.losses(inputs, target).values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()

    def losses(self, inputs: dict[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        """The four objectives of one batch, all of weight 1."""
        objectives: dict[str, Callable[[dict[str, Features], Tensor], Tensor]] = {
            "main": self._main, "aux": self._auxiliary, "con": self._contrast, "mod": self._discrimination,
        }  # fmt: skip
        if self.passes:
            return {name: objective(self.model(inputs), target) for name, objective in objectives.items()}
        features = self.model(inputs)
        return {name: objective(features, target) for name, objective in objectives.items()}

    def _main(self, features: dict[str, Features], target: Tensor) -> Tensor:
        return _mean([self.loss(part.prediction, target) for part in features.values()])

    def _auxiliary(self, features: dict[str, Features], target: Tensor) -> Tensor:
        head = self.model.heads.auxiliary
        parts = [z for part in features.values() for z in (part.specific, part.shared)]
        return _mean([self.loss(head(z), target) for z in parts])

    def _contrast(self, features: dict[str, Features], _: Tensor) -> Tensor:
        return 2 * _mean([self.contrastive(a.shared, b.shared) for a, b in combinations(features.values(), 2)])

    def _discrimination(self, features: dict[str, Features], _: Tensor) -> Tensor:
        heads, terms = self.model.heads, []
        for i, part in enumerate(features.values()):
            modality = torch.full((len(part.specific),), i)
            terms.append(F.cross_entropy(heads.tell_specific(part.specific), modality))
            terms.append(F.cross_entropy(heads.tell_unused(part.unused), modality))
        return _mean(terms)


def with_torch_layers(model: CoLearner) -> CoLearner:
    """The same weights and statistics in a model whose layers do their work as torch does it."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    plain = copy.deepcopy(model, shared)
    for name, module in list(plain.named_modules()):
        if isinstance(module, Dropout):
            plain.set_submodule(name, nn.Dropout(module.p))
        if isinstance(module, TempCNN):
            plain.set_submodule(name, nn.Sequential(OrderedDict(module.named_children())))
    return plain


def _mean(terms: list[Tensor]) -> Tensor:
    return sum(terms, torch.zeros(())) / len(terms)


def check(baseline: Baseline, losses: Callable[[Tensor], dict[str, Tensor]], index: Tensor) -> None:
    """AssertionError unless both compute the same objectives and gradients for a batch; dropout is off meanwhile."""
    modules = (*baseline.model.modules(), *baseline.ours.modules())
    dropouts = [(module, module.p) for module in modules if isinstance(module, nn.Dropout)]
    for module, _ in dropouts:
        module.p = 0.0
    inputs, target = zip(*(OneByOne(baseline.data, baseline.samples)[int(i)] for i in index), strict=True)
    batch = {name: torch.stack([sample[name] for sample in inputs]) for name in inputs[0]}
    theirs, ours = baseline.losses(batch, torch.stack(target)), losses(index)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6)
    wanted = _gradients(baseline.model, sum(theirs.values(), torch.zeros(())))
    found = _gradients(baseline.ours, ours["total"])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    for module, p in dropouts:
        module.p = p


def _gradients(model: nn.Module, total: Tensor) -> dict[str, Any]:
    model.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    return {name: parameter.grad for name, parameter in model.named_parameters()}
