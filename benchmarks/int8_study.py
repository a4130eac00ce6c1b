"""Which objectives must live on while a student becomes INT8? The study behind the defaults of `edge compress`.

    python -m edge.benchmarks.int8_study --data lfmc,worldcereal-crop --folds 5 --seeds 3 --jobs 2

For each fold and seed the co-learner is trained once and compressed in every variant of VARIANTS. Figures come from
what is deployed, the INT8 graph for the CPU in ONNX Runtime (the metric, and each class or tenth of the target), or
from the fake-quantized features (modality probes, recall@1; train/structure.py). Variants are to be chosen by the
validation columns; test stands beside them.

Writes below --out a CSV for each fold and seed (a stopped run goes on), then benchmarks/results/int8-DATA.csv and the
table between `<!-- int8 DATA -->` and `<!-- /int8 -->` in benchmarks/RESULTS.md. Ends with one JSON line.
"""

import csv
import dataclasses
import json
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edge.benchmarks.accuracy import worst_class
from edge.benchmarks.figures import metric_name
from edge.benchmarks.sections import markdown_table, replace_section, results_page
from edge.commands.options import make_recipe, split_list
from edge.recipe import Recipe
from edge.tasks import Task

if TYPE_CHECKING:
    from edge.train.paired import PairedSet
    from edge.train.training import Trained

Row = dict[str, Any]
FP32 = "FP32"
EPOCHS = 2
VARIANTS: dict[str, dict[str, Any]] = {
    "calibration alone": {"epochs": 0},
    "L_main": {"epochs": EPOCHS, "objectives": ("main",), "distil": 0.0, "features": 0.0},
    "L_main, L_aux": {"epochs": EPOCHS, "objectives": ("main", "aux"), "distil": 0.0, "features": 0.0},
    "all four": {"epochs": EPOCHS, "distil": 0.0, "features": 0.0},
    "all four, distilled": {"epochs": EPOCHS, "distil": 1.0, "features": 0.0},
    "all four, distilled with features": {"epochs": EPOCHS, "distil": 1.0, "features": 1.0},
}
COLUMNS = (
    "data", "fold", "seed", "variant", "modality", "metric", "validation", "test", "worst_class", "worst_damage",
    "probe_specific", "probe_shared", "recall_1", "seconds", "training_seconds", "n_train", "n_test", "fingerprint",
)  # fmt: skip
TEXT = {"data", "variant", "modality", "metric", "worst_class", "fingerprint"}


@dataclasses.dataclass(frozen=True)
class Work:
    """One fold with one seed."""

    recipe: Recipe
    folder: Path

    @property
    def table(self) -> Path:
        """Its CSV."""
        return self.folder / f"seed{self.recipe.seed}-fold{self.recipe.fold}.csv"


def one_fold(work: Work) -> list[Row]:
    """Train, compress in every variant, measure; the CSV is written when all is done."""
    from edge.compress.compression import compress, load_features
    from edge.compress.graphs import fp32_graph, int8_graphs
    from edge.stages import open_data
    from edge.train.fold_table import write_csv
    from edge.train.samples import load_samples
    from edge.train.structure import headline, views_of
    from edge.train.training import split_of, train

    data, recipe = open_data(work.recipe), work.recipe
    models = work.table.with_suffix("")
    trained = train(data, recipe, models / "train")
    split, names = split_of(data, recipe), tuple(trained.modalities)
    samples = load_samples(data, names, split)
    views = [views_of(trained.model, samples, part) for part in (split.train, split.test)]
    common = {
        "data": data.name, "fold": recipe.fold, "seed": recipe.seed, "metric": data.task.metric,
        "training_seconds": trained.facts["seconds"], "n_train": len(split.train), "n_test": len(split.test),
        "fingerprint": fingerprint_of(trained),
    }  # fmt: skip
    float_graphs = {name: fp32_graph(trained, name) for name in names}
    reference = {name: measured(data, name, float_graphs[name], split) for name in names}
    rows = [
        common
        | {"variant": FP32, "modality": name, "seconds": None}
        | structure(headline(*views))
        | _scores(data.task, found, None)
        for name, found in reference.items()
    ]
    for variant, settings in VARIANTS.items():
        tuned = dataclasses.replace(recipe, compression=dataclasses.replace(recipe.compression, **settings))
        compressed = compress(data, trained, tuned, models / variant.replace(" ", "-").replace(",", ""))
        seen = structure(headline(*load_features(compressed.folder, names)))
        for name in names:
            found = measured(data, name, int8_graphs(trained, compressed, name)["int8.cpu"], split)
            about = {"variant": variant, "modality": name, "seconds": compressed.facts["seconds"]}
            rows.append(common | about | seen | _scores(data.task, found, reference[name]))
    write_csv(work.table, list(COLUMNS), rows)
    shutil.rmtree(models)
    return rows


def fingerprint_of(trained: "Trained") -> str:
    """Of the training and of the code that compresses: other lines of a CSV are made again."""
    import edge.compress
    from edge.train.fingerprint import code_version, fingerprint

    code = code_version(Path(edge.compress.__path__[0]))
    return fingerprint(trained.facts["fingerprint"], code, json.dumps(VARIANTS))


def structure(found: dict[str, float | None]) -> Row:
    """The columns of the features' structure."""
    return {
        "probe_specific": found["modality probe, specific"], "probe_shared": found["modality probe, shared"],
        "recall_1": found["recall@1"],
    }  # fmt: skip


def measured(data: "PairedSet", modality: str, model: Any, split: Any) -> dict[str, Any]:
    """Metric on validation and test samples of a graph in ONNX Runtime; `output` and `target` of the latter."""
    from edge.metrics import score

    found: dict[str, Any] = {}
    for part in ("validation", "test"):
        output, target = answers(data, modality, model, getattr(split, part))
        found[part] = score(data.task, output, target)[data.task.metric]
        found |= {"output": output, "target": target}
    return found


def answers(data: "PairedSet", modality: str, model: Any, index: Any) -> tuple[Any, Any]:
    """What an ONNX graph says in ONNX Runtime about those of the samples `index` that have the modality: (n, outputs),
    and their targets.
    """
    import onnxruntime as ort

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    index = index[data.present(modality)[index]]
    inputs = np.array(data.arrays[modality][index], np.float32)
    pieces = [session.run(None, {modality: inputs[i : i + 256]})[0] for i in range(0, len(index), 256)]
    return np.concatenate(pieces), np.array(data.target[index])


def _scores(task: Task, found: dict[str, Any], reference: dict[str, Any] | None) -> Row:
    row: Row = {"validation": found["validation"], "test": found["test"]}
    if reference is None:
        return row
    worst = worst_class(task, reference["output"], found["output"], found["target"])
    return row | {"worst_class": worst["name"], "worst_damage": worst["drop"]}


def summarise(rows: list[Row], protocol: str) -> list[dict[str, Any]]:
    """For each modality and variant the means, and the paired test of INT8 against FP32 over folds and seeds."""
    from edge.train.paired_test import paired_test

    share = float(np.mean([row["n_test"] / row["n_train"] for row in rows]))
    found = []
    for modality in dict.fromkeys(row["modality"] for row in rows):
        mine = [row for row in rows if row["modality"] == modality]
        at = {(row["variant"], row["fold"], row["seed"]): row for row in mine}
        for variant in dict.fromkeys(row["variant"] for row in mine):
            these = [row for row in mine if row["variant"] == variant]
            entry: dict[str, Any] = {"modality": modality, "variant": variant, "n": len(these)}
            for key in ("validation", "test", "worst_damage", "probe_specific", "probe_shared", "recall_1", "seconds"):
                values = [row[key] for row in these if row[key] is not None]
                entry[key] = float(np.mean(values)) if values else None
            if variant != FP32:
                for part in ("validation", "test"):
                    differences = {
                        (row["fold"], row["seed"]): row[part] - at[FP32, row["fold"], row["seed"]][part]
                        for row in these
                    }
                    entry[f"{part}_against_fp32"] = paired_test(differences, protocol, share)
                entry["time_share"] = float(np.mean([row["seconds"] / row["training_seconds"] for row in these]))
            found.append(entry)
    return found


def markdown(summary: list[dict[str, Any]], metric: str) -> str:
    """The table: INT8 minus FP32 on validation and test samples, damage, structure, time."""
    head = [
        "modality", "INT8 by", f"{metric_name(metric)}, validation", "− FP32", f"{metric_name(metric)}, test",
        "− FP32 [95 %]", "worst class", "sensor from specific", "sensor from shared", "recall@1", "time / training",
    ]  # fmt: skip
    lines = [head]
    for entry in summary:
        cells = [entry["modality"], entry["variant"], _number(entry["validation"])]
        test = entry.get("test_against_fp32")
        cells.append(f"{entry['validation_against_fp32']['difference']:+.4f}" if test else "")
        cells.append(_number(entry["test"]))
        cells.append(_with_interval(test) if test else "")
        cells.append("" if entry["worst_damage"] is None else f"{-entry['worst_damage']:+.3f}")
        cells += [_number(entry[key], 2) for key in ("probe_specific", "probe_shared")]
        cells += [_number(entry["recall_1"]), f"{entry['time_share']:.2f}" if test else ""]
        lines.append(cells)
    return markdown_table(lines, left=2)


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _with_interval(test: dict[str, Any]) -> str:
    if test["ci95"] is None:
        return f"{test['difference']:+.4f}"
    return f"{test['difference']:+.4f} [{test['ci95'][0]:+.4f}, {test['ci95'][1]:+.4f}]"


def read(path: Path) -> list[Row]:
    """The rows of a CSV of this study; none if there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: _value(key, cell) for key, cell in line.items()} for line in csv.DictReader(file)]


def _value(key: str, cell: str) -> Any:
    if cell == "":
        return None
    return cell if key in TEXT else int(cell) if key in ("fold", "seed", "n_train", "n_test") else float(cell)


@click.command()
@click.option("--data", required=True, metavar="A,B", help="Paired sets, by name or folder.")
@click.option("--folds", default=5, show_default=True, help="Ignored for a set with a split of its own.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Folds at the same time.")
@click.option("--recipe", type=click.Path(path_type=Path), metavar="FILE", help="A recipe, JSON or TOML.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/int8"), show_default=True)
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=Path("benchmarks"),
              show_default=True, help="The folder that holds RESULTS.md and results/.")  # fmt: skip
def main(data: str, folds: int, seeds: int, jobs: int, recipe: Path | None, out: Path, results: Path) -> None:
    """Compare ways to INT8 on real sets."""
    results_page(results)  # hours of training should not end with a missing page
    tables = [
        one_set(make_recipe(recipe, data=name), folds, seeds, jobs, out / Path(name).name, results)
        for name in split_list(data)
    ]
    print(json.dumps({"benchmark": "int8_study", "tables": tables}))


def one_set(recipe: Recipe, folds: int, seeds: int, jobs: int, out: Path, results: Path) -> dict[str, Any]:
    """Run what is missing of one set, and publish it."""
    from tqdm import tqdm

    from edge.stages import open_data
    from edge.train.fold_table import write_csv
    from edge.train.processes import in_processes
    from edge.train.splits import protocol_of

    paired = open_data(recipe)
    protocol = protocol_of(paired, recipe.protocol)
    count = 1 if protocol == "fixed" else folds
    recipe = dataclasses.replace(recipe, folds=None if protocol == "fixed" else folds)
    everything = [
        Work(dataclasses.replace(recipe, fold=fold, seed=seed), out) for seed in range(seeds) for fold in range(count)
    ]
    out.mkdir(parents=True, exist_ok=True)
    todo = [work for work in everything if not read(work.table)]
    with tqdm(total=len(everything), initial=len(everything) - len(todo), desc=paired.name, disable=None) as bar:
        for _ in in_processes(one_fold, todo, jobs):
            bar.update()
    rows = [row for work in everything for row in read(work.table)]
    write_csv(results / "results" / f"int8-{paired.name}.csv", list(COLUMNS), rows)
    summary = summarise(rows, protocol)
    command = f"python -m edge.benchmarks.int8_study --data {shlex.quote(recipe.data)} --folds {folds} --seeds {seeds}"
    where = f"{count} {protocol} folds x {seeds} seeds" if count > 1 else f"the set's own split, {seeds} seeds"
    text = f"    {command}\n\n{paired.name}, {where}:\n\n{markdown(summary, paired.task.metric)}"
    replace_section(results / "RESULTS.md", f"int8 {paired.name}", text)
    print(f"\n{paired.name}\n{markdown(summary, paired.task.metric)}\n")
    return {"data": paired.name, "summary": summary}


if __name__ == "__main__":
    main()
