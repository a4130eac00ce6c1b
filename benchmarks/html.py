"""report.html: a report as one page that opens without a network, on a phone, in the dark and on paper.

Doubts come first, then gates, then figures. Every text is escaped, because names of classes and methods come from
files of others; there is no script, and nothing is loaded from anywhere.
"""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from edge.benchmarks import figures, histograms, palette, pareto
from edge.benchmarks.headline import headlines
from edge.benchmarks.report import Report, Row, by_graph, graph_name
from edge.benchmarks.stylesheet import PAGE

# Columns of the table that holds every row, after the first.
COLUMNS: dict[str, Callable[[Row], str]] = {
    "engine": lambda row: row["engine"],
    "batch": lambda row: str(row["batch"]),
    "threads": lambda row: str(row["threads"]),
    "p50 ms": lambda row: figures.milliseconds(row["latency_ms"]["p50"]),
    "p90 ms": lambda row: figures.milliseconds(row["latency_ms"]["p90"]),
    "p99 ms": lambda row: figures.milliseconds(row["latency_ms"]["p99"]),
    "mean ms": lambda row: figures.milliseconds(row["latency_ms"]["mean"]),
    "samples": lambda row: f"{row['latency_ms']['n']:,}",
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
        _warnings(report["warnings"]),
        _gates(report["gates"]),
        _headlines(report),
        _section("Latency against accuracy", _figure(pareto.pareto_svg(report), "No accuracy was measured.")),
        _section("Results", _summary(report)),
        _section("How latency is spread", _figure(histograms.histograms(report), "No latencies were kept.")),
        _section("All figures", _all_figures(report)),
        _section("Machine", _facts(_machine(report["machine"]))),
        _section("Command", f"<pre><code>{escape(report['command'] or figures.NOT_MEASURED)}</code></pre>"),
    ]
    style = palette.variables(":root") + PAGE + pareto.STYLE + histograms.STYLE
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        # The page promises to load nothing; the browser holds it to that, whatever a name manages to smuggle in.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<footer>{escape(report['schema'])} · {escape(report['created'])}</footer>\n</main>\n</body>\n</html>\n"
    )


def _header(report: Report, title: str) -> str:
    task = report["task"]
    said = [f"{task['kind']}, " + (f"{len(task['classes'])} classes" if task["classes"] else f"in {task['unit']}")]
    if report["protocol"]:
        said.append(f"protocol: {report['protocol']}")
    machine = report["machine"]
    said.append(" · ".join(str(name) for name in (machine["board"], machine["cpu"], machine["power_mode"]) if name))
    lines = "".join(f"<p>{escape(line)}</p>" for line in said if line)
    return f"<header><h1>{escape(title)}</h1>{lines}</header>"


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    return f'<section class="warnings" role="note"><h2>Read this first</h2><ul>{items}</ul></section>'


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
    return _section("Gates", f'<ul class="gates">{"".join(items)}</ul>')


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
                graph_name(rows[0], report),
                figures.with_interval(rows[0]["metric"], rows[0]["metric_ci95"]),
                *(figures.milliseconds(at.get(batch)) for batch in batches),
                figures.size(rows[0]["model_bytes"]),
            ]
        )
    return _table(["student", f"{metric} [95 %]", *(f"p50\u00a0ms\u00a0@{b}" for b in batches), "model"], lines)


def _all_figures(report: Report) -> str:
    """One line per row of the report."""
    rows = (row for rows in by_graph(report["results"]) for row in rows)
    lines = ([graph_name(row, report), *(cell(row) for cell in COLUMNS.values())] for row in rows)
    return _table(["student", *COLUMNS], lines)


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


def _facts(facts: dict[str, str]) -> str:
    items = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items())
    return f"<dl>{items}</dl>"


def _figure(picture: str | None, otherwise: str) -> str:
    return f"<figure>{picture}</figure>" if picture else f"<p>{escape(otherwise)}</p>"


def _table(head: Iterable[str], lines: Iterable[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"
