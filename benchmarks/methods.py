"""All methods on all modalities of a set: the tables of benchmarks/RESULTS.md.

    python -m edge.benchmarks.methods --data lfmc,ombria --jobs 2

trains what is missing (10 folds x 5 seeds, grouped and random) below --out, where a run that was stopped goes on, and
writes benchmarks/results/methods-DATA-PROTOCOL-KxS.csv (K folds, S seeds) and the table between `<!-- methods DATA
PROTOCOL KxS -->` and `<!-- /methods -->` in benchmarks/RESULTS.md, at its end if it has no such place yet. With a
recipe its name follows (methods-DATA-PROTOCOL-KxS-RECIPE.csv), so that the table without it stays. Prints the tables
and ends with one JSON line.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from edge.benchmarks.method_table import caption, markdown, table
from edge.benchmarks.sections import replace_section, results_page
from edge.commands.options import make_recipe, methods_option, split_list
from edge.recipe import METHODS, PROTOCOLS

Summary = dict[str, Any]


@click.command()
@click.option("--data", required=True, metavar="A,B", help="Paired sets, by name or folder.")
@click.option("--protocol", default="grouped,random", show_default=True, metavar="A,B", help=", ".join(PROTOCOLS))
@methods_option
@click.option("--folds", default=10, show_default=True, help="Ignored by protocol `fixed`, which has one.")
@click.option("--seeds", default=5, show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Folds that train at the same time.")
@click.option("--recipe", type=click.Path(path_type=Path), metavar="FILE", help="A recipe, JSON or TOML.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/tables"), show_default=True)
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=Path("benchmarks"),
              show_default=True, help="The folder that holds RESULTS.md and results/.")  # fmt: skip
def main(
    data: str, protocol: str, methods: tuple[str, ...], folds: int, seeds: int, jobs: int,
    recipe: Path | None, out: Path, results: Path,
) -> None:  # fmt: skip
    """Train, test and tabulate all methods (or those of --method)."""
    from edge.train.protocol import make_study, run_study

    results_page(results)  # hours of training should not end with a missing page
    studies = []
    for name in split_list(data):
        for one in split_list(protocol):
            settings = make_recipe(recipe, data=name, protocol=one)
            count = None if one == "fixed" else folds
            study = make_study(settings, methods or METHODS, out / Path(name).name, folds=count, seeds=seeds)
            studies.append((study, _command(name, one, methods, count, seeds, recipe)))
    done = []
    for study, command in studies:
        summary = run_study(study, jobs=jobs, keep_models=False)
        done.append(publish(results, summary, command, recipe.stem if recipe else None))
        print(f"{table(summary)}\n\n{caption(summary)}\n")
    print(json.dumps({"tables": done}))


def publish(results: Path, summary: Summary, command: str, recipe: str | None = None) -> dict[str, Any]:
    """Write the CSV and the part of RESULTS.md; says where and how many trainings stand behind it.

    `recipe`: the name of the recipe, if there was one.
    """
    from edge.train.summary import write_table

    parts = (summary["data"], summary["protocol"], f"{summary['folds']}x{len(summary['seeds'])}", recipe)
    name = " ".join(part for part in parts if part)
    file = results / "results" / f"methods-{name.replace(' ', '-')}.csv"
    write_table(file, summary)
    text = f"    {command}\n\n{caption(summary)}\n\n{markdown(summary)}"
    replace_section(results / "RESULTS.md", f"methods {name}", text)
    trainings = sum(entry["n"] for entry in summary["results"])
    return {
        "data": summary["data"], "protocol": summary["protocol"], "csv": str(file),
        "scores": trainings, "failures": len(summary["failures"]),
    }  # fmt: skip


def _command(
    data: str, protocol: str, methods: tuple[str, ...], folds: int | None, seeds: int, recipe: Path | None
) -> str:
    """What makes this one table again."""
    parts = ["python", "-m", "edge.benchmarks.methods", "--data", data, "--protocol", protocol]
    parts += ["--method", ",".join(methods)] if methods else []
    parts += ["--folds", str(folds)] if folds else []
    parts += ["--seeds", str(seeds)]
    return shlex.join([*parts, "--recipe", str(recipe)] if recipe else parts)


if __name__ == "__main__":
    main()
