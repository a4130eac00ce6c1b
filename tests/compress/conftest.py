"""Small co-learned models and their compression, made once: seconds, because the encoders have 16 channels."""

import copy
import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edge.compress import compression
from edge.compress.compression import Compressed, QuantizedCoLearner
from edge.recipe import Compression, Model, Recipe, Training
from edge.sensors import Band, Modality
from edge.train.model import Branch
from edge.train.paired import PairedSet, write_paired_set
from edge.train.samples import Samples, load_samples
from edge.train.sources.simulated import simulate
from edge.train.splits import Split, split_indices
from edge.train.training import Trained, train

SMALL = Model(width=16, hidden=32, embedding=16)


@dataclass
class Case:
    """A trained and compressed model, and `live`: the fake-quantized model just as fine-tuning left it."""

    data: PairedSet
    recipe: Recipe
    trained: Trained
    compressed: Compressed
    live: QuantizedCoLearner
    samples: Samples
    split: Split

    def student(self, modality: str) -> nn.Module:
        return self.live.students[modality]


def make_case(data: PairedSet, model: Model, folder: Path, *, epochs: int) -> Case:
    recipe = Recipe(
        method="mdico",
        model=dataclasses.replace(model, dropout=0.2),
        training=Training(epochs=epochs, lr=3e-3, patience=5),
        compression=Compression(epochs=1),
    )
    trained = train(data, recipe, folder / "train")
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        save = compression._save
        patch.setattr(compression, "_save", lambda *given: (kept.append(given[2]), save(*given)))
        compressed = compression.compress(data, trained, recipe, folder / "compress")
    split = split_indices(data, recipe.fold, recipe.folds)
    samples = load_samples(data, tuple(trained.modalities), split)
    return Case(data, recipe, trained, compressed, kept[0].eval(), samples, split)


@pytest.fixture(scope="session")
def two(tmp_path_factory) -> Case:
    """Six crops from optical (12, 12) and sar (12, 2)."""
    folder = tmp_path_factory.mktemp("two")
    return make_case(simulate(folder / "set", n=400, seed=3), SMALL, folder, epochs=12)


@pytest.fixture(scope="session")
def layer_norm(tmp_path_factory) -> Case:
    """Yield from the same two, with LayerNorm behind each encoder."""
    folder = tmp_path_factory.mktemp("layer_norm")
    model = Model(width=16, hidden=32, embedding=16, layer_norm=True)
    return make_case(simulate(folder / "set", task="regression", n=240, seed=4), model, folder, epochs=6)


@pytest.fixture(scope="session")
def three(tmp_path_factory) -> Case:
    """Yield in t/ha from optical, sar and a vector of four soil values."""
    folder = tmp_path_factory.mktemp("three")
    fields = simulate(folder / "fields", task="regression", n=400, seed=5)
    soil = np.random.default_rng(0).normal(size=(len(fields), 4)).astype(np.float32)
    soil[:, 0] += 0.5 * (fields.target - fields.target.mean())
    bands = tuple(Band(name, "%") for name in ("clay", "sand", "silt", "carbon"))
    modalities = {**fields.modalities, "soil": Modality("soil", bands, ("band",), (4,))}
    data = write_paired_set(
        folder / "set", name="fields", modalities=modalities,
        arrays={**fields.arrays, "soil": soil}, target=fields.target, task=fields.task, groups=fields.groups,
        source=fields.source,
    )  # fmt: skip
    return make_case(data, SMALL, folder, epochs=12)


@pytest.fixture(params=["two", "layer_norm", "three"])
def case(request) -> Case:
    """Each of the three."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def live(two: Case) -> nn.Module:
    """A copy of the fake-quantized optical student that a test may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return copy.deepcopy(two.live.students["optical"])


def lived_in(branch: nn.Module, seed: int = 0) -> nn.Module:
    """Give every norm statistics and an affine part as after training, and the head weights that make a difference."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in branch.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.running_mean.normal_(generator=generator)
                layer.running_var.uniform_(0.2, 3, generator=generator)
                layer.weight.normal_(generator=generator)  # also negative, which turns the sign of a channel
                layer.bias.normal_(generator=generator)
            elif isinstance(layer, nn.LayerNorm):
                layer.weight.normal_(generator=generator)
                layer.bias.normal_(generator=generator)
        branch.head.weight.normal_(generator=generator)
    return branch.eval()


@pytest.fixture
def branch():
    """Makes an untrained student with batch norms that have seen something."""

    def make(modality: Modality, task, model: Model = SMALL, kind: type = Branch) -> nn.Module:
        torch.manual_seed(0)
        return lived_in(kind(modality, task, model))

    return make
