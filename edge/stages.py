"""The stages on the training side, as the commands call them: what is there and still fits is used again."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import InputError
from edge.recipe import Recipe

if TYPE_CHECKING:
    from edge.compress.compression import Compressed
    from edge.train.methods.fold import Result
    from edge.train.paired import PairedSet
    from edge.train.training import Trained


def check_run(run: Path) -> None:
    """A run's folder holds what we put there; InputError for anything else, which is somebody's and is left alone."""
    if run.exists() and not run.is_dir():
        raise InputError(f"{run} is a file; give --out a folder that is new, empty or an earlier run")
    found = {path.name for path in run.iterdir() if not path.name.startswith(".")} if run.exists() else set()
    if foreign := sorted(found - {"train", "compress", "bundles", "test", "folds"}):
        what = f"holds something else ({foreign[0]})"
        raise InputError(f"{run} {what}; give --out a folder that is new, empty or an earlier run")


def open_data(recipe: Recipe) -> "PairedSet":
    """The recipe's paired set: a folder, a known name, or the simulated one."""
    from edge.train.datasets import resolve
    from edge.train.distributed import first_goes_ahead

    with first_goes_ahead():  # a set that is made or fetched is there for the others
        return resolve(recipe.data)


def train_stage(recipe: Recipe, run: Path, *, resume: bool = True) -> Iterator["Result"]:
    """What the method trains: one network for all modalities, or one for each; for some methods scores alone."""
    from edge.train.methods.fold import results

    check_run(run)
    yield from results(open_data(recipe), recipe, run / "train", resume=resume)


def train_single(
    data: "PairedSet", recipe: Recipe, modality: str, run: Path, *, method: str = "single", resume: bool = True
) -> "Trained":
    """The model of one modality alone, which co-learning must beat."""
    from edge.train.training import train

    alone = dataclasses.replace(recipe, method=method, modalities=(modality,))
    return train(data, alone, run / "train" / f"{method}-{modality}", resume=resume)


def compress_stage(recipe: Recipe, run: Path, *, force: bool = False) -> "Compressed":
    """Train what is missing, then compress."""
    from edge.compress.compression import compress
    from edge.train.training import train

    check_run(run)
    data = open_data(recipe)
    trained = train(data, recipe, run / "train" / recipe.method, resume=not force)
    return compress(data, trained, recipe, run / "compress" / recipe.method, resume=not force)
