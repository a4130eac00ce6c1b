"""Encoders: one file for each family, each with `KINDS` and `trunk(modality, model)`.

A trunk is an nn.Sequential that ends in non-negative features (N, hidden); what follows it is the same for all
families (train/model.py), and so is what compression may do with it (compress/fold.py).
"""

from torch import nn

from edge.errors import InputError
from edge.recipe import Model
from edge.sensors import Modality
from edge.train.encoders import mlp, tempcnn

FAMILIES = (tempcnn, mlp)


def build_trunk(modality: Modality, model: Model) -> nn.Sequential:
    """The trunk of the family that takes this kind of modality; InputError if there is none."""
    for family in FAMILIES:
        if modality.kind in family.KINDS:
            trunk: nn.Sequential = family.trunk(modality, model)
            return trunk
    known = ", ".join(kind for family in FAMILIES for kind in family.KINDS)
    raise InputError(f"modality {modality.name!r} is of kind {modality.kind!r}; there are encoders for: {known}")
