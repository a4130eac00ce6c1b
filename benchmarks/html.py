"""report.html: a report as one page that opens without a network, on a phone, in the dark and on paper.

Doubts come first, then gates, then figures. Every text is escaped, because names of classes and methods come from
files of others; there is no script, and nothing is loaded from anywhere.
"""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from edge.benchmarks import figures, histograms, pareto, timeseries
from edge.benchmarks.headline import headlines
from edge.benchmarks.page import facts, figure, page, section, table, warnings
from edge.benchmarks.report import Report, Row, by_graph, run_name
from edge.benchmarks.tables import further_parts

# Columns of the table that holds every row, after the first.
COLUMNS: dict[str, Callable[[Row], str]] = {
    "engine": lambda row: row["engine"],
    "batch": lambda row: str(row["batch"]),
    "threads": lambda row: str(row["threads"]),
    "p50 ms [95 %]": lambda row: _with_interval(row["latency_ms"], "p50"),
    "p90 ms": lambda row: figures.milliseconds(row["latency_ms"]["p90"]),
    "p99 ms [95 %]": lambda row: _with_interval(row["latency_ms"], "p99"),
    "mean ms": lambda row: figures.milliseconds(row["latency_ms"]["mean"]),
    "sd / mean": lambda row: figures.short(row["latency_ms"].get("cv")),
    "graph alone, p50 ms": lambda row: figures.milliseconds((row.get("engine_ms") or {}).get("p50")),
    "runs": lambda row: f"{row['latency_ms']['n']:,}",
    "per second": lambda row: figures.per_second(row["throughput_per_s"]),
    "energy mJ": lambda row: figures.milliseconds(row["energy_mj"]),
    "peak memory": lambda row: figures.megabytes(row["peak_rss_mb"]),
}


def report_html(report: Report) -> str:
    """The page for a valid report."""
    task = report["task"]
    title = " · ".join(text for text in (report["dataset"], report["modality"], task["name"]) if text)
    parts = [
        _header(report, title),
        warnings(report["warnings"]),
        _gates(report["gates"]),
        _headlines(report),
        section("Latency against accuracy", figure(pareto.pareto_svg(report), "No accuracy was measured.")),
        section("Results", _summary(report)),
        section("How latency is spread", figure(histograms.histograms(report), "No latencies were kept.")),
        *(section(title, table(lines[0], lines[1:], "texts")) for title, lines in further_parts(report).items()),
        *(
            section("Under load, over time", figure(picture, ""))
            for picture in [timeseries.pictures(report)]
            if picture
        ),
        section("All figures", _all_figures(report)),
        section("Machine", facts(_machine(report["machine"]))),
        _how(report),
        section("Command", f"<pre><code>{escape(report['command'] or figures.NOT_MEASURED)}</code></pre>"),
    ]
    style = pareto.STYLE + histograms.STYLE + timeseries.STYLE
    return page(title, parts, style, f"{report['schema']} · {report['created']}")


def _header(report: Report, title: str) -> str:
    task = report["task"]
    said = [f"{task['kind']}, " + (f"{len(task['classes'])} classes" if task["classes"] else f"in {task['unit']}")]
    if report["protocol"]:
        said.append(f"protocol: {report['protocol']}")
    machine = report["machine"]
    said.append(" · ".join(str(name) for name in (machine["board"], machine["cpu"], machine["power_mode"]) if name))
    lines = "".join(f"<p>{escape(line)}</p>" for line in said if line)
    return f"<header><h1>{escape(title)}</h1>{lines}</header>"


def _gates(gates: Sequence[dict[str, Any]]) -> str:
    if not gates:
        return ""
    items = []
    for gate in gates:
        word, kind = ("passed", "good") if gate["passed"] else ("failed", "bad")
        items.append(
            f'<li class="{kind}"><b>{word}</b><span>{escape(gate["name"])}</span>'
            f"<span>{figures.short(gate['value'])} <small>bound {escape(_bound(gate['bound']))}</small></span></li>"
        )
    return section("Gates", f'<ul class="gates">{"".join(items)}</ul>')


def _bound(bound: float | str | None) -> str:
    return bound if isinstance(bound, str) else figures.short(bound)


def _headlines(report: Report) -> str:
    tiles = "".join(f"<div><b>{escape(h.value)}</b><span>{escape(h.text)}</span></div>" for h in headlines(report))
    return f'<section class="tiles">{tiles}</section>' if tiles else ""


def _summary(report: Report) -> str:
    """One line per graph: accuracy, medians, size."""
    metric = figures.metric_name(report["metric"]["name"])
    batches = sorted({row["batch"] for row in report["results"]})
    lines = []
    for rows in by_graph(report["results"]):
        at = {row["batch"]: row["latency_ms"]["p50"] for row in rows}
        lines.append(
            [
                run_name(rows[0], report),
                figures.with_interval(rows[0]["metric"], rows[0]["metric_ci95"]),
                *(figures.milliseconds(at.get(batch)) for batch in batches),
                figures.size(rows[0]["model_bytes"]),
            ]
        )
    return table(["student", f"{metric} [95 %]", *(f"p50\u00a0ms\u00a0@{b}" for b in batches), "model"], lines)


def _all_figures(report: Report) -> str:
    """One line per row of the report."""
    rows = (row for rows in by_graph(report["results"]) for row in rows)
    lines = ([run_name(row, report), *(cell(row) for cell in COLUMNS.values())] for row in rows)
    return table(["student", *COLUMNS], lines)


def _with_interval(times: Row, name: str) -> str:
    interval = (times.get("ci95") or {}).get(name)
    if times[name] is None or interval is None:
        return figures.milliseconds(times[name])
    return f"{figures.milliseconds(times[name])} [{', '.join(map(figures.milliseconds, interval))}]"


def _how(report: Report) -> str:
    """How long was measured, and what the figures mean."""
    settings = {key.replace("_", " "): _plain(value) for key, value in (report.get("settings") or {}).items()}
    said = {key.replace("_", " "): str(value) for key, value in report.get("definitions", {}).items()}
    parts = (facts(settings) if settings else "") + (facts(said, "wide") if said else "")
    return section("How it was measured", parts) if parts else ""


def _machine(machine: dict[str, Any]) -> dict[str, str]:
    """Facts in the report's order, then versions."""
    facts = {key.replace("_", " "): value for key, value in machine.items() if key != "versions"} | machine["versions"]
    return {key: _plain(value) for key, value in facts.items()}


def _plain(value: Any) -> str:
    if value is None or value == []:
        return figures.NOT_MEASURED
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.2f}" if isinstance(value, float) else str(value)
