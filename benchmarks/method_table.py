"""The table of a comparison of methods, from a summary (train/summary.py): for a terminal and for Markdown."""

from typing import Any

from edge.benchmarks.figures import NOT_MEASURED, metric_name
from edge.benchmarks.report import columns
from edge.benchmarks.sections import markdown_table

Summary = dict[str, Any]
# The metric beside the main one.
SECOND = {"binary": "f1_macro", "multiclass": "f1_macro", "multilabel": "f1_micro", "regression": "rmse"}
PROTOCOLS = {
    "grouped": "grouped folds: no site, field or scene is in two of them",
    "random": "random folds: the same places are on several sides",
    "fixed": "the set's own split",
    "published": "PUBLISHED PROTOCOL: random folds, validation fold = test fold; every score is too good",
}
NO_GROUPS = "grouped folds, but the set names no groups: one place may be on several sides"
UNITS = {"fold": "folds' means over seeds", "fold x seed": "folds x seeds", "seed": "seeds of one split"}


def table(summary: Summary) -> str:
    """Aligned text."""
    return columns(_lines(summary), left=2)


def markdown(summary: Summary) -> str:
    """A Markdown table, method and modality to the left, figures to the right."""
    return markdown_table(_lines(summary), left=2)


def caption(summary: Summary) -> str:
    """What the figures are, in one paragraph; `published` says first that its scores are too good."""
    folds, seeds = len(summary["tested_folds"]), len(summary["seeds"])
    where = "" if summary["protocol"] == "fixed" else f"{folds} of {summary['folds']} folds x "
    unknown = summary["protocol"] == "grouped" and not summary["places_apart"]
    protocol = NO_GROUPS if unknown else PROTOCOLS[summary["protocol"]]
    parts = [f"{summary['data']}, {protocol}; test mean ± sd over {where}{seeds} seeds."]
    tests = [entry["against_reference"] for entry in summary["results"] if entry["against_reference"]]
    if tests and any(test["p"] is not None for test in tests):
        counts = sorted({test["n"] for test in tests})
        n = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        parts.append(
            f"Difference to {summary['reference']} [95 %] and p: {summary['test']}, n = {n} {UNITS[tests[0]['unit']]}; "
            "p paired t: the same without its correction for shared training samples."
        )
    if summary["failures"]:
        parts.append(f"{len(summary['failures'])} trainings failed and are left out.")
    return " ".join(parts)


def _lines(summary: Summary) -> list[list[str]]:
    first, second = summary["metric"]["name"], SECOND[summary["task"]["kind"]]
    unit = f" [{summary['task']['unit']}]" if second == "rmse" else ""
    head = ["method", "modality", "n", metric_name(first), f"{metric_name(second)}{unit}"]
    head += [f"− {summary['reference']}", "p", "p paired t"]
    return [head, *(_line(entry, first, second) for entry in summary["results"])]


def _line(entry: dict[str, Any], first: str, second: str) -> list[str]:
    test = entry["against_reference"]
    scores = [_score(entry["mean"].get(name), entry["sd"].get(name)) for name in (first, second)]
    tested = [_difference(test), _p(test["p"]), _p(test["p_uncorrected"])] if test else ["", "", ""]
    return [entry["method"], entry["modality"], str(entry["n"]), *scores, *tested]


def _score(mean: float | None, sd: float | None) -> str:
    if mean is None:
        return NOT_MEASURED
    digits = 3 if abs(mean) < 10 else 2
    return f"{mean:.{digits}f}" if sd is None else f"{mean:.{digits}f} ± {sd:.{digits}f}"


def _difference(test: dict[str, Any]) -> str:
    low, high = test["ci95"] or (None, None)
    return f"{test['difference']:+.3f}" if low is None else f"{test['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _p(value: float | None) -> str:
    return NOT_MEASURED if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
