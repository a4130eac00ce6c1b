"""The stages on the training side, as the commands call them: what is there and still fits is used again.

A run's folder holds train, compress, bundles and test; students of another width have a run inside it, RUN/width-0.5,
and learn from those in RUN/train.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import InputError
from edge.recipe import Recipe, narrowed

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
    known = {"train", "compress", "bundles", "test", "folds", "on", "front.json", "front.svg", "report.json"}
    if foreign := sorted(name for name in found - known if not name.startswith("width-")):
        what = f"holds something else ({foreign[0]})"
        raise InputError(f"{run} {what}; give --out a folder that is new, empty or an earlier run")


def run_of(run: Path, width: float) -> Path:
    """The run of the students of this width inside the one of the full students."""
    return run if width == 1 else run / f"width-{width:g}"


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


def train_students(
    data: "PairedSet", recipe: Recipe, run: Path, *, resume: bool = True
) -> tuple["Trained", Recipe, Path]:
    """The co-learned students of the recipe's width, their own recipe, and their own run.

    Narrow ones learn from the full ones, too, which are trained first if RUN/train holds none that fit; without
    `resume` the narrow ones alone are trained again.
    """
    from edge.train.training import train

    own, small = run_of(run, recipe.width), narrowed(recipe)
    for place in (run, own):
        check_run(place)
    full = None
    if recipe.width != 1:
        full = train(data, dataclasses.replace(recipe, width=1.0), run / "train" / recipe.method)
    return train(data, small, own / "train" / recipe.method, resume=resume, full=full), small, own


def train_single(
    data: "PairedSet", recipe: Recipe, modality: str, run: Path, *, method: str = "single", resume: bool = True
) -> "Trained":
    """The model of one modality alone, which co-learning must beat."""
    from edge.train.training import train

    alone = dataclasses.replace(recipe, method=method, modalities=(modality,))
    return train(data, alone, run / "train" / f"{method}-{modality}", resume=resume)


def compress_stage(recipe: Recipe, run: Path, *, force: bool = False) -> "Compressed":
    """Train what is missing, then compress."""
    from edge.compress.mixed import compress_mixed

    check_run(run)
    data = open_data(recipe)
    trained, recipe, run = train_students(data, recipe, run, resume=not force)
    return compress_mixed(data, trained, recipe, run / "compress", resume=not force)


def sensitivity_stage(
    recipe: Recipe, run: Path, budget: float, *, force: bool = False, notify: Callable[[str], None]
) -> dict[str, Any]:
    """Train and compress what is missing, then find out what each layer does: RUN/compress/sensitivity.json."""
    from edge.compress.mixed import FILE, analyse, compress_mixed, without_mixed

    check_run(run)
    data, recipe = open_data(recipe), without_mixed(recipe)
    trained, recipe, run = train_students(data, recipe, run, resume=not force)
    compressed = compress_mixed(data, trained, recipe, run / "compress", resume=not force)
    return analyse(data, trained, compressed, run / "compress" / FILE, budget, resume=not force, notify=notify)
