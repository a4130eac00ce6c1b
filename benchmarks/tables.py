"""What else a report holds, as tables: scenarios, cold starts, minutes under load, classes."""

from collections.abc import Sequence

from edge.benchmarks import figures
from edge.benchmarks.report import Report, Row, columns, engine_name, graph_name


def further_tables(report: Report) -> list[str]:
    """A titled table for each part that was measured, for a terminal."""
    return [f"{title}\n{columns(lines, left=3)}" for title, lines in further_parts(report).items()]


def further_parts(report: Report) -> dict[str, list[list[str]]]:
    """Title -> lines of cells, the first one the head, for each part that was measured."""
    parts = {
        "Scenarios of MLPerf": _scenarios(report),
        "Cold start, ms (median of fresh processes)": _cold_starts(report),
        "Under load": _sustained(report),
        "By class": _classes(report),
    }
    return {title: lines for title, lines in parts.items() if len(lines) > 1}


def _scenarios(report: Report) -> list[list[str]]:
    rows: Sequence[Row] = report.get("scenarios", [])
    lines = [["scenario", "student", "engine", "queries", "estimate ms", "samples/s", "holds"]]
    for row in rows:
        estimate = (
            "" if row["percentile"] is None else f"{row['percentile']} {figures.milliseconds(row['estimate_ms'])}"
        )
        bound = f"p99 within {figures.short(row['bound_ms'])} ms" if "bound_ms" in row else ""
        rate = row["rate_per_s"] if "bound_ms" in row else row["throughput_per_s"]
        lines.append(
            [
                row["scenario"], graph_name(row, report), engine_name(row, rows), f"{row['queries']:,}",
                estimate, figures.per_second(rate), bound,
            ]
        )  # fmt: skip
    return lines


def _cold_starts(report: Report) -> list[list[str]]:
    parts = ("import_ms", "load_ms", "first_ms", "second_ms", "process_ms")
    lines = [["student", "engine", "processes", "import", "load", "first run", "second run", "in all"]]
    for row in report.get("cold_start", []):
        medians = [figures.milliseconds(row[part]["median"]) for part in parts]
        lines.append([graph_name(row, report), row["engine"], str(row["n"]), *medians])
    return lines


def _sustained(report: Report) -> list[list[str]]:
    lines = [["student", "engine", "batch", "minutes", "p50 ms, begin", "p50 ms, end", "end / begin", "°C", "W"]]
    for row in report.get("sustained", []):
        windows, power = row["windows"], row["power"] or {}
        lines.append(
            [
                graph_name(row, report), row["engine"], str(row["batch"]), f"{row['duration_s'] / 60:.1f}",
                figures.milliseconds(windows[0]["p50"]), figures.milliseconds(windows[-1]["p50"]),
                figures.short(row["slowdown"]), figures.short(windows[-1]["temperature_c"]),
                figures.short(power.get("power_w")),
            ]
        )  # fmt: skip
    return lines


def _classes(report: Report) -> list[list[str]]:
    """One line per class, one column per graph and engine, from the first batch size and thread count of each."""
    first: dict[str, Row] = {}
    several = len({row["engine"] for row in report["results"]}) > 1
    for row in report["results"]:
        if row.get("per_class"):
            first.setdefault(f"{graph_name(row, report)} {row['engine']}" if several else graph_name(row, report), row)
    if not first:
        return []
    parts = next(iter(first.values()))["per_class"]
    lines = [["class", "measure", "n", *first]]
    for i, part in enumerate(parts):
        values = [row["per_class"][i] for row in first.values() if i < len(row["per_class"])]
        cells = [figures.with_interval(value["value"], value["ci95"]) for value in values]
        lines.append([part["name"], part["measure"], f"{part['n']:,}", *cells])
    return lines
