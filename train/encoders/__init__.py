"""Encoders: one file for each family. Adding one is adding a file and its name in FAMILIES.

A family has `NAMES` (what `model.encoder` may say), `KINDS` of modalities that it takes, `NO_INT8` (why it cannot be
INT8, or None) and `trunk(modality, model)`. A trunk is an nn.Sequential that ends in non-negative features (N, hidden);
what follows it is the same for all families (train/model.py), and so is what compression may do with it
(compress/fold.py). The first family of a kind is its default, for small images the patch encoder.
"""

import dataclasses
import hashlib
from typing import Protocol

from torch import nn

from edge.errors import InputError
from edge.recipe import Model
from edge.sensors import Modality
from edge.train.encoders import gru, ltae, mlp, mobilenet, patch, resnet, tempcnn, transformer


class Family(Protocol):
    """What a family's file holds."""

    NAMES: tuple[str, ...]
    KINDS: tuple[str, ...]
    NO_INT8: str | None

    def trunk(self, modality: Modality, model: Model) -> nn.Sequential:
        """(N, *shape), normalised -> (N, hidden), non-negative; `model.encoder` is one of NAMES."""


FAMILIES: tuple[Family, ...] = (tempcnn, ltae, gru, transformer, mlp, mobilenet, resnet, patch)


def build_trunk(modality: Modality, model: Model) -> nn.Sequential:
    """The trunk that `model.encoder` names for this kind of modality, or the kind's default."""
    name, family = choose_family(modality, model)
    if model.weights is not None and not set(_asked(model)) & set(resnet.NAMES):
        readers = ", ".join(resnet.NAMES)
        raise InputError(f"model.weights is {model.weights}, but no encoder here starts from it; use one of {readers}")
    return family.trunk(modality, dataclasses.replace(model, encoder=name))


def choose_family(modality: Modality, model: Model) -> tuple[str, Family]:
    """The family's name and the family. `model.encoder` may name one for each kind, with commas between them.

    InputError for a name that is not known, and if none of the names takes this kind.
    """
    known = {name: family for family in FAMILIES for name in family.NAMES}
    fitting = [name for name, family in known.items() if modality.kind in family.KINDS]
    if not fitting:
        raise InputError(
            f"modality {modality.name!r} is of kind {modality.kind!r}; there are encoders {known_encoders()}"
        )
    if model.encoder is None:
        window = modality.kind == "image" and max(modality.shape[1:]) <= patch.WINDOW
        name = patch.NAMES[0] if window else fitting[0]
        return name, known[name]
    asked = _asked(model)
    for name in asked:
        if name not in known:
            raise InputError(f"the encoder {name!r} is not known; known: {known_encoders()}")
    chosen = [name for name in asked if name in fitting]
    if len(chosen) != 1:
        found = f"more than one encoder ({', '.join(chosen)})" if chosen else "no encoder"
        raise InputError(
            f"{model.encoder!r} names {found} for modality {modality.name!r}, which is of kind {modality.kind!r}; "
            f"name one of {', '.join(fitting)}, and with modalities of several kinds one for each: A,B"
        )
    return chosen[0], known[chosen[0]]


def _asked(model: Model) -> list[str]:
    return [name.strip() for name in (model.encoder or "").split(",") if name.strip()]


def known_encoders() -> str:
    """The names of all families by kind, for people."""
    kinds = dict.fromkeys(kind for family in FAMILIES for kind in family.KINDS)
    return "; ".join(
        f"for {kind} {', '.join(name for family in FAMILIES if kind in family.KINDS for name in family.NAMES)}"
        for kind in kinds
    )


def no_int8(modality: Modality, model: Model) -> str | None:
    """Why this modality's student cannot be INT8; None if it can."""
    name, family = choose_family(modality, model)
    return family.NO_INT8 and f"the encoder {name!r} of {modality.name!r} cannot be INT8: {family.NO_INT8}"


def weights_digest(model: Model) -> str | None:
    """What is in the file of `model.weights`, for fingerprints; None without one, InputError if it is not there."""
    if model.weights is None:
        return None
    try:
        with open(model.weights, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise InputError(f"model.weights {model.weights} cannot be read: {error}") from None
