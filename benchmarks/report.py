"""report.json, schema `edge.report/1` (edge/schemas/edge.report-1.json): what was measured, where and how."""

import datetime
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from edge.benchmarks import figures, schema
from edge.benchmarks.doubts import doubts
from edge.benchmarks.machine import machine_facts
from edge.errors import InputError
from edge.files import inside, read_json
from edge.tasks import METRICS, Task

SCHEMA = "edge.report/1"
# What the figures mean; it stands in every report.
DEFINITIONS = {
    "latency_ms": "end to end: from sensor values in memory, of the type in which they come, to predictions in memory: "
    "conversion to float32, checks of the inputs, the graph; no file is read",
    "engine_ms": "the graph alone, in the same runs; null where the engine does not tell",
    "copy_ms": "copies to and from an accelerator, in the same runs; null where nothing is copied",
    "ci95": "95 % interval of a percentile between two order statistics; successive runs taken as independent",
    "estimate_ms": "LoadGen's early-stopping estimate: a bound that the percentile is below with 99 % confidence",
    "throughput_per_s": "samples per second",
    "energy_mj": "per sample, above what the board draws when it is idle",
    "peak_rss_mb": "a fresh process that opens the graph and predicts",
    "cold_start": "fresh processes with files in the page cache; process_ms runs from the start of the interpreter to "
    "the first prediction",
}
Report = dict[str, Any]
Row = dict[str, Any]


def make_report(
    *,
    dataset: str | None,
    modality: str,
    task: Task,
    protocol: str | None,
    results: Sequence[Row],
    gates: Sequence[dict[str, Any]] = (),
    command: str | None = None,
    warnings: Iterable[str] = (),
    machine: Mapping[str, Any] | None = None,
    scenarios: Sequence[Row] = (),
    cold_start: Sequence[Row] = (),
    sustained: Sequence[Row] = (),
    settings: Mapping[str, Any] | None = None,
    following: str | None = None,
    worst_class: Mapping[str, Any] | None = None,
) -> Report:
    """A report that fits the schema; `results` come from `bench_graphs`, `gates` from `gate`.

    `protocol` says how train and test were parted, `command` is what the user typed. `scenarios`, `cold_start` and
    `sustained` come from the modules of these names; `settings` say how long was measured, `following` which command
    comes next, on the board, `worst_class` which class the lower precision hurts most. What gives reason to doubt
    the figures is added to `warnings`. Figures that are not finite become null, all are cut to six significant digits.
    """
    machine = dict(machine_facts() if machine is None else machine)
    name, higher_is_better = METRICS[task.kind]
    report = {
        "schema": SCHEMA,
        "dataset": dataset,
        "modality": modality,
        "task": task.to_json(),
        "metric": {"name": name, "higher_is_better": higher_is_better},
        "protocol": protocol,
        "machine": machine,
        "command": command,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "results": list(results),
        "gates": list(gates),
        "scenarios": list(scenarios),
        "cold_start": list(cold_start),
        "sustained": list(sustained),
        "settings": None if settings is None else dict(settings),
        "next": following,
        "worst_class": None if worst_class is None else dict(worst_class),
        "definitions": DEFINITIONS,
        "warnings": [*warnings, *doubts(machine, results, scenarios, sustained)],
    }
    tidy: Report = _tidy(report)
    validate_report(tidy)
    return tidy


def gate(name: str, bound: float | str, value: float | None, passed: bool) -> dict[str, Any]:
    """A bound that must hold for a build to pass: `name` says what, `value` what was found."""
    return {"name": name, "bound": bound, "value": value, "passed": bool(passed)}


def validate_report(report: Any, source: str = "report") -> None:
    """Raise InputError that names the place in `report` which breaks the published schema."""
    if isinstance(report, dict) and report.get("schema") != SCHEMA:
        raise InputError(
            f"{source} has the schema {report.get('schema')!r}; this version of edge reads {SCHEMA!r}: "
            "measure again with `edge bench`, or use the version of edge that wrote it"
        )
    schema.check(report, published_schema(), source)
    for i, row in enumerate(report["results"]):
        counted = row.get("latency_histogram")
        if counted and len(counted["edges"]) != len(counted["counts"]) + 1:
            raise InputError(f"{source}.results[{i}].latency_histogram needs one more edge than counts")


@functools.cache
def published_schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    found: dict[str, Any] = read_json(Path(str(resources.files("edge") / "schemas" / "edge.report-1.json")))
    return found


def read_report(path: Path) -> Report:
    """The report in a file, or in a bundle's folder; InputError if it is none."""
    path = inside(path, "report.json") if path.is_dir() else path
    report: Report = read_json(path)
    validate_report(report, str(path))
    return report


def by_graph(results: Sequence[Row]) -> list[list[Row]]:
    """The rows of each graph (same method, precision, modality, engine, threads) by batch size."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in results:
        groups.setdefault(graph_key(row), []).append(row)
    return [sorted(rows, key=lambda row: int(row["batch"])) for rows in groups.values()]


def graph_key(row: Row) -> tuple[Any, ...]:
    """What a row measured, apart from the batch size."""
    return row["method"], row["precision"], row.get("modality"), row["engine"], row["threads"]


def method_name(row: Row, report: Report) -> str:
    """The row's method, behind its modality where the report holds several: "mdico", "sar mdico"."""
    modality = row.get("modality", report["modality"])
    return str(row["method"] if modality == report["modality"] else f"{modality} {row['method']}")


def graph_name(row: Row, report: Report) -> str:
    """What people call a graph: "mdico INT8"."""
    return f"{method_name(row, report)} {row['precision'].upper()}"


def run_name(row: Row, report: Report) -> str:
    """What people call a graph on its engine: "mdico INT8", and what else tells it from the report's other rows."""
    rows, parts = report["results"], [graph_name(row, report)]
    if len({other["engine"] for other in rows}) > 1:
        parts.append(row["engine"])
    if len({other["threads"] for other in rows}) > 1:
        parts.append(f"x{row['threads']}")
    return " ".join(parts)


def engine_name(row: Row, rows: Sequence[Row]) -> str:
    """The row's engine, with its threads where the rows have several counts: "onnxruntime x2"."""
    several = len({other["threads"] for other in rows}) > 1
    return f"{row['engine']} x{row['threads']}" if several else str(row["engine"])


def table(report: Report) -> str:
    """The report's results for a terminal: one line per graph, smallest batch in full, medians of the others."""
    metric = figures.metric_name(report["metric"]["name"])
    graphs = by_graph(report["results"])
    batches = sorted({row["batch"] for row in report["results"]})
    first, last = (batches[0], batches[-1]) if batches else (1, 1)
    head = ["method", "precision", "engine", f"{metric} [95 %]", f"p50 ms @{first}", "p90", "p99"]
    head += [f"p50 ms @{batch}" for batch in batches[1:]] + [f"samples/s @{last}", "model"]
    parted = any(row.get("engine_ms") for row in report["results"])
    if parted:
        head.insert(5, "graph alone")
    lines = [head]
    for rows in graphs:
        at = {row["batch"]: row for row in rows}
        row, latency = rows[0], at[first]["latency_ms"] if first in at else {}
        line = [method_name(row, report), row["precision"].upper(), engine_name(row, report["results"])]
        line.append(figures.with_interval(row["metric"], row["metric_ci95"]))
        line += [figures.milliseconds(latency.get(name)) for name in ("p50", "p90", "p99")]
        if parted:
            line.insert(5, figures.milliseconds((row.get("engine_ms") or {}).get("p50")))
        line += [figures.milliseconds(at[b]["latency_ms"]["p50"] if b in at else None) for b in batches[1:]]
        line += [figures.per_second(at[last]["throughput_per_s"] if last in at else None)]
        lines.append([*line, figures.size(row["model_bytes"])])
    worst = report.get("worst_class")
    return columns(lines, left=3) + (f"\n\n{worst_class_text(worst)}" if worst else "")


def worst_class_text(worst: Mapping[str, Any]) -> str:
    """What `benchmarks.accuracy.worst_class` found, in a line."""
    percent = worst["measure"] == "rmse"
    values = " -> ".join(figures.significant(worst[key]) for key in ("before", "after"))
    changed = "n/a" if worst["drop"] is None else f"{100 * worst['drop']:+.1f} %" if percent else ""
    changed = changed or f"{0 - 100 * worst['drop']:+.1f} points"
    few = "" if worst["enough"] else ", too few to judge by"
    return (
        f"worst class {worst['precision'].upper()}: {worst['name']}, {worst['measure']} {values} ({changed}; "
        f"{worst['n']} samples{few})"
    )


def columns(lines: Sequence[Sequence[str]], left: int) -> str:
    """Lines of cells as aligned text, the first line ruled off; `left` columns to the left, the others to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines = [lines[0], ["─" * width for width in widths], *lines[1:]]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _tidy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tidy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tidy(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
