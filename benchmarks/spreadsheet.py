"""A report's rows as CSV, for spreadsheets: one line per row, one column per figure; what was not measured is empty."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from edge.benchmarks.report import Report, Row

TIMES = ("p50", "p90", "p95", "p99", "p99.9", "mean", "cv", "n")
PLAIN = ("throughput_per_s", "energy_mj", "model_bytes", "peak_rss_mb", "throttled", "other_load")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins with one of these is executed by a spreadsheet


def report_csv(report: Report) -> str:
    """`results` as CSV (RFC 4180, UTF-8), the units in the columns' names."""
    lines = [_line(row, report) for row in report["results"]]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else ["method"])
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _line(row: Row, report: Report) -> dict[str, Any]:
    names = {key: row.get(key) for key in ("method", "precision", "modality", "engine")}
    latency, alone = row["latency_ms"], row.get("engine_ms") or {}
    interval = {name: (latency.get("ci95") or {}).get(name) for name in ("p50", "p99")}
    line = {"dataset": _text(report["dataset"]), "cpu": _text(report["machine"]["cpu"]), "created": report["created"]}
    line |= {key: _text(value) for key, value in names.items()}
    line |= {key: row[key] for key in ("threads", "batch")}
    line |= {f"latency_ms.{name}": latency.get(name) for name in TIMES}
    for name, ends in interval.items():
        line |= _ends(f"latency_ms.{name}", ends)
    line |= {f"engine_ms.{name}": alone.get(name) for name in ("p50", "p99")}
    line |= {f"metric.{report['metric']['name']}": row["metric"]}
    line |= _ends("metric", row["metric_ci95"])
    return line | {key: row.get(key) for key in PLAIN}


def _ends(name: str, interval: Sequence[float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}.ci95_low": low, f"{name}.ci95_high": high}


def _text(value: Any) -> Any:
    """Names come from files of others: none of them may become a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
