"""What INT8 and co-learning brought, in a few numbers: ratios within one report, where both sides were measured."""

from dataclasses import dataclass
from typing import Any

from edge.benchmarks import figures
from edge.benchmarks.report import Report, Row

SINGLE = ("single", "single-matched")


@dataclass(frozen=True)
class Headline:
    """One number and what it says."""

    value: str
    text: str


def headlines(report: Report) -> list[Headline]:
    """The numbers to show first, of each modality on the first engine; fewer where rows or figures are missing."""
    rows = report["results"]
    modalities = list(dict.fromkeys(row.get("modality") for row in rows))
    metric, found = figures.metric_name(report["metric"]["name"]), []
    for modality in modalities:
        prefix = f"{modality}: " if len(modalities) > 1 else ""
        found += _of_one([row for row in rows if row.get("modality") == modality], metric, prefix)
    return found


def _of_one(rows: list[Row], metric: str, prefix: str) -> list[Headline]:
    """The numbers of one modality."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    ours = next((method for method in methods if method not in SINGLE), methods[0] if methods else "")
    batches = sorted({row["batch"] for row in rows})
    found = []
    for batch in dict.fromkeys(batches[:1] + batches[-1:]):
        ratio = speedup(rows, ours, batch)
        if ratio is not None:
            found.append(Headline(f"{figures.significant(ratio, 2)} ×", f"{prefix}as fast as FP32 at batch {batch}"))
    fp32, int8 = (_row(rows, ours, precision) for precision in ("fp32", "int8"))
    if fp32 and int8:
        if None not in (fp32["metric"], int8["metric"]):
            change = _signed(int8["metric"] - fp32["metric"])
            found.append(Headline(change, f"{prefix}{metric}, INT8 against FP32 ({int8['metric']:.3f})"))
        if fp32["model_bytes"] and int8["model_bytes"]:
            share, size = int8["model_bytes"] / fp32["model_bytes"], figures.size(int8["model_bytes"])
            found.append(Headline(f"{100 * share:.0f} %", f"{prefix}of FP32's size ({size})"))
    single = _row(rows, "single", "fp32")
    if single and fp32 and single is not fp32 and None not in (single["metric"], fp32["metric"]):
        change = _signed(fp32["metric"] - single["metric"])
        found.append(Headline(change, f"{prefix}{metric}, {ours} against single ({single['metric']:.3f}), both FP32"))
    return found


def speedup(rows: list[Row], method: str, batch: int) -> float | None:
    """Median latency of FP32 over that of INT8, from rows that were measured together; None if one is missing."""
    fp32, int8 = (_row(rows, method, precision, batch) for precision in ("fp32", "int8"))
    if fp32 is None or int8 is None:
        return None
    slow, fast = fp32["latency_ms"]["p50"], int8["latency_ms"]["p50"]
    return float(slow / fast) if slow and fast else None


def _row(rows: list[Row], method: str, precision: str, batch: int | None = None) -> dict[str, Any] | None:
    fitting = (row for row in rows if row["method"] == method and row["precision"] == precision)
    return next((row for row in fitting if batch is None or row["batch"] == batch), None)


def _signed(change: float) -> str:
    return f"{round(change, 3) + 0.0:+.3f}".replace("-", "−")  # + 0.0: no minus before zero
