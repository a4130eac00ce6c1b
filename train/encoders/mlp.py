"""A multi-layer perceptron for vectors: soil, topography and whatever else has neither time nor space."""

from collections import OrderedDict

from torch import nn

from edge.recipe import Model
from edge.sensors import Modality
from edge.train.encoders.blocks import Dropout

NAMES: tuple[str, ...] = ("mlp",)
KINDS: tuple[str, ...] = ("vector",)
NO_INT8: str | None = None


def trunk(modality: Modality, model: Model) -> nn.Sequential:
    """Vectors (N, B), normalised -> features (N, hidden), non-negative."""
    (bands,) = modality.shape
    return nn.Sequential(
        OrderedDict(
            dense1=nn.Linear(bands, model.width),
            norm1=nn.BatchNorm1d(model.width),
            relu1=nn.ReLU(),
            dropout1=Dropout(model.dropout),
            dense2=nn.Linear(model.width, model.hidden),
            norm2=nn.BatchNorm1d(model.hidden),
            relu2=nn.ReLU(),
            dropout2=Dropout(model.dropout),
        )
    )
