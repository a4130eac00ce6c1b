"""The methods of a comparison, one file each: same samples, same loop, same budget for all of them.

A file has `ABOUT`, which names its methods and says what each is and what it needs when it is used, and either

    build, losses     a network, which train/training.py trains and keeps (`Trainable`), or
    predict           predictions made in another way: a mean of networks, a forest (`Predicting`)

Adding a method is adding a file here and its names to METHODS in edge/recipe.py. Nothing in this folder imports
train/training.py when it is loaded, because training looks the methods up here.
"""

from pathlib import Path
from typing import Any

from edge.recipe import Recipe
from edge.train.methods import concat, discom_kd, distilled, ensemble, mdico, mutual, random_forest, single, taught
from edge.train.methods.method import Predicting, Students, Trainable
from edge.train.paired import PairedSet

STUDENTS: tuple[Students, ...] = (taught, mdico, single, distilled, mutual, discom_kd)
TRAINABLE: tuple[Trainable, ...] = (*STUDENTS, concat)
PREDICTING: tuple[Predicting, ...] = (ensemble, random_forest)

STUDENTS_BY_NAME = {name: file for file in STUDENTS for name in file.ABOUT}
TRAINABLE_BY_NAME = {name: file for file in TRAINABLE for name in file.ABOUT}
PREDICTING_BY_NAME = {name: file for file in PREDICTING for name in file.ABOUT}

ABOUT = {name: text for file in (*TRAINABLE, *PREDICTING) for name, text in file.ABOUT.items()}
TOGETHER = {name for file in (*TRAINABLE, *PREDICTING) if file.TOGETHER for name in file.ABOUT}


def run_fold(data: PairedSet, recipe: Recipe, folder: Path, *, resume: bool = True) -> list[dict[str, Any]]:
    """Train `recipe.method` on one fold and score everything that it gives; one row for each predictor.

    What is trained lies in folders `folder`/METHOD or METHOD-MODALITY. Methods that build on others find those there:
    `ensemble` the single models, `distilled` the `concat` teacher; so give all methods of one fold and seed one folder.
    With `resume`, what is there and still fits is not trained again.

    A row: `method`, `modality` ("optical", or "optical+sar" where several are needed), `protocol`, `fold`, `seed`,
    `n_train`, `n_validation`, `n_test` (samples of each part that the predictor can use), `metric`, `validation` and
    `test` (edge.metrics.score), `epochs` and `seconds` of training (of all networks that the predictor consists of;
    students that learn together share them, a teacher has its own row), `parameters` (of the predictor); null where a
    method has no such number.
    """
    from edge.train.methods.fold import fold_rows

    return fold_rows(data, recipe, folder, resume=resume)
