"""Two reports side by side, and conditions on what changed: a gate for CI.

A condition is `QUANTITY`, `>` or `<`, and a change from the first report to the second:

    p99>+5%         p99 latency rose by more than 5 %
    metric<-0.5     the metric fell by more than 0.5 points; a point is a hundredth: 0.820 -> 0.814 is -0.6
    size>+1000      the model grew by more than 1000 bytes

With `%` the change is relative; without, it is in the quantity's unit: milliseconds, points, samples per second, mJ,
bytes, MiB. A condition holds if it holds for any pair of rows. A gate must not pass unseen: where the second report
lacks a row or a figure that the first one has, the condition counts as failed; where only the first one lacks it, that
is said.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge.benchmarks import figures
from edge.benchmarks.report import Report, Row, columns, graph_key, run_name
from edge.errors import InputError

POINTS = 100  # per 1 of a metric
QUANTITIES: dict[str, Callable[[Row], float | None]] = {
    "p50": lambda row: row["latency_ms"]["p50"],
    "p90": lambda row: row["latency_ms"]["p90"],
    "p99": lambda row: row["latency_ms"]["p99"],
    "mean": lambda row: row["latency_ms"]["mean"],
    "throughput": lambda row: row["throughput_per_s"],
    "metric": lambda row: None if row["metric"] is None else POINTS * row["metric"],
    "energy": lambda row: row["energy_mj"],
    "size": lambda row: row["model_bytes"],
    "memory": lambda row: row["peak_rss_mb"],
}
Interval = list[float] | None
_CONDITION = re.compile(r"\s*(\w+)\s*([<>])\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*(%?)\s*")


@dataclass(frozen=True)
class Condition:
    """`text` as the user wrote it, parsed."""

    text: str
    quantity: str
    above: bool
    bound: float
    relative: bool

    def holds(self, change: "Change") -> bool | None:
        """Whether the change is beyond the bound; None where it is not known."""
        value = change.percent if self.relative else change.absolute
        return None if value is None else value > self.bound if self.above else value < self.bound


@dataclass(frozen=True)
class Change:
    """One quantity of a pair of rows."""

    before: float | None
    after: float | None
    before_ci95: Interval = None
    after_ci95: Interval = None

    @property
    def interval(self) -> Interval:
        """What the change can be if both values are anywhere in their 95 % intervals: wider than 95 %, never less."""
        if self.before_ci95 is None or self.after_ci95 is None:
            return None
        return [self.after_ci95[0] - self.before_ci95[1], self.after_ci95[1] - self.before_ci95[0]]

    @property
    def percent_interval(self) -> Interval:
        """`interval` of the first value."""
        if self.interval is None or not self.before:
            return None
        return [100 * end / abs(self.before) for end in self.interval]

    @property
    def absolute(self) -> float | None:
        """In the quantity's unit."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def percent(self) -> float | None:
        """Of the first; None from 0 to anything else."""
        if self.absolute == 0:
            return 0.0
        return None if self.absolute is None or not self.before else 100 * self.absolute / abs(self.before)

    def to_json(self) -> dict[str, Any]:
        """The entry in the comparison's JSON."""
        return {
            "before": self.before, "after": self.after, "absolute": self.absolute, "percent": self.percent,
            "before_ci95": self.before_ci95, "after_ci95": self.after_ci95, "interval": self.interval,
        }  # fmt: skip


def parse_condition(text: str) -> Condition:
    """The condition in `text`; InputError shows the form."""
    match = _CONDITION.fullmatch(text)
    if match is None or match[1] not in QUANTITIES:
        raise InputError(
            f"the condition {text!r} is not understood; write QUANTITY>CHANGE or QUANTITY<CHANGE, "
            f"like 'p99>+5%' or 'metric<-0.5', with one of {', '.join(QUANTITIES)}"
        )
    return Condition(text, match[1], match[2] == ">", float(match[3]), bool(match[4]))


def compare(before: Report, after: Report, conditions: Sequence[Condition] = ()) -> dict[str, Any]:
    """What changed: `rows` with one change per quantity, rows of one report only, what to mind, conditions that hold.

    Rows fit when method, precision, modality, engine, threads and batch size are the same. InputError: different
    metrics, no row that fits, or a condition on figures that no pair of rows has: a gate must not pass unseen.
    """
    if before["metric"] != after["metric"]:
        names = before["metric"]["name"], after["metric"]["name"]
        raise InputError(f"the reports cannot be compared: the first measures {names[0]}, the second {names[1]}")
    first, second = (_rows_by_key(report) for report in (before, after))
    both = [key for key in first if key in second]
    if not both:
        raise InputError(
            "the reports have no row in common (same method, precision, modality, engine, threads, batch): "
            f"the first has {_some(first)}; the second {_some(second)}"
        )
    rows = []
    for key in both:
        changes = {name: _change(name, first[key], second[key]) for name in QUANTITIES}
        rows.append({"name": run_name(first[key], before), "row": first[key], "after": second[key], "changes": changes})
    gone = [_name(key) for key in first if key not in second]
    verdicts = [_verdict(condition, rows) for condition in conditions]
    failed = [said for found, _ in verdicts for said in found]
    if conditions:
        failed += [f"B has no row to check: {name}" for name in gone]
    return {
        "metric": before["metric"],
        "rows": rows,
        "only_before": gone,
        "only_after": [_name(key) for key in second if key not in first],
        "warnings": _differences(before, after) + [said for _, found in verdicts for said in found],
        "failed": failed,
    }


def comparison_json(comparison: dict[str, Any]) -> dict[str, Any]:
    """The comparison as one JSON document."""
    rows = [
        {key: row["row"].get(key) for key in ("method", "precision", "modality", "engine", "threads", "batch")}
        | {name: change.to_json() for name, change in row["changes"].items()}
        for row in comparison["rows"]
    ]
    return comparison | {"schema": "edge.compare/1", "rows": rows}


def comparison_table(comparison: dict[str, Any]) -> str:
    """Text for a terminal."""
    return columns(comparison_lines(comparison), left=1)


def comparison_lines(comparison: dict[str, Any]) -> list[list[str]]:
    """Cells, the first line the head: one line per pair, `before → after (change [interval])`."""
    metric = figures.metric_name(comparison["metric"]["name"])
    lines = [["student", "batch", "p50 ms", "p99 ms", f"{metric} [95 %]", "points", "model"]]
    for row in comparison["rows"]:
        changes, before, after = row["changes"], row["row"], row["after"]
        points = changes["metric"].absolute
        lines.append(
            [
                row["name"],
                str(before["batch"]),
                _arrow(changes["p50"], figures.milliseconds),
                _arrow(changes["p99"], figures.milliseconds),
                f"{_measured(before)} → {_measured(after)}",
                figures.NOT_MEASURED if points is None else f"{points:+.2f}{_between(changes['metric'].interval)}",
                _arrow(changes["size"], figures.size),
            ]
        )
    return lines


def _change(name: str, before: Row, after: Row) -> Change:
    value = QUANTITIES[name]
    return Change(value(before), value(after), _interval(name, before), _interval(name, after))


def _interval(name: str, row: Row) -> Interval:
    """The quantity's 95 % interval, in its unit; None for those that have none."""
    if name == "metric":
        return None if row["metric_ci95"] is None else [POINTS * end for end in row["metric_ci95"]]
    interval: Interval = (row["latency_ms"].get("ci95") or {}).get(name)
    return interval


def _measured(row: Row) -> str:
    return figures.with_interval(row["metric"], row["metric_ci95"])


def _arrow(change: Change, said: Callable[[Any], str]) -> str:
    text = f"{said(change.before)} → {said(change.after)}"
    if change.percent is None:
        return text
    return f"{text} ({change.percent:+.1f} %{_between(change.percent_interval)})"


def _between(interval: Interval) -> str:
    return "" if interval is None else f" [{interval[0]:+.1f}, {interval[1]:+.1f}]"


def _rows_by_key(report: Report) -> dict[tuple[Any, ...], Row]:
    """Rows by what they measured; a report of one modality may leave it out of its rows."""
    return {(*graph_key({"modality": report["modality"]} | row), row["batch"]): row for row in report["results"]}


def _name(key: tuple[Any, ...]) -> str:
    method, precision, modality, engine, threads, batch = key
    return f"{modality} {method} {precision} on {engine}, {threads} threads, batch {batch}"


def _some(rows: dict[tuple[Any, ...], Row]) -> str:
    return "; ".join(_name(key) for key in list(rows)[:3]) or "none"


def _verdict(condition: Condition, rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Sentences for the pairs of rows for which the condition holds or B lacks the figure; for those A lacks it in."""
    held = [(row, condition.holds(row["changes"][condition.quantity])) for row in rows]
    if all(found is None for _, found in held):
        raise InputError(
            f"the condition {condition.text!r} cannot be checked: no pair of rows has {condition.quantity} in both"
        )
    failed, unknown = [], []
    for row, found in held:
        change, where = row["changes"][condition.quantity], f"{row['name']} at batch {row['row']['batch']}"
        if found:
            size = f"{change.percent:+.1f} %" if condition.relative else f"{change.absolute:+.4g}"
            failed.append(f"{condition.text}: {where} changed by {size}")
        elif found is None and change.before is None:
            unknown.append(f"{condition.text} was not checked for {where}: A has no {condition.quantity}.")
        elif found is None and change.after is None:
            failed.append(f"{condition.text}: {where} has no {condition.quantity} in B, A has {change.before:.4g}")
        elif found is None:
            failed.append(f"{condition.text}: {where} rose from 0, of which no percentage can be told")
    return failed, unknown


def _differences(before: Report, after: Report) -> list[str]:
    """What makes the comparison one of two things at once."""
    pairs = {
        "data set": (before["dataset"], after["dataset"]),
        "protocol": (before["protocol"], after["protocol"]),
        "processor": (before["machine"]["cpu"], after["machine"]["cpu"]),
        "power mode": (before["machine"]["power_mode"], after["machine"]["power_mode"]),
    }
    return [f"The {what} differs: {a} and {b}." for what, (a, b) in pairs.items() if a != b]
