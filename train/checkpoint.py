"""Checkpoints in safetensors: tensors and a JSON header, nothing that could execute. Written whole or not at all."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edge.errors import InputError
from edge.files import replacing


def save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any], durable: bool = True) -> None:
    """Write tensors by name and `facts` as JSON (`durable`: edge.files); InputError if there is no room for them."""
    whole = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    try:
        with replacing(path, durable) as temporary:
            save_file(whole, temporary, metadata={"edge": json.dumps(facts)})
    except SafetensorError as error:  # no OSError, even where the disk is full
        raise InputError(f"the checkpoint {path} cannot be written: {error}") from None


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote; InputError if the file is missing, truncated or not ours."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["edge"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the checkpoint {path} cannot be read: {error}; remove it or train again") from None


def save_progress(
    path: Path, model: torch.nn.Module, best: dict[str, Tensor], optimiser: torch.optim.Optimizer, facts: dict[str, Any]
) -> None:
    """Everything that the next epoch depends on: weights, best weights so far, moments of the optimiser, `facts`.

    The disk is not waited for, which would take up to a tenth of an epoch of a small set.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors.update({f"best.{name}": value for name, value in best.items()})
    for index, moments in optimiser.state_dict()["state"].items():
        tensors.update({f"optimiser.{index}.{name}": value for name, value in moments.items()})
    save(path, tensors, facts, durable=False)


def restore_progress(
    tensors: dict[str, Tensor], model: torch.nn.Module, optimiser: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Put the tensors of `save_progress` into `model` and `optimiser`; return the best weights so far."""
    model.load_state_dict(_part(tensors, "model."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimiser.").items():
        index, moment = name.split(".", 1)
        state.setdefault(int(index), {})[moment] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return _part(tensors, "best.")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
