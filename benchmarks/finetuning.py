"""How to fine-tune: learning rate and distillation, judged on validation samples alone.

    python -m edge.benchmarks.finetuning --data lfmc --folds 3

trains MDiCo once for each test fold, compresses it in each variant, and runs the INT8 CPU graphs on the validation
part. Prints a table (mean over folds of INT8 minus FP32, and the worst of them) and ends with one JSON line.
"""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from edge.benchmarks.int8_study import answers

VARIANTS: dict[str, dict[str, float]] = {
    "calibration alone": {"epochs": 0},
    "1e-4": {"epochs": 4, "lr": 1e-4, "distil": 0.0},
    "3e-5": {"epochs": 4, "lr": 3e-5, "distil": 0.0},
    "1e-5": {"epochs": 4, "lr": 1e-5, "distil": 0.0},
    "1e-4, distilled": {"epochs": 4, "lr": 1e-4, "distil": 1.0},
    "3e-5, distilled": {"epochs": 4, "lr": 3e-5, "distil": 1.0},
    "1e-5, distilled": {"epochs": 4, "lr": 1e-5, "distil": 1.0},
}


@click.command()
@click.option("--data", default="lfmc", show_default=True, help="A paired set.")
@click.option("--folds", default=3, show_default=True, help="The first so many test folds.")
def main(data: str, folds: int) -> None:
    """Compare fine-tuning variants on validation samples."""
    rows: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for fold in range(folds):
        with tempfile.TemporaryDirectory() as folder:
            for name, changes in one_fold(data, fold, Path(folder)).items():
                rows[name] += changes
    print(f"{'fine-tuning':<20} {'mean change':>12} {'worst':>8}   over {folds} folds x modalities of {data}")
    for name, changes in rows.items():
        print(f"{name:<20} {np.mean(changes):>+12.4f} {min(changes):>+8.4f}")
    print(json.dumps({"data": data, "folds": folds, "changes": rows}))


def one_fold(data: str, fold: int, folder: Path) -> dict[str, list[float]]:
    """For each variant the change of the metric from FP32 to INT8, one number for each modality."""
    from edge.compress.compression import compress
    from edge.compress.graphs import fp32_graph, int8_graphs
    from edge.recipe import Model, Recipe, Training
    from edge.stages import open_data
    from edge.train.splits import split_indices
    from edge.train.training import train

    # the training that the table in RESULTS.md stands on: MDiCo with the paper's early stopping
    published = Training(epochs=100, patience=5)
    recipe = Recipe(
        data=data, fold=fold, seed=fold, method="mdico", model=Model(dropout=0.2), training=published
    )  # fmt: skip
    paired = open_data(recipe)
    trained = train(paired, recipe, folder / "train")
    index = split_indices(paired, fold).validation
    found = {}
    for name, settings in VARIANTS.items():
        tuning = dataclasses.replace(recipe.compression, features=0.0, **settings)  # type: ignore[arg-type]
        variant = dataclasses.replace(recipe, compression=tuning)
        compressed = compress(paired, trained, variant, folder / name.replace(" ", "-"))
        found[name] = [
            metric(int8_graphs(trained, compressed, modality)["int8.cpu"], paired, modality, index)
            - metric(fp32_graph(trained, modality), paired, modality, index)
            for modality in trained.modalities
        ]
    return found


def metric(model: Any, paired: Any, modality: str, index: Any) -> float:
    """The task's metric of an ONNX graph on the samples `index` that have the modality."""
    from edge.metrics import score

    return score(paired.task, *answers(paired, modality, model, index))[paired.task.metric]


if __name__ == "__main__":
    main()
