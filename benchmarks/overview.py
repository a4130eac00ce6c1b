"""What the tables of all methods say together: `taught` beside its rivals, student by student.

    python -m edge.benchmarks.overview

reads benchmarks/results/methods-*.csv, writes the table between `<!-- overview students -->` and `<!-- /overview -->`
in benchmarks/RESULTS.md, and prints it. Of several tables of one set and protocol the one with the most trainings of
`taught` counts, then the one with the most methods. The protocol `published`, whose scores are too good, is left out.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

import click

from edge.benchmarks.figures import metric_name
from edge.benchmarks.sections import markdown_table, replace_section, results_page

OURS, REFERENCE, SMALL, FOREST = "taught", "single-matched", "single", "random-forest"
BESIDE = (SMALL, REFERENCE, "mdico", FOREST)
LEVEL = 0.005  # of the metric: less is no difference
PROTOCOLS = {"grouped": "grouped folds", "fixed": "the sets' own split", "random": "random folds"}
HEAD = (
    "set", "protocol", "modality", "metric", *BESIDE, OURS, f"− {REFERENCE}", "p", "best of the other ways to co-learn",
)  # fmt: skip

Row = dict[str, str]


@click.command()
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=Path("benchmarks"),
              show_default=True, help="The folder that holds RESULTS.md and results/.")  # fmt: skip
def main(results: Path) -> None:
    """Write the overview of the tables in results/."""
    page = results_page(results)
    text = overview(read_tables(results / "results"))
    replace_section(page, "overview students", f"    python -m edge.benchmarks.overview\n\n{text}")
    print(text)


def read_tables(folder: Path) -> list[tuple[str, list[Row]]]:
    """(name, rows) of one table for each set and protocol, in the order of PROTOCOLS."""
    best: dict[tuple[str, str], tuple[tuple[int, int], str, list[Row]]] = {}
    for path in sorted(folder.glob("methods-*.csv")):
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        ours = [row for row in rows if row["method"] == OURS]
        if not ours or ours[0]["protocol"] not in PROTOCOLS:
            continue
        key = ours[0]["protocol"], ours[0]["data"]
        size = int(ours[0]["n"]), len({row["method"] for row in rows})
        if key not in best or size > best[key][0]:
            best[key] = size, path.stem.removeprefix(f"methods-{key[1]}-").replace("-", " ", 2), rows
    order = sorted(best, key=lambda key: (list(PROTOCOLS).index(key[0]), key[1]))
    return [best[key][1:] for key in order]


def overview(tables: list[tuple[str, list[Row]]]) -> str:
    """A Markdown table with a line for each student, and a sentence for each protocol."""
    lines, students = list[tuple[str, ...]](), dict[str, list[dict[str, Row]]]()
    for name, rows in tables:
        metric = next(column for column in rows[0] if column.endswith("_mean"))
        for modality in [row["modality"] for row in rows if row["method"] == OURS]:
            found = {row["method"]: row for row in rows if row["modality"] == modality}
            students.setdefault(rows[0]["protocol"], []).append(found)
            lines.append((rows[0]["data"], name, modality, *_cells(found, metric)))
    return "\n".join(
        [
            markdown_table((HEAD, *lines), left=4),
            "",
            *(_sentence(PROTOCOLS[key], found) for key, found in students.items()),
        ]
    )


def _cells(found: dict[str, Row], metric: str) -> Iterable[str]:
    score = {method: float(row[metric]) for method, row in found.items()}
    yield metric_name(metric.removesuffix("_mean"))
    for method in (*BESIDE, OURS):
        yield f"{score[method]:.3f}" if method in score else ""
    yield f"{_difference(found[OURS]):+.3f}"
    p = found[OURS][f"vs_{REFERENCE}_p"]
    yield f"{float(p):.3f}" if p else ""
    others = [method for method in score if method not in (OURS, SMALL, REFERENCE, FOREST)]
    best = max(others, key=lambda method: score[method], default=None)
    yield f"{best} {score[best]:.3f}" if best else ""


def _difference(row: Row) -> float:
    """To the reference, which has none to itself."""
    return float(row[f"vs_{REFERENCE}_difference"] or 0)


def _sentence(protocol: str, students: list[dict[str, Row]]) -> str:
    ahead, behind = _compared(students, REFERENCE)
    ahead_small, behind_small = _compared(students, SMALL)
    beaten = [found for found in students if FOREST in found and _difference(found[OURS]) > _difference(found[FOREST])]
    return (
        f"- {protocol[0].upper()}{protocol[1:]}, {len(students)} students: `{OURS}` is ahead of {REFERENCE} by {LEVEL} "
        f"or more in {len(ahead)} (p < .05: {_clear(ahead)}), behind by as much in {len(behind)} (p < .05: "
        f"{_clear(behind)}). It is ahead of {SMALL}, which is half as large, in {len(ahead_small)} of "
        f"{sum(SMALL in found for found in students)} and behind in {len(behind_small)}, and ahead of its sensor's "
        f"forest in {len(beaten)} of {sum(FOREST in found for found in students)}."
    )


def _compared(students: list[dict[str, Row]], rival: str) -> tuple[list[Row], list[Row]]:
    """Our rows that are ahead of the rival by LEVEL or more, and those that are behind by as much."""
    pairs = [
        (found[OURS], _difference(found[OURS]) - _difference(found[rival])) for found in students if rival in found
    ]
    return [row for row, by in pairs if by >= LEVEL], [row for row, by in pairs if by <= -LEVEL]


def _clear(rows: list[Row]) -> int:
    """How many of the differences the paired test says to be no chance."""
    return sum(float(row[f"vs_{REFERENCE}_p"] or 1) < 0.05 for row in rows)


if __name__ == "__main__":
    main()
